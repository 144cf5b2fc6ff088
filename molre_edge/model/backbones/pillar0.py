"""A stand-in for Pillar0-HeadCT (arXiv 2511.17803): multi-scale attention over a volume with eleven windows.

Pillar-0's weights and the code of its 3D encoder are gated, and its exact windows are not public. Known are its input
(11 windows of 128 x 256 x 256 voxels), about 43 million parameters, a feature of 1,152 numbers, and the idea: tokens
attend within windows, and windows hear of each other through coarser scales. This is that idea in plain code, of that
size, with two scales. Its answers say nothing about Pillar-0's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.options import Choice, Range, check_options
from molre_edge.specs import Grid

__all__ = ["Pillar0StandIn"]

_OPTIONS: dict[str, Range | Choice] = {
    "patch_size": Range(2, 32),
    "width": Range(16, 2048),
    "heads": Range(1, 64),
    "depth": Range(1, 32),
    "pool": Range(2, 8),
    "window": Range(1, 8),
}

_Axes = tuple[int, int, int]

_WINDOWS = (
    (40.0, 80.0),  # brain
    (80.0, 200.0),  # blood along the skull
    (600.0, 2800.0),  # bone
    (35.0, 30.0),  # grey against white matter
    (40.0, 40.0),  # early ischemia
    (40.0, 150.0),  # posterior fossa, between streaks
    (50.0, 350.0),  # soft tissue
    (100.0, 700.0),  # vessels, calcification
    (1500.0, 3000.0),  # dense bone, metal
    (-100.0, 200.0),  # fat
    (-600.0, 1500.0),  # air, sinuses
)
"""(centre, width) in HU. Ours: eleven that head CT is read with, since Pillar-0's own are not public."""


class Pillar0StandIn(nn.Module):
    """Volumes [batch, channels, slices, rows, cols] -> volume features [batch, 2 d], d of each scale.

    Attributes:
        embed: patches of `patch_size` voxels a side.
        fine_position, coarse_position: learned, one vector a slice, a row and a column of tokens.
        blocks: attention at both scales, one after the other.
        norms: of the fine and of the coarse scale, before the mean over tokens.
        embed_dim: 2 d.
    """

    def __init__(self, grid: Grid, channels: int, settings: Mapping[str, int]) -> None:
        """Build with random weights for volumes of the grid's size.

        Raises:
            ConfigError: grid or sizes that do not fit each other.
        """
        super().__init__()
        patch, pool, window = settings["patch_size"], settings["pool"], settings["window"]
        width, heads = settings["width"], settings["heads"]
        side = patch * pool * window
        if any(size % side for size in grid.shape):
            raise ConfigError(
                f"grid: expected slices, rows and cols in multiples of patch_size * pool * window ({side}), "
                f"got {grid.slices} x {grid.rows} x {grid.cols}"
            )
        if width % heads:
            raise ConfigError(f"backbone.options: expected width in multiples of heads ({heads}), got {width}")
        slices, rows, cols = (size // patch for size in grid.shape)
        self.fine = slices, rows, cols
        self.coarse = slices // pool, rows // pool, cols // pool
        self.pool = pool
        self.embed = nn.Conv3d(channels, width, patch, patch)
        self.fine_position, self.coarse_position = _Position(width, self.fine), _Position(width, self.coarse)
        self.blocks = nn.ModuleList(
            _CrossScaleBlock(width, heads, self.fine, self.coarse, pool, window) for _ in range(settings["depth"])
        )
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.embed_dim = 2 * width

    def forward(self, volumes: Tensor) -> Tensor:
        """Both scales' normalised tokens, averaged and side by side."""
        x = self.embed(volumes)
        fine, coarse = self.fine_position(x), self.coarse_position(F.avg_pool3d(x, self.pool))
        scales = fine.flatten(2).transpose(1, 2), coarse.flatten(2).transpose(1, 2)  # [batch, tokens, d]
        for block in self.blocks:
            scales = block(*scales)
        return torch.cat([norm(x).mean(1) for norm, x in zip(self.norms, scales, strict=True)], dim=1)


class _Position(nn.Module):
    """Adds what is learned of each slice, row and column of tokens: [batch, d, slices, rows, cols] -> the same."""

    def __init__(self, width: int, grid: _Axes) -> None:
        super().__init__()
        slices, rows, cols = grid
        self.slices = nn.Parameter(0.02 * torch.randn(1, width, slices, 1, 1))
        self.rows = nn.Parameter(0.02 * torch.randn(1, width, 1, rows, 1))
        self.cols = nn.Parameter(0.02 * torch.randn(1, width, 1, 1, cols))

    def forward(self, x: Tensor) -> Tensor:
        """Add them."""
        return x + (self.slices + self.rows + self.cols)


class _CrossScaleBlock(nn.Module):
    """Coarse tokens attend to each other and to the fine ones' means; fine ones to their window and to all coarse."""

    def __init__(self, width: int, heads: int, fine: _Axes, coarse: _Axes, pool: int, window: int) -> None:
        super().__init__()
        self.down = _Layer(width, heads, coarse, coarse)
        side = pool * window
        self.up = _Layer(width, heads, fine, (side, side, side))
        self.fine, self.pool = fine, pool

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, fine tokens, d] and [batch, coarse tokens, d] -> the same."""
        means = F.avg_pool3d(fine.transpose(1, 2).unflatten(2, self.fine), self.pool).flatten(2).transpose(1, 2)
        coarse = self.down(coarse, means)
        return self.up(fine, coarse), coarse


class _Layer(nn.Module):
    """A transformer layer: attention to one's own window and to all tokens of another scale, then a perceptron."""

    def __init__(self, width: int, heads: int, grid: _Axes, window: _Axes) -> None:
        super().__init__()
        self.attention = _WindowAttention(width, heads, grid, window)
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """[batch, own tokens, d], [batch, other tokens, d] -> [batch, own tokens, d]."""
        own = own + self.attention(own, other)
        return own + self.fc2(F.gelu(self.fc1(self.norm(own))))  # type: ignore[no-any-return]


class _WindowAttention(nn.Module):
    """Own tokens attend to those of their window and to all of the other scale.

    The projections see whole volumes, [batch, tokens, d], so that any of them can be adapted and routed by volume.
    """

    def __init__(self, width: int, heads: int, grid: _Axes, window: _Axes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.heads, self.window = heads, window
        self.count = tuple(size // side for size, side in zip(grid, window, strict=True))

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """[batch, own tokens, d], [batch, other tokens, d] -> [batch, own tokens, d]."""
        tokens, windows = own.shape[1], self.count[0] * self.count[1] * self.count[2]
        x = self.norm(torch.cat([own, other], dim=1))
        q = self._split(self.query(x[:, :tokens]))
        kv_own, kv_other = self.key_value(x).split([tokens, other.shape[1]], dim=1)
        kv_other = kv_other.unsqueeze(1).expand(-1, windows, -1, -1).flatten(0, 1)
        kv = torch.cat([self._split(kv_own), kv_other], dim=1)  # [batch * windows, tokens in a window + other's, 2 d]
        q = q.unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = kv.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        x = F.scaled_dot_product_attention(q, k, v)  # [batch * windows, heads, tokens in a window, d / heads]
        return self.proj(self._join(x.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        """[batch, tokens, .] -> [batch * windows, tokens in a window, .]."""
        (a, b, c), (i, j, k) = self.count, self.window
        return x.unflatten(1, (a, i, b, j, c, k)).permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(0, 3)  # type: ignore[no-any-return]

    def _join(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`_split`."""
        x = x.unflatten(1, self.window).unflatten(0, (-1, *self.count))
        return x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 6)


def _load(module: nn.Module, folder: Path) -> None:
    raise CheckpointError(
        f"{folder}: pillar0-standin takes no published weights; store the backbone's own in the checkpoint"
    )


def _entry(
    name: str, parameters: int | None, grid: Grid, adapted: tuple[str, ...], settings: Mapping[str, int]
) -> None:
    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        return Pillar0StandIn(grid, channels, {**settings, **check_options(options, _OPTIONS)})

    register(
        BackboneEntry(
            id=name,
            dimensions=3,
            parameters=parameters,
            grid=grid,
            mean=(0.0,),  # rate-evals normalises no further than windows do
            std=(1.0,),
            adapted=adapted,
            build=build,
            load=_load,
            source="ours: a stand-in for Pillar0-HeadCT, after its paper and YalaLab/atlas; grid of YalaLab/rate-evals",
            windows=_WINDOWS,
        )
    )


# The last fine attentions are adapted: as many as fit in 0.5 % with a router of hidden size 8 each.
_entry(
    "pillar0-standin",
    43_192_512,
    Grid(slices=128, rows=256, cols=256),
    tuple(f"blocks.{i}.up.attention.proj" for i in (2, 3, 4)),
    {"patch_size": 8, "width": 576, "heads": 9, "depth": 5, "pool": 4, "window": 2},
)
_entry(
    "pillar0-tiny",
    None,
    Grid(slices=8, rows=32, cols=32),
    ("blocks.1.up.attention.proj",),
    {"patch_size": 4, "width": 32, "heads": 2, "depth": 2, "pool": 2, "window": 1},
)
