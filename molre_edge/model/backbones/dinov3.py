"""DINOv3 ViT (facebookresearch/dinov3), from the layers that transformers defines.

Shapes as in ``dinov3/hub/backbones.py``: patch 16, head size 64, RoPE base 100, LayerScale, 4 register tokens, no bias
in the key projection. The slice feature is the normalised class token.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.options import Choice, Range, check_options
from molre_edge.model.backbones.published import check_published
from molre_edge.model.backbones.weights import as_floats, published_tensors
from molre_edge.specs import Grid

__all__ = ["DINOv3Backbone"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_COMMON: dict[str, Any] = {
    "patch_size": 16,
    "num_register_tokens": 4,
    "rope_theta": 100.0,
    "layerscale_value": 1.0,
    "key_bias": False,
    "pos_embed_rescale": None,  # an augmentation of pretraining; a frozen backbone sees one geometry
}
_FLAG = Choice((True, False))
_OPTIONS: dict[str, Range | Choice] = {
    "patch_size": Range(8, 64),
    "hidden_size": Range(16, 8192),
    "intermediate_size": Range(16, 65536),
    "num_hidden_layers": Range(1, 128),
    "num_attention_heads": Range(1, 256),
    "num_register_tokens": Range(0, 64),
    "rope_theta": Range(1.0, 1e6),
    "layerscale_value": Range(0.0, 10.0),
    "layer_norm_eps": Range(1e-12, 1e-2),
    "hidden_act": Choice(("gelu", "silu")),
    "use_gated_mlp": _FLAG,
    "query_bias": _FLAG,
    "key_bias": _FLAG,
    "value_bias": _FLAG,
    "proj_bias": _FLAG,
    "mlp_bias": _FLAG,
}
_MAX_HEAD_SIZE = 256  # keeps RoPE's constants small on the largest grid

# What a published config.json must say as the checkpoint's backbone does; biases show in the weights' names.
_SAME_AS_PUBLISHED = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size",
    "num_register_tokens", "use_gated_mlp", "hidden_act", "rope_theta", "layer_norm_eps",
)  # fmt: skip


class _FixedRope(nn.Module):
    """RoPE's cosines and sines as constants: the grid is fixed, and a graph without their computation has no If."""

    cos: Tensor
    sin: Tensor

    def __init__(self, rope: nn.Module, rows: int, cols: int) -> None:
        super().__init__()
        cos, sin = rope.eval()(torch.empty(1, 3, rows, cols))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return self.cos.to(dtype), self.sin.to(dtype)


class DINOv3Backbone(nn.Module):
    """Images [units, channels, rows, cols] -> class tokens [units, d].

    The parts are transformers' own; their names are those of the published safetensors files
    (``layer.0.attention.q_proj.weight``), so that checkpoints do not depend on where a version of transformers keeps
    its layers.

    Attributes:
        embeddings: patches, class token and register tokens.
        rope_embeddings: constants.
        layer: the blocks.
        norm: the last norm.
        settings: transformers' ``DINOv3ViTConfig``.
        embed_dim: d.
    """

    def __init__(self, grid: Grid, channels: int, settings: Mapping[str, Any]) -> None:
        """Build with random weights for slices of the grid's size.

        Raises:
            ConfigError: grid or sizes that do not fit each other.
        """
        super().__init__()
        patch, width, heads = (settings[name] for name in ("patch_size", "hidden_size", "num_attention_heads"))
        if grid.rows % patch or grid.cols % patch:
            raise ConfigError(
                f"grid: expected rows and cols in multiples of the patch size {patch}, got {grid.rows} x {grid.cols}"
            )
        if width % (4 * heads) or width // heads > _MAX_HEAD_SIZE:
            raise ConfigError(
                f"backbone.options: expected hidden_size in multiples of 4 * num_attention_heads ({4 * heads}) and at "
                f"most {_MAX_HEAD_SIZE} a head, got {width}"
            )
        from transformers import DINOv3ViTConfig, DINOv3ViTModel

        config = DINOv3ViTConfig(**settings, num_channels=channels, image_size=(grid.rows, grid.cols))
        config._attn_implementation = "sdpa"
        vit = DINOv3ViTModel(config)
        self.settings = config
        self.embeddings = vit.embeddings
        self.rope_embeddings = _FixedRope(vit.rope_embeddings, grid.rows, grid.cols)
        self.layer = vit.model.layer
        self.norm = vit.norm
        self.embed_dim = int(config.hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        """The class token after the last norm."""
        # transformers' own embedding reads the patch projection's weight, which an adapted one has not
        patches = self.embeddings.patch_embeddings(images).flatten(2).transpose(1, 2)  # [units, patches, d]
        first = torch.cat([self.embeddings.cls_token, self.embeddings.register_tokens], dim=1)
        x = torch.cat([first.expand(images.shape[0], -1, -1), patches], dim=1)
        rope = self.rope_embeddings(x.dtype)
        for layer in self.layer:
            x = layer(x, position_embeddings=rope)
        return self.norm(x[:, 0])  # type: ignore[no-any-return]


def _load(module: nn.Module, folder: Path) -> None:
    """Load a Hugging Face folder into a built backbone; see BackboneEntry.load."""
    if not isinstance(module, DINOv3Backbone):
        raise TypeError(f"expected a DINOv3Backbone, got {type(module).__name__}")
    from transformers import DINOv3ViTConfig

    check_published(
        folder,
        {name: getattr(module.settings, name) for name in _SAME_AS_PUBLISHED},
        defaults=DINOv3ViTConfig().to_dict(),
        model_types=(DINOv3ViTConfig.model_type,),
        required=True,
    )
    published = published_tensors(folder, pickled=False)
    # some versions of transformers stored RoPE's frequencies, which follow from the configuration
    published = {name: value for name, value in published.items() if not name.startswith("rope_embeddings.")}
    wanted = module.state_dict()
    missing, surplus = sorted(set(wanted) - set(published)), sorted(set(published) - set(wanted))
    if missing or surplus:
        raise CheckpointError(
            f"{folder}: its weight files hold other weights than this backbone has: {len(missing)} missing "
            f"({', '.join(missing[:3]) or 'none'}), {len(surplus)} unknown ({', '.join(surplus[:3]) or 'none'}); "
            f"expected the layout of the published DINOv3 ViT (layer.0.attention.q_proj.weight and so on)"
        )
    for name, value in published.items():
        if value.shape != wanted[name].shape:
            raise CheckpointError(
                f"{folder}: {name}: expected shape {tuple(wanted[name].shape)}, got {tuple(value.shape)}; published "
                f"weights fit the published sizes and three windows"
            )
    values = {name: as_floats(folder, name, value) for name, value in published.items()}
    module.load_state_dict(values, assign=True)


def _entry(name: str, parameters: int | None, grid: Grid, adapted_layers: range, **shape: int) -> None:
    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        return DINOv3Backbone(grid, channels, {**_COMMON, **shape, **check_options(options, _OPTIONS)})

    register(
        BackboneEntry(
            id=name,
            dimensions=2,
            parameters=parameters,
            grid=grid,
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            adapted=tuple(f"layer.{i}.attention.o_proj" for i in adapted_layers),
            build=build,
            load=_load,
            source="facebookresearch/dinov3, dinov3/hub/backbones.py; transformers DINOv3ViTModel",
        )
    )


def _shape(layers: int, width: int) -> dict[str, int]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": width // 64,
    }


# The last layers are adapted: as many d x d projections as fit in 0.5 % with a router of hidden size 8 each.
_GRID, _TINY_GRID = Grid(slices=32, rows=224, cols=224), Grid(slices=4, rows=64, cols=64)
_entry("dinov3-vits16", 21_596_544, _GRID, range(10, 12), **_shape(12, 384))
_entry("dinov3-vitb16", 85_660_416, _GRID, range(7, 12), **_shape(12, 768))
_entry("dinov3-vitl16", 303_129_600, _GRID, range(10, 24), **_shape(24, 1024))
_entry("dinov3-tiny", None, _TINY_GRID, range(1, 2), **{**_shape(2, 64), "num_attention_heads": 2})
