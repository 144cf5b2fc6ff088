"""Small residual networks of ours, in 2D and 3D, for demos, tests and comparisons that must train on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molre_edge.errors import CheckpointError
from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.options import Range, check_options
from molre_edge.specs import Grid

__all__ = ["ConvNetBackbone"]

_OPTIONS = {"width": Range(4, 128), "blocks": Range(2, 6)}


class _Block(nn.Module):
    """Halves the image, and the slices too where `stride` says so; then adds a residual of two convolutions."""

    def __init__(self, channels_in: int, channels: int, dimensions: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        conv: Any = nn.Conv2d if dimensions == 2 else nn.Conv3d
        norm: Any = nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d
        self.down = conv(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.norm0 = norm(channels)
        self.conv1 = conv(channels, channels, 3, padding=1, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = conv(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm0(self.down(x)))
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(y)))


class ConvNetBackbone(nn.Module):
    """[units, channels, rows, cols] or [units, channels, slices, rows, cols] -> [units, 2 * width * 2^(blocks - 1)].

    The features are mean and maximum over all positions.

    Attributes:
        embed_dim: d.
    """

    def __init__(self, channels: int, dimensions: int, width: int, blocks: int) -> None:
        """Build with random weights."""
        super().__init__()
        widths = [width * 2**i for i in range(blocks)]
        # slices are far thicker than pixels: the first two blocks halve the image only
        strides = [(2, 2) if dimensions == 2 else (1 if i < 2 else 2, 2, 2) for i in range(blocks)]
        pairs = zip([channels, *widths[:-1]], widths, strides, strict=True)
        self.blocks = nn.ModuleList(_Block(a, b, dimensions, stride) for a, b, stride in pairs)
        self.embed_dim = 2 * widths[-1]
        self.norm = nn.BatchNorm1d(self.embed_dim)  # images of heads are alike: what differs must not be the small part

    def forward(self, images: Tensor) -> Tensor:
        """Features of each unit."""
        x = images
        for block in self.blocks:
            x = block(x)
        return self.summarise(x)

    def summarise(self, x: Tensor) -> Tensor:
        """Features of each unit from the last block's answer."""
        positions = tuple(range(2, x.dim()))
        features: Tensor = self.norm(torch.cat([x.mean(dim=positions), x.amax(dim=positions)], dim=1))
        return features


def _build(grid: Grid, channels: int, options: Mapping[str, Any], *, dimensions: int) -> nn.Module:
    values = {"width": 16, "blocks": 4, **check_options(options, _OPTIONS)}
    return ConvNetBackbone(channels, dimensions, values["width"], values["blocks"])


def _load(module: nn.Module, folder: Path) -> None:
    raise CheckpointError(
        f"{folder}: this backbone has no public weights; pretrain it with 'molre-edge train --train-backbone'"
    )


for _dimensions in (2, 3):
    register(
        BackboneEntry(
            id=f"convnet{_dimensions}d-small",
            dimensions=_dimensions,
            parameters=None,
            grid=Grid(slices=8 * (_dimensions - 1), rows=112, cols=112),
            mean=(0.5,),
            std=(0.25,),
            adapted=("blocks.2.conv2", "blocks.3.conv2"),
            build=partial(_build, dimensions=_dimensions),
            load=_load,
            source="this project",
        )
    )
