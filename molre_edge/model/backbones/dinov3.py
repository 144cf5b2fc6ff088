"""DINOv3 ViT (facebookresearch/dinov3), through transformers' own definition.

Shapes as in ``dinov3/hub/backbones.py``: patch 16, head size 64, RoPE base 100, LayerScale, 4 register tokens, no bias
in the key projection. The slice feature is the normalised class token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.registry import BackboneEntry, register
from molre_edge.specs import Grid

__all__ = ["DINOv3Backbone"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_COMMON: dict[str, Any] = {
    "patch_size": 16,
    "num_register_tokens": 4,
    "rope_theta": 100.0,
    "layerscale_value": 1.0,
    "pos_embed_rescale": None,  # an augmentation of pretraining; a frozen backbone sees one geometry
}
_OPTIONS = {
    "patch_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_register_tokens", "rope_theta", "layerscale_value", "use_gated_mlp", "hidden_act", "layer_norm_eps",
    "query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias",
}  # fmt: skip


class _FixedRope(nn.Module):
    """RoPE's cosines and sines as constants: the grid is fixed, and a graph without their computation has no If."""

    cos: Tensor
    sin: Tensor

    def __init__(self, rope: nn.Module, rows: int, cols: int) -> None:
        super().__init__()
        cos, sin = rope.eval()(torch.empty(1, 3, rows, cols))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        return self.cos.to(pixel_values.dtype), self.sin.to(pixel_values.dtype)


class DINOv3Backbone(nn.Module):
    """Images [units, channels, rows, cols] -> class tokens [units, d].

    Attributes:
        vit: transformers' ``DINOv3ViTModel``.
        embed_dim: d.
    """

    def __init__(self, grid: Grid, channels: int, settings: Mapping[str, Any]) -> None:
        """Build with random weights for slices of the grid's size."""
        super().__init__()
        from transformers import DINOv3ViTConfig, DINOv3ViTModel

        config = DINOv3ViTConfig(**settings, num_channels=channels, image_size=(grid.rows, grid.cols))
        if grid.rows % config.patch_size or grid.cols % config.patch_size:
            raise ConfigError(
                f"grid: expected rows and cols in multiples of the patch size {config.patch_size}, "
                f"got {grid.rows} x {grid.cols}"
            )
        if config.hidden_size % (4 * config.num_attention_heads):
            raise ConfigError(
                f"backbone.options: expected hidden_size in multiples of 4 * num_attention_heads "
                f"({4 * config.num_attention_heads}), got {config.hidden_size}"
            )
        config._attn_implementation = "sdpa"
        self.vit = DINOv3ViTModel(config)
        self.vit.rope_embeddings = _FixedRope(self.vit.rope_embeddings, grid.rows, grid.cols)
        self.embed_dim = int(config.hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        """The class token after the last norm."""
        return self.vit(images).pooler_output  # type: ignore[no-any-return]


def _load(module: nn.Module, folder: Path) -> None:
    """Load a Hugging Face folder (config.json, safetensors) into a built backbone."""
    from transformers import DINOv3ViTModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not isinstance(module, DINOv3Backbone):
        raise TypeError(f"expected a DINOv3Backbone, got {type(module).__name__}")
    config = module.vit.config
    try:
        published = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: expected a Hugging Face folder with config.json and safetensors files ({error})"
        ) from error
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size"):
        if published.get(name, getattr(config, name)) != getattr(config, name):
            raise CheckpointError(
                f"{folder}/config.json: {name} is {published[name]}, the checkpoint's backbone has "
                f"{getattr(config, name)}; give the weights of the backbone that the checkpoint was trained on"
            )
    try:
        loaded, info = DINOv3ViTModel.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # transformers raises a family of its own
        raise CheckpointError(f"{folder}: the backbone's weights can't be loaded: {error}") from error
    missing = sorted(info["missing_keys"])
    if missing or info["mismatched_keys"]:
        raise CheckpointError(
            f"{folder}: {len(missing)} weights are missing ({', '.join(missing[:3])}) and "
            f"{len(info['mismatched_keys'])} have another shape"
        )
    loaded.rope_embeddings = module.vit.rope_embeddings
    module.vit.load_state_dict(loaded.state_dict())


def _entry(name: str, parameters: int | None, grid: Grid, adapted_layers: range, **shape: int) -> None:
    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            known = ", ".join(sorted(_OPTIONS))
            raise ConfigError(f"backbone.options: unknown {', '.join(unknown)}; known are {known}")
        return DINOv3Backbone(grid, channels, {**_COMMON, "key_bias": False, **shape, **options})

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
_entry(
    "dinov3-tiny", None, Grid(slices=4, rows=64, cols=64), range(1, 2), **{**_shape(2, 64), "num_attention_heads": 2}
)
