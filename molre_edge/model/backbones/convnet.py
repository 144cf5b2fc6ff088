"""A small 2D residual network of ours, for demos, tests and comparisons that must train on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.registry import BackboneEntry, register
from molre_edge.specs import Grid

__all__ = ["ConvNetBackbone"]


class _Block(nn.Module):
    """Halves the image, then adds a residual of two convolutions."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels_in, channels, 3, stride=2, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm0(self.down(x)))
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(y)))


class ConvNetBackbone(nn.Module):
    """Images [units, channels, rows, cols] -> [units, 2 * width * 2^(blocks - 1)]: mean and maximum over the image.

    Attributes:
        embed_dim: d.
    """

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        """Build with random weights."""
        super().__init__()
        widths = [width * 2**i for i in range(blocks)]
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in zip([channels, *widths[:-1]], widths, strict=True))
        self.embed_dim = 2 * widths[-1]
        self.norm = nn.BatchNorm1d(self.embed_dim)  # images of heads are alike: what differs must not be the small part

    def forward(self, images: Tensor) -> Tensor:
        """Features of each image."""
        x = images
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.norm(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        return features


def _build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
    known = {"width": (4, 128), "blocks": (2, 6)}
    values = {"width": 24, "blocks": 4, **options}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"backbone.options: unknown {name}; known are {', '.join(known)}")
        low, high = known[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"backbone.options.{name}: expected a whole number from {low} to {high}, got {value!r}")
    return ConvNetBackbone(channels, values["width"], values["blocks"])


def _load(module: nn.Module, folder: Path) -> None:
    raise CheckpointError(f"{folder}: convnet-small has no public weights; train it with --train-backbone")


register(
    BackboneEntry(
        id="convnet-small",
        dimensions=2,
        parameters=None,
        grid=Grid(slices=16, rows=128, cols=128),
        mean=(0.5,),
        std=(0.25,),
        adapted=("blocks.2.conv2", "blocks.3.conv2"),
        build=_build,
        load=_load,
        source="this project",
    )
)
