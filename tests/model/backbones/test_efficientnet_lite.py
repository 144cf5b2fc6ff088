"""EfficientNet-Lite: TensorFlow's padding, ReLU6 and norms, and really trained weights where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import cbook
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from molre_edge.model.backbones.efficientnet_lite import LITE0_WEIGHTS, published_name
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.defaults import default_config

TINY = "efficientnet-lite-tiny"
MILITARY_UNIFORM = 652


def same_conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """A convolution as TensorFlow's documentation of SAME defines it, one axis after the other."""
    kernel = weight.shape[2]
    for axis in (2, 3):
        size = x.shape[axis]
        total = max(kernel - (size % stride or stride), 0)
        front = [0, 0] * (3 - axis) + [total // 2, total - total // 2]
        x = F.pad(x, front)
    return F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])


def published_forward(weights: dict[str, Tensor], x: Tensor, strides: dict[int, int]) -> Tensor:
    """The pooled features, from nothing but the published names and the blocks that have a stride of 2."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, gain, shift = (weights[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, gain, shift, eps=1e-3)

    x = norm(same_conv(x, weights["_conv_stem.weight"], 2), "_bn0").clamp(0, 6)
    for number in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("_blocks."))):
        block, y = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in weights:
            y = norm(same_conv(y, weights[f"{block}._expand_conv.weight"]), f"{block}._bn0").clamp(0, 6)
        stride = strides.get(number, 1)
        y = norm(same_conv(y, weights[f"{block}._depthwise_conv.weight"], stride), f"{block}._bn1").clamp(0, 6)
        y = norm(same_conv(y, weights[f"{block}._project_conv.weight"]), f"{block}._bn2")
        x = x + y if y.shape == x.shape else y
    return norm(same_conv(x, weights["_conv_head.weight"]), "_bn1").clamp(0, 6).mean((2, 3))


@pytest.fixture
def settled(tiny: Callable[..., nn.Module]) -> nn.Module:
    """The tiny form with statistics that are not those of new norms."""
    module = tiny(TINY)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.05, 0.2)  # type: ignore[arg-type]
    return module


@pytest.fixture(scope="module")
def lite0() -> tuple[nn.Module, dict[str, Tensor]]:
    """The trained backbone, and all published tensors."""
    package = LITE0_WEIGHTS.parts[0].package
    try:
        distribution(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed (extra 'weights')")
    entry = backbone_entry("efficientnet-lite0")
    with torch.device("meta"):
        module = entry.build(entry.grid, 3, {}).eval()
    entry.load_weights(module, None)
    return module, LITE0_WEIGHTS.tensors()


@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
def test_it_computes_what_the_published_layers_say_with_tensorflows_padding(
    settled: nn.Module, tmp_path: Path, tiny: Any, size: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    weights = {published_name(name): value for name, value in settled.state_dict().items()}
    torch.save(weights | {"_fc.weight": torch.zeros(1)}, tmp_path / "efficientnet-lite.pth")
    backbone = tiny(TINY, seed=1)
    backbone_entry(TINY).load(backbone, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), published_forward(weights, x, {1: 2, 2: 2}))


def test_grace_hopper_wears_a_military_uniform(lite0: tuple[nn.Module, dict[str, Tensor]]) -> None:
    backbone, weights = lite0
    mean, std = backbone_entry("efficientnet-lite0").mean[0], backbone_entry("efficientnet-lite0").std[0]
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        picture = Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    x = (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255 - mean) / std
    with torch.no_grad():
        features = backbone(x)
        torch.testing.assert_close(features, published_forward(weights, x, {1: 2, 3: 2, 5: 2, 11: 2}))
        chances = torch.softmax(F.linear(features, weights["_fc.weight"], weights["_fc.bias"]), dim=1)[0]
    assert int(chances.argmax()) == MILITARY_UNIFORM
    assert float(chances.max()) > 0.35


def test_grey_values_are_normalised_as_in_training() -> None:
    values = HeadCTClassifier(default_config(TINY)).intensity(torch.tensor([[[0.0, 80.0]]]))  # 0 and 255 of brain
    assert values[0, 0, 0].tolist() == pytest.approx([-127 / 128, 1.0])


def test_it_exports_with_moving_gates_and_an_adapted_stem_head_and_dense_convolutions(
    export_drawn: Callable[..., Any],
) -> None:
    modules = ("conv_stem", "blocks.1.expand_conv", "blocks.2.project_conv", "conv_head")
    proof = export_drawn(TINY, modules=modules).result.proof
    assert (len(proof.routers), proof.adapted_layers) == (4, 4)


def test_frozen_norms_keep_the_trained_statistics_in_training(settled: nn.Module, images: Any) -> None:
    backbone, x = settled.requires_grad_(False), images(TINY)
    with torch.no_grad():
        expected = backbone(x)
        torch.testing.assert_close(backbone.train()(x), expected)
