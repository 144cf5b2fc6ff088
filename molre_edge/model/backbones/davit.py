"""MedImageInsight's image encoder: a DaViT (arXiv 2204.03645), from the layers of transformers' Florence-2.

Four stages of depths 1, 1, 9, 1 and widths 256 to 2048; each block attends within windows of 12 x 12 positions, then
among the channels of a group. The slice feature is the normalised mean over positions, 2048 wide. MedImageInsight goes
on to project it to 1024 features that it shares with text; the head on top of it here is trained instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.options import Choice, Range, check_options
from molre_edge.model.backbones.published import check_published
from molre_edge.model.backbones.weights import load_published
from molre_edge.specs import Grid

__all__ = ["DaViTBackbone"]

_STRIDES = (4, 2, 2, 2)
_OPTIONS: dict[str, Range | Choice] = {
    "width": Range(8, 1024),
    "heads": Range(1, 64),
    "third_stage_depth": Range(1, 64),
    "window_size": Range(2, 32),
}


class DaViTBackbone(nn.Module):
    """Images [units, channels, rows, cols] -> slice features [units, d].

    Attributes:
        convs: patch embeddings, one a stage.
        blocks: lists of blocks, one a stage.
        settings: transformers' ``Florence2VisionConfig``.
        norms: the norm after the mean over positions, by its published name.
        embed_dim: d, eight times the first stage's width.
    """

    def __init__(self, grid: Grid, channels: int, settings: Mapping[str, Any]) -> None:
        """Build with random weights for slices of the grid's size.

        Raises:
            ConfigError: grid or sizes that do not fit each other.
        """
        super().__init__()
        width, heads = settings["width"], settings["heads"]
        if grid.rows % 32 or grid.cols % 32:
            raise ConfigError(f"grid: expected rows and cols in multiples of 32, got {grid.rows} x {grid.cols}")
        if width % heads:
            raise ConfigError(f"backbone.options: expected width in multiples of heads ({heads}), got {width}")
        from transformers import Florence2VisionConfig
        from transformers.models.florence2.modeling_florence2 import Florence2VisionBackbone

        config = Florence2VisionConfig(
            in_channels=channels,
            depths=(1, 1, settings["third_stage_depth"], 1),
            embed_dim=tuple(width * 2**i for i in range(4)),
            num_heads=tuple(heads * 2**i for i in range(4)),
            num_groups=tuple(heads * 2**i for i in range(4)),
            patch_stride=_STRIDES,
            window_size=settings["window_size"],
            drop_path_rate=0.0,  # regularisation of pretraining; a frozen backbone drops nothing
        )
        config._attn_implementation = "sdpa"
        self.settings = config
        tower = Florence2VisionBackbone(config)
        self.convs, self.blocks = tower.convs, tower.blocks
        rows, cols = grid.rows, grid.cols
        for stride, stage in zip(_STRIDES, self.blocks, strict=True):
            rows, cols = rows // stride, cols // stride
            for block in stage:
                spatial = block.spatial_block
                spatial.window_attn = _WindowAttention(spatial.window_attn, rows, cols)
        self.embed_dim = 8 * width
        self.norms = nn.LayerNorm(self.embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """The mean over positions, normalised."""
        x = images
        for conv, stage in zip(self.convs, self.blocks, strict=True):
            x = conv(x)
            for block in stage:
                x = block(x)
        return self.norms(x.flatten(2).mean(2))  # type: ignore[no-any-return]


class _WindowAttention(nn.Module):
    """Attention within windows whose projections see whole slices: [units, rows, cols, d] -> [units, rows * cols, d].

    As Florence-2's, in which the projections see one window at a time: an adapted one would route each window by
    itself. The grid is fixed, so that padding and windows are constants of the graph.
    """

    def __init__(self, published: Any, rows: int, cols: int) -> None:
        """Take over the projections of transformers' Florence2VisionWindowAttention for `rows` x `cols` positions."""
        super().__init__()
        self.qkv, self.proj = published.qkv, published.proj
        self.heads, self.size = int(published.num_heads), int(published.window_size)
        self.rows, self.cols = rows, cols
        self.down, self.across = -(-rows // self.size), -(-cols // self.size)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        size, down, across = self.size, self.down, self.across
        x = F.pad(x, (0, 0, 0, across * size - self.cols, 0, down * size - self.rows))
        x = self.qkv(x.flatten(1, 2))  # [units, positions, 3 d]: windows' borders are padded before the projection
        x = x.reshape(-1, down, size, across, size, 3, self.heads, x.shape[-1] // (3 * self.heads))
        q, k, v = x.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(5, 6).flatten(1, 3).unbind()  # [windows, heads, tokens, .]
        x = F.scaled_dot_product_attention(q, k, v)
        x = x.unflatten(2, (size, size)).unflatten(0, (-1, down, across))
        x = x.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4).flatten(1, 2)  # [units, rows, cols, d], padded
        return self.proj(x[:, : self.rows, : self.cols].flatten(1, 2))  # type: ignore[no-any-return]


def _their_name(name: str) -> str:
    """A weight's name in MedImageInsight's file, after the prefix ``image_encoder.``."""
    for ours, theirs in (
        (".conv.", ".proj."),
        (".spatial_block.norm1.", ".spatial_block.window_attn.norm."),
        (".channel_block.norm1.", ".channel_block.channel_attn.norm."),
        (".norm2.", ".ffn.norm."),
        (".conv1.", ".conv1.fn.dw."),
        (".conv2.", ".conv2.fn.dw."),
        ("_attn.qkv.", "_attn.fn.qkv."),
        ("_attn.proj.", "_attn.fn.proj."),
        (".ffn.fc", ".ffn.fn.net.fc"),
    ):
        name = name.replace(ours, theirs)
    return name


def _load(module: nn.Module, folder: Path) -> None:
    """Load MedImageInsight's vision model, a safetensors file; see BackboneEntry.load."""
    if not isinstance(module, DaViTBackbone):
        raise TypeError(f"expected a DaViTBackbone, got {type(module).__name__}")
    names = ("depths", "embed_dim", "num_heads", "num_groups", "window_size", "patch_stride", "activation_function")
    check_published(folder, {name: getattr(module.settings, name) for name in names})
    load_published(module, folder, their_name=_their_name)


def _entry(name: str, parameters: int | None, grid: Grid, adapted: tuple[str, ...], **settings: int) -> None:
    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        return DaViTBackbone(grid, channels, {**settings, **check_options(options, _OPTIONS)})

    register(
        BackboneEntry(
            id=name,
            dimensions=2,
            parameters=parameters,
            grid=grid,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            adapted=adapted,
            build=build,
            load=_load,
            source="YalaLab/rate-evals, rate_eval/models/medimageinsight.py; transformers Florence2VisionBackbone",
        )
    )


_FULL = {"width": 256, "heads": 8, "third_stage_depth": 9, "window_size": 12}
_TINY = {"width": 16, "heads": 2, "third_stage_depth": 2, "window_size": 3}

# The last blocks are adapted: as many attentions' output projections, spatial and of channels, as fit in 0.5 % with a
# router of hidden size 8 a block.
_LAST = (*(f"blocks.2.{i}.*_attn.proj" for i in range(3, 9)), "blocks.3.0.*_attn.proj")
_entry("davit-medimageinsight", 360_636_416, Grid(slices=32, rows=480, cols=480), _LAST, **_FULL)
_entry("davit-tiny", None, Grid(slices=4, rows=64, cols=64), ("blocks.2.1.*_attn.proj",), **_TINY)
