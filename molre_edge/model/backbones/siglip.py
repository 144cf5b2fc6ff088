"""SigLIP So400m/14, MedGemma's vision tower and MedSigLIP, from the layers that transformers defines.

27 layers of width 1152, 16 heads of 72, no class token. The slice feature is the mean of the normalised tokens; with
the option ``vision_use_head`` it is what SigLIP's attention pooling makes of them, as MedSigLIP embeds an image.
MedGemma's tower has no such head: its tokens go to a language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.options import Choice, Range, check_options
from molre_edge.model.backbones.published import check_published
from molre_edge.model.backbones.weights import load_published
from molre_edge.specs import Grid

__all__ = ["SiglipBackbone"]

_OPTIONS: dict[str, Range | Choice] = {
    "patch_size": Range(4, 64),
    "hidden_size": Range(16, 8192),
    "intermediate_size": Range(16, 65536),
    "num_hidden_layers": Range(1, 128),
    "num_attention_heads": Range(1, 256),
    "vision_use_head": Choice((True, False)),
}

_SHOWN_BY_SHAPES = ("hidden_size", "intermediate_size", "num_hidden_layers", "patch_size", "image_size")
_NOT_SHOWN_BY_SHAPES = ("hidden_act", "layer_norm_eps", "num_attention_heads")
"""What a published config.json must say as the checkpoint's backbone does. What shapes do not show is compared with
transformers' default where config.json leaves it out."""


class SiglipBackbone(nn.Module):
    """Images [units, channels, rows, cols] -> slice features [units, d].

    Attributes:
        embeddings: patches and learned positions.
        encoder: the layers.
        post_layernorm: the last norm.
        head: attention pooling, or None for the mean of the tokens.
        settings: transformers' ``SiglipVisionConfig``.
        embed_dim: d.
    """

    def __init__(self, grid: Grid, channels: int, settings: Mapping[str, Any]) -> None:
        """Build with random weights for slices of the grid's size.

        Raises:
            ConfigError: grid or sizes that do not fit each other.
        """
        super().__init__()
        patch, width, heads = (settings[name] for name in ("patch_size", "hidden_size", "num_attention_heads"))
        if grid.rows != grid.cols or grid.rows % patch:
            raise ConfigError(
                f"grid: expected as many rows as cols, in multiples of the patch size {patch}, "
                f"got {grid.rows} x {grid.cols}"
            )
        if width % heads:
            raise ConfigError(
                f"backbone.options: expected hidden_size in multiples of num_attention_heads ({heads}), got {width}"
            )
        from transformers import SiglipVisionConfig, SiglipVisionModel

        config = SiglipVisionConfig(**settings, num_channels=channels, image_size=grid.rows)
        config._attn_implementation = "sdpa"
        tower = SiglipVisionModel(config)
        self.settings = config
        self.embeddings = tower.embeddings
        self.encoder = tower.encoder
        self.post_layernorm = tower.post_layernorm
        self.head = tower.head if config.vision_use_head else None
        self.embed_dim = int(config.hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        """The tokens after the last norm, pooled."""
        parts = self.embeddings  # all positions in order: adding them needs no look-up in the graph
        x = parts.patch_embedding(images).flatten(2).transpose(1, 2)  # [units, patches, d]
        x = x + parts.position_embedding.weight
        for layer in self.encoder.layers:
            x = layer(x, None)
        x = self.post_layernorm(x)
        return x.mean(1) if self.head is None else self.head(x)  # type: ignore[no-any-return]


def _load(module: nn.Module, folder: Path) -> None:
    """Load a Hugging Face folder of MedSigLIP, MedGemma or another model with this tower; see BackboneEntry.load."""
    if not isinstance(module, SiglipBackbone):
        raise TypeError(f"expected a SiglipBackbone, got {type(module).__name__}")
    from transformers import SiglipVisionConfig

    unseen = SiglipVisionConfig().to_dict()
    check_published(
        folder,
        {name: getattr(module.settings, name) for name in (*_SHOWN_BY_SHAPES, *_NOT_SHOWN_BY_SHAPES)},
        defaults={name: unseen[name] for name in _NOT_SHOWN_BY_SHAPES},
        model_types=(SiglipVisionConfig.model_type,),
    )
    load_published(module, folder)


def _entry(name: str, parameters: int | None, grid: Grid, adapted_layers: range, settings: Mapping[str, Any]) -> None:
    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        return SiglipBackbone(grid, channels, {**settings, **check_options(options, _OPTIONS)})

    register(
        BackboneEntry(
            id=name,
            dimensions=2,
            parameters=parameters,
            grid=grid,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            adapted=tuple(f"layers.{i}.self_attn.out_proj" for i in adapted_layers),
            build=build,
            load=_load,
            source="transformers SiglipVisionModel with MedSigLIP's and MedGemma's vision_config; google/medsiglip-448",
        )
    )


_SO400M = {
    "patch_size": 14,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "vision_use_head": False,
}
_TINY = {
    **_SO400M,
    "hidden_size": 72,  # one head of 72 would be So400m's; two of 36 show that heads need not be powers of two
    "intermediate_size": 144,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}

# The last layers are adapted: as many d x d projections as fit in 0.5 % with a router of hidden size 8 each.
_LAYERS = range(10, 27)
_entry("siglip-so400m-448", 413_327_088, Grid(slices=32, rows=448, cols=448), _LAYERS, _SO400M)
_entry("siglip-so400m-896", 416_866_032, Grid(slices=32, rows=896, cols=896), _LAYERS, _SO400M)
_entry("siglip-tiny", None, Grid(slices=4, rows=56, cols=56), range(1, 2), _TINY)
