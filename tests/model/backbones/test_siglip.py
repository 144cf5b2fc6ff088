"""SigLIP So400m: MedGemma's tower and MedSigLIP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.specs import Grid

TINY = "siglip-tiny"


def published(backbone: Any) -> Any:
    """transformers' own model with the backbone's weights: what was published is stored as this stores it."""
    from transformers import SiglipVisionModel

    model = SiglipVisionModel(backbone.settings).eval()
    model.load_state_dict(backbone.state_dict())
    return model


@pytest.mark.parametrize("with_head", [False, True])
def test_slice_features_are_those_of_transformers(tiny: Any, images: Any, with_head: bool) -> None:
    backbone, x = tiny(TINY, vision_use_head=with_head), images(TINY)
    with torch.no_grad():
        ours, theirs = backbone(x), published(backbone)(x)
    expected = theirs.pooler_output if with_head else theirs.last_hidden_state.mean(1)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("with_head", [False, True])
def test_it_exports_with_moving_gates(export_drawn: Callable[..., Any], with_head: bool) -> None:
    proof = export_drawn(TINY, vision_use_head=with_head).result.proof
    assert (len(proof.routers), proof.adapted_layers) == (1, 1)


@pytest.mark.parametrize("name, tokens", [("siglip-so400m-448", 1024), ("siglip-so400m-896", 4096)])
def test_the_full_towers_have_the_published_grids(name: str, tokens: int) -> None:
    entry = backbone_entry(name)
    with torch.device("meta"):
        backbone: Any = entry.build(entry.grid, 3, {})
        assert backbone(torch.empty(1, 3, entry.grid.rows, entry.grid.cols)).shape == (1, 1152)
    assert backbone.embeddings.position_embedding.weight.shape == (tokens, 1152)
    assert backbone.settings.hidden_size // backbone.settings.num_attention_heads == 72


def test_the_published_head_of_medsiglip_has_15_million_parameters_more() -> None:
    entry = backbone_entry("siglip-so400m-448")
    with torch.device("meta"):
        backbone = entry.build(entry.grid, 3, {"vision_use_head": True})
    assert sum(p.numel() for p in backbone.parameters()) == 428_565_440


@pytest.mark.parametrize("prefix", ["vision_model.", "vision_tower.vision_model.", ""])
def test_weights_load_from_medsiglips_and_medgemmas_layout(tmp_path: Path, tiny: Any, images: Any, prefix: str) -> None:
    source, other, x = tiny(TINY), tiny(TINY, seed=1), images(TINY)
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    save_file(
        weights | {"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors"
    )
    settings = {"hidden_size": 72, "num_attention_heads": 2, "image_size": 56}
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": settings}), encoding="utf-8")
    backbone_entry(TINY).load(other, tmp_path)
    assert torch.equal(other(x), source(x))


def test_weights_of_another_image_size_are_refused_by_the_configuration(tmp_path: Path, tiny: Any) -> None:
    save_file(tiny(TINY).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": {"image_size": 896}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="image_size is 896, the checkpoint's backbone has 56"):
        backbone_entry(TINY).load(tiny(TINY), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', the checkpoint's backbone has 'gelu_pytorch_tanh'"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05, the checkpoint's backbone has 1e-06"),
        ({"num_attention_heads": 4}, "num_attention_heads is 4, the checkpoint's backbone has 2"),
        ({}, "num_attention_heads is 12, the checkpoint's backbone has 2"),  # transformers' default
        ({"model_type": "siglip2_vision_model"}, "model_type is 'siglip2_vision_model', expected 'siglip_vision_"),
    ],
)
def test_settings_that_shapes_do_not_show_are_compared(
    tmp_path: Path, tiny: Any, change: dict[str, Any], words: str
) -> None:
    save_file(tiny(TINY).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": change}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=words):
        backbone_entry(TINY).load(tiny(TINY), tmp_path)


@pytest.mark.parametrize("rows, cols", [(56, 42), (60, 60)])
def test_a_grid_that_patches_do_not_fill_is_refused(rows: int, cols: int) -> None:
    with pytest.raises(ConfigError, match="as many rows as cols, in multiples of the patch size 14"):
        backbone_entry(TINY).build(Grid(slices=1, rows=rows, cols=cols), 3, {})


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="hidden_size in multiples of num_attention_heads"):
        backbone_entry(TINY).build(backbone_entry(TINY).grid, 3, {"num_attention_heads": 5})
