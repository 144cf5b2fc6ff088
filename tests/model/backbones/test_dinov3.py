"""DINOv3: the definition is transformers', the names and weights are the published ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DINOv3ViTConfig, DINOv3ViTModel
from transformers.utils import logging

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.dinov3 import DINOv3Backbone
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.specs import Grid

GRID = Grid(slices=3, rows=48, cols=32)
TINY = backbone_entry("dinov3-tiny")


@pytest.fixture(autouse=True)
def no_progress_bars() -> Iterator[None]:
    logging.disable_progress_bar()
    with torch.no_grad():
        yield


def build(seed: int = 0, **options: Any) -> DINOv3Backbone:
    torch.manual_seed(seed)
    backbone = TINY.build(GRID, 3, options).eval()
    assert isinstance(backbone, DINOv3Backbone)
    return backbone


def published(
    folder: Path, *, dtype: torch.dtype = torch.float32, shard: str = "50GB", **changes: Any
) -> DINOv3ViTModel:
    """A folder as on the Hub, written by transformers, of a model with the public definition in small."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_register_tokens": 4, "pos_embed_rescale": 2.0, "image_size": 224,
    }  # fmt: skip
    model = DINOv3ViTModel(DINOv3ViTConfig(**(settings | changes))).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return model.float()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("dinov3-vits16", 21_596_544), ("dinov3-vitb16", 85_660_416), ("dinov3-vitl16", 303_129_600)],
)
def test_the_full_sizes_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    entry = backbone_entry(name)
    with torch.device("meta"):
        backbone = entry.build(entry.grid, 3, {})
    assert sum(p.numel() for p in backbone.parameters()) == entry.parameters == parameters


def test_names_are_those_of_the_published_files(tmp_path: Path) -> None:
    published(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert set(build().state_dict()) == names
    assert {"layer.0.attention.q_proj.weight", "embeddings.cls_token", "norm.weight"} <= names
    assert "layer.0.attention.k_proj.bias" not in names


@pytest.mark.parametrize("shard", ["50GB", "200KB"], ids=["one file", "shards"])
def test_published_weights_give_the_answers_of_transformers(tmp_path: Path, shard: str) -> None:
    model = published(tmp_path, shard=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) == (1 if shard == "50GB" else 4)
    backbone = build()
    TINY.load(backbone, tmp_path)
    images = torch.randn(5, 3, GRID.rows, GRID.cols)
    torch.testing.assert_close(backbone(images), model(images).pooler_output, rtol=1e-4, atol=1e-5)


def test_published_half_floats_become_floats(tmp_path: Path) -> None:
    published(tmp_path, dtype=torch.bfloat16)
    backbone = build()
    TINY.load(backbone, tmp_path)
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    stored = load_file(tmp_path / "model.safetensors")["norm.weight"]
    assert stored.dtype == torch.bfloat16
    assert torch.equal(backbone.norm.weight, stored.float())


def test_weights_can_be_loaded_into_a_backbone_on_meta(tmp_path: Path) -> None:
    published(tmp_path)
    with torch.device("meta"):
        backbone = TINY.build(GRID, 3, {})
    TINY.load(backbone, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in backbone.state_dict().items())


def test_frequencies_that_some_files_hold_are_not_needed(tmp_path: Path) -> None:
    published(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {"rope_embeddings.inv_freq": torch.ones(8)}, tmp_path / "model.safetensors")
    TINY.load(build(), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 3}, r"num_hidden_layers is 3, the checkpoint's backbone has 2. Give the weights of the"),
        ({"num_attention_heads": 4}, r"num_attention_heads is 4, the checkpoint's backbone has 2"),
        ({"rope_theta": 10.0}, r"rope_theta is 10.0, the checkpoint's backbone has 100.0"),
        ({"layer_norm_eps": 1e-6}, r"layer_norm_eps is 1e-06, the checkpoint's backbone has 1e-05"),
        ({"num_register_tokens": 0}, r"num_register_tokens is 0, the checkpoint's backbone has 4"),
        ({"use_gated_mlp": True}, r"use_gated_mlp is True, the checkpoint's backbone has False"),
        ({"key_bias": True}, r"0 missing \(none\), 2 unknown \(layer.0.attention.k_proj.bias, layer.1"),
        ({"mlp_bias": False}, r"4 missing \(layer.0.mlp.down_proj.bias.*, 0 unknown \(none\); expected the layout"),
        ({"num_channels": 1}, r"patch_embeddings.weight: expected shape \(64, 3, 16, 16\), got \(64, 1, 16, 16\)"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    published(tmp_path, **change)
    with pytest.raises(CheckpointError, match=words):
        TINY.load(build(), tmp_path)


def test_a_name_that_config_json_leaves_out_has_transformers_default(tmp_path: Path) -> None:
    published(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["layer_norm_eps"], settings["num_hidden_layers"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"num_hidden_layers is 12, the checkpoint's backbone has 2"):
        TINY.load(build(), tmp_path)


def test_a_folder_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    for content, words in [
        (None, r"Expected a Hugging Face folder with config.json and model.safetensors"),
        ("{", r"Expected a Hugging Face folder with config.json"),
        ("[]", r"Expected a Hugging Face folder with config.json"),
        ("{}", r"config.json: model_type is None, expected 'dinov3_vit'"),
        ('{"model_type": "dinov2"}', r"config.json: model_type is 'dinov2', expected 'dinov3_vit'"),
    ]:
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(CheckpointError, match=words):
            TINY.load(build(), tmp_path)
    with pytest.raises(CheckpointError, match="Expected a Hugging Face folder"):
        TINY.load(build(), tmp_path / "gone")


def test_damaged_or_absent_weights_are_refused(tmp_path: Path) -> None:
    published(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model.safetensors: not a readable safetensors file .*Fetch it again"):
        TINY.load(build(), tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"there are no weight files.*pickled files are not read"):
        TINY.load(build(), tmp_path)


def test_pickled_weights_are_not_looked_at(tmp_path: Path) -> None:
    model = published(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"there are no weight files.*pickled files are not read"):
        TINY.load(build(), tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_attention_heads": 3}, r"multiples of 4 \* num_attention_heads \(12\)"),
        ({"hidden_size": 1024, "num_attention_heads": 2}, r"at most 256 a head, got 1024"),
        ({"patch_size": 20}, r"grid: expected rows and cols in multiples of the patch size 20, got 48 x 32"),
        ({"num_layers": 2}, r"unknown 'num_layers'; did you mean num_hidden_layers\?"),
        ({"num_channels": 3}, r"unknown 'num_channels'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(**options)


def test_options_replace_what_the_entry_says() -> None:
    backbone = build(num_hidden_layers=3, use_gated_mlp=True, hidden_act="silu", key_bias=True, rope_theta=50)
    assert len(backbone.layer) == 3
    assert backbone.layer[0].mlp.gate_proj.weight.shape == (256, 64)
    assert backbone.layer[0].attention.k_proj.bias is not None
    assert backbone.settings.rope_theta == 50.0


def test_position_is_a_constant_and_no_weight() -> None:
    backbone = build()
    patches = (GRID.rows // 16) * (GRID.cols // 16)
    assert backbone.rope_embeddings.cos.shape == (patches, 32)
    assert not any("rope" in name for name in backbone.state_dict())


def test_where_a_patch_lies_matters() -> None:
    backbone = build()
    image = torch.zeros(1, 3, GRID.rows, GRID.cols)
    image[..., :16, :16] = 1.0
    for parameter in backbone.parameters():
        parameter.normal_(std=0.3)
    assert not torch.allclose(backbone(image), backbone(image.flip(2)), atol=1e-3)
