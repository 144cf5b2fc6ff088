"""Our small residual networks, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.defaults import default_config
from molre_edge.specs import Grid

NAMES = ("convnet2d-small", "convnet3d-small")
SMALL = {"width": 4, "blocks": 2}
MODULES = ("blocks.0.conv2", "blocks.1.down")


@pytest.mark.parametrize("name", NAMES)
def test_features_are_normed_mean_and_maximum_over_all_positions(name: str, tiny: Any, images: Any) -> None:
    backbone, x = tiny(name, **SMALL), images(name)
    with torch.no_grad():
        for block in backbone.blocks:
            x = block(x)
        positions = x.flatten(2)
        expected = backbone.norm(torch.cat([positions.mean(2), positions.max(2).values], 1))
        torch.testing.assert_close(backbone(images(name)), expected)
    assert backbone.embed_dim == expected.shape[1] == 2 * 4 * 2


def test_a_block_adds_two_convolutions_to_a_smaller_image(tiny: Any) -> None:
    block, x = tiny(NAMES[0], **SMALL).blocks[0], torch.randn(2, 3, 16, 16)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
    with torch.no_grad():
        small = block.norm0(block.down(x)).clamp_min(0)
        more = block.norm2(block.conv2(block.norm1(block.conv1(small)).clamp_min(0)))
        torch.testing.assert_close(block(x), (small + more).clamp_min(0))
    assert small.shape == (2, 4, 8, 8)


def test_slices_are_halved_from_the_third_block_on(tiny: Any) -> None:
    x, shapes = torch.randn(1, 3, 8, 64, 64), []
    for block in tiny(NAMES[1], width=4, blocks=4).blocks:
        x = block(x)
        shapes.append(tuple(x.shape[2:]))
    assert shapes == [(8, 32, 32), (8, 16, 16), (4, 8, 8), (2, 4, 4)]


@pytest.mark.parametrize("name", NAMES)
def test_it_exports_with_moving_gates(name: str, export_drawn: Callable[..., Any]) -> None:
    exported = export_drawn(name, modules=MODULES, width=16, blocks=2)  # narrower, the experts were the larger part
    assert (len(exported.result.proof.routers), exported.result.proof.adapted_layers) == (2, 2)
    gates = next(value for value in exported.graph("fp32").graph.output if value.name == "gates")
    slices = 1 if name == NAMES[1] else backbone_entry(name).grid.slices
    assert [axis.dim_value for axis in gates.type.tensor_type.shape.dim] == [0, slices, 2, 6]


@pytest.mark.parametrize("name", NAMES)
def test_its_default_modules_are_there(name: str) -> None:
    model = HeadCTClassifier(default_config(name))
    adapted = {key.removesuffix(".lora_A") for key in model.state_dict() if key.endswith(".lora_A")}
    assert adapted == {"backbone.blocks.2.conv2", "backbone.blocks.3.conv2"}


def test_there_are_no_public_weights_to_load(tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(CheckpointError, match="no public weights; pretrain it with 'molre-edge train"):
        backbone_entry(NAMES[0]).load(tiny(NAMES[0], **SMALL), tmp_path)


@pytest.mark.parametrize("options", [{"width": 2}, {"blocks": 9}, {"depth": 3}])
def test_options_have_limits(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"backbone\.options.*{next(iter(options))}"):
        backbone_entry(NAMES[0]).build(Grid(slices=1, rows=32, cols=32), 3, options)
