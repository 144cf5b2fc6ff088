"""MedImageInsight's DaViT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.defaults import default_config
from molre_edge.specs import Grid

TINY = "davit-tiny"
MEDIMAGEINSIGHT = {
    "convs.0.proj.weight", "convs.3.norm.bias", "norms.weight",
    "blocks.0.0.spatial_block.conv1.fn.dw.weight",
    "blocks.1.0.spatial_block.window_attn.norm.weight",
    "blocks.2.1.spatial_block.window_attn.fn.qkv.weight",
    "blocks.2.1.spatial_block.window_attn.fn.proj.bias",
    "blocks.3.0.spatial_block.conv2.fn.dw.bias",
    "blocks.0.0.spatial_block.ffn.norm.weight",
    "blocks.0.0.spatial_block.ffn.fn.net.fc1.weight",
    "blocks.2.0.channel_block.channel_attn.norm.weight",
    "blocks.2.0.channel_block.channel_attn.fn.proj.weight",
    "blocks.3.0.channel_block.ffn.fn.net.fc2.bias",
}  # fmt: skip
"""Names of weights in MedImageInsight's file, as YalaLab/rate-evals reads it, after ``image_encoder.``"""


def published_layout(backbone: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The backbone's weights under MedImageInsight's names, written here once more by a rule of its own."""
    renamed = {}
    for name, value in backbone.state_dict().items():
        parts = name.split(".")
        if parts[0] == "convs" and parts[2] == "conv":
            parts[2] = "proj"
        elif parts[0] == "blocks":
            norms = {
                "norm1": f"{'window' if parts[3] == 'spatial_block' else 'channel'}_attn.norm",
                "norm2": "ffn.norm",
            }
            parts[4] = norms.get(parts[4], parts[4])
            inner = {"conv1": "conv1.fn.dw", "conv2": "conv2.fn.dw", "ffn": "ffn.fn.net"}
            if parts[4] in inner or parts[4].endswith("_attn"):
                parts[4] = inner.get(parts[4], f"{parts[4]}.fn")
        renamed[".".join(parts)] = value
    return renamed


def test_features_are_those_of_transformers_florence_2_tower(tiny: Any, images: Any) -> None:
    from transformers import Florence2VisionConfig
    from transformers.models.florence2.modeling_florence2 import Florence2VisionBackbone

    backbone, x = tiny(TINY), images(TINY)
    heads = (2, 4, 8, 16)
    tower = Florence2VisionBackbone(
        Florence2VisionConfig(
            depths=(1, 1, 2, 1), embed_dim=(16, 32, 64, 128), num_heads=heads, num_groups=heads, window_size=3
        )
    ).eval()
    weights = {name: value for name, value in backbone.state_dict().items() if not name.startswith("norms.")}
    tower.load_state_dict(weights)
    with torch.no_grad():
        positions = tower(x).last_hidden_state
        expected = F.layer_norm(positions.mean((2, 3)), (128,), backbone.norms.weight, backbone.norms.bias)
        torch.testing.assert_close(backbone(x), expected)


def test_the_tiny_form_pads_windows_at_every_stage_but_does_not_show_it() -> None:
    sizes = [64 // stride for stride in (4, 8, 16, 32)]
    assert [size % 3 for size in sizes] != [0, 0, 0, 0]  # else the test above would prove less
    entry = backbone_entry("davit-medimageinsight")
    assert [entry.grid.rows // stride % 12 for stride in (4, 8, 16, 32)] == [0, 0, 6, 3]  # as MedImageInsight's at 480


@pytest.mark.nightly
def test_it_exports_with_moving_gates(export_drawn: Callable[..., Any]) -> None:
    proof = export_drawn(TINY).result.proof
    assert (len(proof.routers), proof.adapted_layers) == (1, 2)  # window and channel attention of one block


@pytest.mark.nightly
def test_projections_within_windows_route_by_slice(export_drawn: Callable[..., Any]) -> None:
    exported = export_drawn(TINY, modules=("blocks.0.0.spatial_block.window_attn.qkv", "blocks.3.0.*.window_attn.proj"))
    assert exported.result.proof.adapted_layers == 2
    gates = next(value for value in exported.graph("fp32").graph.output if value.name == "gates")
    assert [axis.dim_value for axis in gates.type.tensor_type.shape.dim] == [0, 4, 2, 6]  # batch, slices, routers, K


def test_the_gates_of_one_slice_do_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    model = HeadCTClassifier(default_config(TINY)).eval()
    volume = torch.rand(1, *model.config.grid.shape) * 100
    other = volume.clone()
    other[:, 1:] = 0.0
    with torch.no_grad():
        one, two = model(volume).gates, model(other).gates
    torch.testing.assert_close(one[:, 0], two[:, 0])
    assert not torch.allclose(one[:, 1], two[:, 1], atol=1e-6)


def test_weights_load_from_medimageinsights_layout(tmp_path: Path, tiny: Any, images: Any) -> None:
    source, other, x = tiny(TINY), tiny(TINY, seed=1), images(TINY)
    weights = published_layout(source)
    assert set(weights) >= MEDIMAGEINSIGHT
    whole = {f"image_encoder.{name}": value for name, value in weights.items()}
    save_file(whole | {"image_projection": torch.zeros(128, 8)}, tmp_path / "medimageinsigt-v1.0.0.pt")
    backbone_entry(TINY).load(other, tmp_path)
    assert torch.equal(other(x), source(x))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window_size": 12}, "window_size is 12, the checkpoint's backbone has 3"),
        ({"num_groups": [4, 8, 16, 32]}, r"num_groups is \[4, 8, 16, 32\], the checkpoint's backbone has"),
        ({"vision_config": {"activation_function": "relu"}}, "activation_function is 'relu'"),
    ],
)
def test_settings_that_shapes_do_not_show_are_compared(
    tmp_path: Path, tiny: Any, change: dict[str, Any], words: str
) -> None:
    save_file(published_layout(tiny(TINY)), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(tiny(TINY).settings.to_dict()), encoding="utf-8")
    backbone_entry(TINY).load(tiny(TINY), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(change), encoding="utf-8")
    with pytest.raises(CheckpointError, match=words):
        backbone_entry(TINY).load(tiny(TINY), tmp_path)


def test_weights_of_another_width_are_refused(tmp_path: Path, tiny: Any) -> None:
    save_file(published_layout(tiny(TINY, width=32)), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="expected shape"):
        backbone_entry(TINY).load(tiny(TINY), tmp_path)


def test_a_grid_that_the_strides_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 32, got 64 x 80"):
        backbone_entry(TINY).build(Grid(slices=1, rows=64, cols=80), 3, {})


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="width in multiples of heads"):
        backbone_entry(TINY).build(backbone_entry(TINY).grid, 3, {"heads": 3})
