"""CT-FM's encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import TensorProto
from safetensors.torch import save_file
from torch import nn

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.defaults import default_config
from molre_edge.specs import HU_MAX, HU_MIN, Grid, Precision

TINY = "ct-fm-tiny"


def published(**changes: Any) -> Any:
    """MONAI's encoder, as CT-FM publishes it, with statistics that are not those of a new one."""
    from monai.networks.nets.segresnet_ds import SegResEncoder

    encoder = SegResEncoder(**{"init_filters": 8, "in_channels": 1, "blocks_down": (1, 1, 1), **changes})
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return encoder.eval()


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_weights_of_ct_fm_give_ct_fms_features(tmp_path: Path, tiny: Any, images: Any, prefix: str) -> None:
    encoder, backbone, x = published(), tiny(TINY), images(TINY)
    weights = {prefix + name: value for name, value in encoder.state_dict().items()}
    save_file(weights | {"up_layers.0.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    backbone_entry(TINY).load(backbone, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), encoder(x)[-1].mean((2, 3, 4)))


def test_weights_of_another_number_of_windows_are_refused(tmp_path: Path, tiny: Any) -> None:
    save_file(published(in_channels=3).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"conv_init\.weight: expected shape \(8, 1, 3, 3, 3\)"):
        backbone_entry(TINY).load(tiny(TINY), tmp_path)


def test_ct_fms_window_takes_1024_below_to_2048_above_water_to_0_and_1() -> None:
    model = HeadCTClassifier(default_config(TINY))
    values = model.intensity(torch.tensor([[[HU_MIN, 512.0, 2048.0, HU_MAX]]]))
    assert values.flatten().tolist() == [0.0, 0.5, 1.0, 1.0]


def test_ct_fms_grid_is_that_of_its_head_ct_task() -> None:
    grid = backbone_entry("ct-fm-segresenc").grid
    assert (grid.shape, grid.pixel_mm, grid.height_mm / grid.slices) == ((48, 128, 128), 2.0, 5.0)


def test_it_exports_with_layers_of_every_level_adapted_and_batch_norms_in_float32(
    export_drawn: Callable[..., Any],
) -> None:
    modules = ("layers.0.blocks.0.conv1", "layers.0.downsample", "layers.2.blocks.0.conv2")
    exported = export_drawn(TINY, modules=modules)
    assert (len(exported.result.proof.routers), exported.result.proof.adapted_layers) == (2, 3)
    half = exported.graph(Precision.FP16).graph
    casts = {node.output[0]: node.attribute[0].i for node in half.node if node.op_type == "Cast"}
    norms = [node for node in half.node if node.op_type == "BatchNormalization"]
    assert norms
    assert {casts.get(node.input[0]) for node in norms} == {TensorProto.FLOAT}
    gates = next(value for value in half.output if value.name == "gates")
    assert [axis.dim_value for axis in gates.type.tensor_type.shape.dim] == [0, 1, 2, 6]  # one vector a volume


def test_frozen_batch_norms_keep_their_statistics_in_training(tiny: Any, images: Any) -> None:
    backbone, x = tiny(TINY).requires_grad_(False), images(TINY)
    with torch.no_grad():
        expected = backbone(x)
        torch.testing.assert_close(backbone.train()(x), expected)
        torch.testing.assert_close(backbone.eval()(x), expected)


def test_batch_norms_that_are_trained_gather_statistics(tiny: Any, images: Any) -> None:
    backbone, x = tiny(TINY).requires_grad_(True), images(TINY)
    with torch.no_grad():
        expected = backbone(x)
        backbone.train()(x)
        assert not torch.allclose(backbone.eval()(x), expected)


def test_a_grid_with_fewer_slices_than_levels_halve_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 4 slices, rows and cols for 3 levels, got 2 x 32 x 32"):
        backbone_entry(TINY).build(Grid(slices=2, rows=32, cols=32), 1, {})
