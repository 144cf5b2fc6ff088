"""Merlin's inflated ResNet-152."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.i3resnet import ASTRA_WEIGHTS
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.defaults import default_config
from molre_edge.specs import HU_MAX, HU_MIN

TINY = "i3resnet-tiny"


def published_forward(weights: dict[str, Tensor], ras: Tensor) -> Tensor:
    """The pooled features of volumes [batch, 1, right, front, up], as Merlin reads them, from the published names."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, gain, shift = (weights[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, gain, shift)

    x = ras.permute(0, 1, 4, 2, 3).repeat(1, 3, 1, 1, 1)
    x = norm(F.conv3d(x, weights["conv1.weight"], stride=(1, 2, 2), padding=(1, 3, 3)), "bn1").relu()
    x = F.max_pool3d(x, 3, 2, 1)
    for block in dict.fromkeys(name.rpartition(".conv1")[0] for name in weights if ".conv1." in name):
        stride = 2 if block.endswith(".0") and block != "layer1.0" else 1
        y = norm(F.conv3d(x, weights[f"{block}.conv1.weight"]), f"{block}.bn1").relu()
        y = norm(F.conv3d(y, weights[f"{block}.conv2.weight"], stride=stride, padding=1), f"{block}.bn2").relu()
        y = norm(F.conv3d(y, weights[f"{block}.conv3.weight"]), f"{block}.bn3")
        if f"{block}.downsample.0.weight" in weights:
            x = norm(F.conv3d(x, weights[f"{block}.downsample.0.weight"], stride=stride), f"{block}.downsample.1")
        x = (x + y).relu()
    return x.flatten(2).mean(2)


def as_ras(volumes: Tensor) -> Tensor:
    """Ours, [batch, 1, up, back, left], as Merlin's loader has them: [batch, 1, right, front, up]."""
    return volumes.permute(0, 1, 4, 3, 2).flip(2, 3)


def test_weights_of_merlin_give_merlins_features_of_the_same_patient(tmp_path: Path, tiny: Any, images: Any) -> None:
    source, backbone, x = tiny(TINY), tiny(TINY, seed=1), images(TINY)
    for norm in source.modules():
        if isinstance(norm, nn.BatchNorm3d):
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    weights = source.state_dict()
    prefixed = {f"encode_image.i3_resnet.{name}": value for name, value in weights.items()}
    torch.save(prefixed | {"encode_text.weight": torch.zeros(1)}, tmp_path / "merlin.pt")
    backbone_entry(TINY).load(backbone, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), published_forward(weights, as_ras(x)))
        assert not torch.allclose(backbone(x), backbone(x.flip(3)))  # orientation matters


@pytest.mark.parametrize("axes", ["SAR", "SRA", "ILP"])
def test_volumes_along_other_axes_give_the_same_features_of_the_same_patient(axes: str, tiny: Any, images: Any) -> None:
    own, x = tiny(TINY), images(TINY)
    other = backbone_entry(TINY).build(replace(backbone_entry(TINY).grid, axes=axes), 1, {}).eval()
    other.load_state_dict(own.state_dict())
    turned = x if axes[1] in "PA" else x.transpose(3, 4)
    turned = turned.flip([place + 2 for place, letter in enumerate(axes) if letter in "IAR"])
    with torch.no_grad():
        torch.testing.assert_close(other(turned), own(x))


def test_merlins_window_takes_1000_below_and_above_water_to_0_and_1() -> None:
    model = HeadCTClassifier(default_config(TINY))
    values = model.intensity(torch.tensor([[[HU_MIN, -1000.0, 0.0, 1000.0, HU_MAX]]]))
    assert values.flatten().tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_merlins_grid_has_its_size_and_spacing() -> None:
    grid = backbone_entry("i3resnet152").grid
    assert (grid.shape, grid.pixel_mm, grid.height_mm / grid.slices) == ((160, 224, 224), 1.5, 3.0)


def test_three_windows_take_the_place_of_the_repeated_one_and_two_are_refused(tiny: Any) -> None:
    entry, x = backbone_entry(TINY), torch.rand(1, 1, *backbone_entry(TINY).grid.shape)
    one, three = tiny(TINY), entry.build(entry.grid, 3, {}).eval()
    three.load_state_dict(one.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(one(x), three(x.repeat(1, 3, 1, 1, 1)))
    with pytest.raises(ConfigError, match="one window three times, or 3 windows, and got 2"):
        entry.build(entry.grid, 2, {})


@pytest.mark.nightly
def test_it_exports_with_one_moving_gate_vector_a_volume(export_drawn: Callable[..., Any]) -> None:
    exported = export_drawn(TINY)
    assert (len(exported.result.proof.routers), exported.result.proof.adapted_layers) == (2, 2)
    gates = next(value for value in exported.graph("fp16").graph.output if value.name == "gates")
    assert [axis.dim_value for axis in gates.type.tensor_type.shape.dim] == [0, 1, 2, 6]


@pytest.mark.nightly
def test_the_weights_of_astra_give_its_features() -> None:
    for part in ASTRA_WEIGHTS.parts:
        try:
            distribution(part.package)
        except PackageNotFoundError:
            pytest.skip(f"{part.package} is not installed (extra 'weights')")
    entry, published = backbone_entry("i3resnet152"), ASTRA_WEIGHTS.tensors()
    assert len(published) == 930
    with torch.device("meta"):
        backbone = entry.build(entry.grid, 1, {}).eval()
    entry.load_weights(backbone, None)
    x = torch.rand(1, 1, 16, 64, 48, generator=torch.Generator().manual_seed(0))
    weights = {name.removeprefix("state_dict."): value.float() for name, value in published.items()}
    with torch.no_grad():
        features = backbone(x)
        torch.testing.assert_close(features, published_forward(weights, as_ras(x)))
    assert features.std() > 0.1
