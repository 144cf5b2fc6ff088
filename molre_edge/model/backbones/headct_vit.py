"""FM_HeadCT's 3D ViT (Nature Biomedical Engineering 2026, arXiv 2502.02779), from the layers that MONAI defines.

12 layers of width 768, patches of 12 x 12 x 12 voxels, a class token, fixed sine and cosine positions. The volume
feature is the normalised class token. FM_HeadCT turns scans to RAS, crops them to the head and stretches that to
96 x 96 x 96; our grid keeps proportions. Its weights are given on request only.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.options import Choice, Range, check_options
from molre_edge.model.backbones.published import check_published
from molre_edge.model.backbones.weights import load_published
from molre_edge.specs import HEAD_AXES, Grid

__all__ = ["HeadCTViTBackbone"]

_OPTIONS: dict[str, Range | Choice] = {
    "patch_size": Range(2, 64),
    "hidden_size": Range(12, 4096),
    "mlp_dim": Range(12, 32768),
    "num_layers": Range(1, 64),
    "num_heads": Range(1, 128),
}


class HeadCTViTBackbone(nn.Module):
    """Volumes [batch, channels, slices, rows, cols] -> class tokens [batch, d].

    Attributes:
        patch_embedding, cls_token, blocks, norm: as in MONAI's ``ViT``.
        settings: the arguments of MONAI's ``ViT`` that sizes depend on.
        embed_dim: d.
    """

    def __init__(self, grid: Grid, channels: int, settings: Mapping[str, Any]) -> None:
        """Build with random weights for volumes of the grid's size.

        Raises:
            ConfigError: grid or sizes that do not fit each other.
        """
        super().__init__()
        patch, width, heads = (settings[name] for name in ("patch_size", "hidden_size", "num_heads"))
        if any(size % patch for size in grid.shape):
            raise ConfigError(
                f"grid: expected slices, rows and cols in multiples of the patch size {patch}, "
                f"got {grid.slices} x {grid.rows} x {grid.cols}"
            )
        if grid.axes != HEAD_AXES:
            raise ConfigError(
                f"grid.axes: this backbone's weights are brought to {HEAD_AXES} when they are loaded, so it reads no "
                f"others, and got {grid.axes}; leave it out"
            )
        if width % heads or width % 6:
            raise ConfigError(
                f"backbone.options: expected hidden_size in multiples of num_heads ({heads}) and of 6, got {width}"
            )
        from monai.networks.nets.vit import ViT

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.meshgrid", category=UserWarning)
            vit = ViT(
                in_channels=channels,
                img_size=grid.shape,
                pos_embed_type="sincos",
                qkv_bias=True,
                classification=True,  # with a class token
                **settings,
            )
        self.patch_embedding, self.cls_token = vit.patch_embedding, vit.cls_token
        self.blocks, self.norm = vit.blocks, vit.norm
        block: Any
        for block in self.blocks:
            block.norm_cross_attn = nn.Identity()  # never used, and counted as a layer
            block.attn.use_flash_attention = True  # PyTorch's own attention, which the exporter knows as a whole
        self.settings = dict(settings)
        self.tokens = tuple(size // patch for size in grid.shape)
        self.embed_dim = int(width)

    def forward(self, volumes: Tensor) -> Tensor:
        """The class token after the last norm."""
        x = self.patch_embedding(volumes)  # [batch, patches, d]
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])  # type: ignore[no-any-return]


def _load(module: nn.Module, folder: Path) -> None:
    """Load weights in MONAI's layout, trained on RAS; see BackboneEntry.load.

    RAS is [to the right, to the front, upwards]; ours is [upwards, to the back, to the left]. So patches and positions
    are turned instead of each volume.
    """
    if not isinstance(module, HeadCTViTBackbone):
        raise TypeError(f"expected a HeadCTViTBackbone, got {type(module).__name__}")
    slices, rows, cols = module.tokens

    def turned(name: str, value: Tensor) -> Tensor:
        if name == "patch_embedding.patch_embeddings.weight" and value.dim() == 5:
            return value.permute(0, 1, 4, 3, 2).flip(3, 4).contiguous()
        if name == "patch_embedding.position_embeddings" and value.shape[1:2] == (slices * rows * cols,):
            return value.unflatten(1, (cols, rows, slices)).transpose(1, 3).flip(2, 3).flatten(1, 3)  # type: ignore[no-any-return]
        return value

    check_published(folder, module.settings)
    load_published(module, folder, change=turned)


def _entry(name: str, parameters: int | None, grid: Grid, adapted_layers: range, settings: Mapping[str, int]) -> None:
    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        return HeadCTViTBackbone(grid, channels, {**settings, **check_options(options, _OPTIONS)})

    register(
        BackboneEntry(
            id=name,
            dimensions=3,
            parameters=parameters,
            grid=grid,
            mean=(0.0,),
            std=(1.0,),
            adapted=tuple(f"blocks.{i}.attn.out_proj" for i in adapted_layers),
            build=build,
            load=_load,
            source="NYUMedML/headCT_foundation, its vit_HeadCT_cq500.yaml and src/data/transforms.py; MONAI ViT",
        )
    )


# The last layers are adapted: as many d x d projections as fit in 0.5 % with a router of hidden size 8 each.
_entry(
    "headct-vit3d",
    89_432_064,
    Grid(slices=96, rows=96, cols=96),
    range(7, 12),
    {"patch_size": 12, "hidden_size": 768, "mlp_dim": 3072, "num_layers": 12, "num_heads": 12},
)
_entry(
    "headct-vit3d-tiny",
    None,
    Grid(slices=16, rows=32, cols=32),
    range(1, 2),
    {"patch_size": 8, "hidden_size": 48, "mlp_dim": 96, "num_layers": 2, "num_heads": 4},
)
