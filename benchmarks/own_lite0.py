"""EfficientNet-Lite0 with six experts from a checkpoint's bare tensors, without any of molre-edge's model code.

    molre-edge reference SCANS --checkpoint ckpt.pt --model benchmarks/own_lite0.py:probabilities -o FOLDER

The stand-in for a user's own model in docs/results/trained-weights.md: plain PyTorch, each expert by itself. The
checkpoint is ckpt.pt in the current folder, or what MOLRE_OWN_CHECKPOINT names.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
"""Blocks that halve the picture, by number."""
ADAPTED = 5


@cache
def checkpoint() -> dict[str, Any]:
    """The checkpoint: configuration, what was trained, and the frozen backbone."""
    found: dict[str, Any] = torch.load(os.environ.get("MOLRE_OWN_CHECKPOINT", "ckpt.pt"), weights_only=True)
    return found


def probabilities(grid: npt.NDArray[Any]) -> dict[str, float]:
    """Probabilities by finding of a volume on the model's grid, HU."""
    given = checkpoint()
    config, state = given["config"], given["state"]
    hu = torch.from_numpy(grid)
    channels = [((hu - (centre - width / 2)) / width).clamp(0, 1) for centre, width in config["windows"]]
    with torch.inference_mode():
        features = backbone((torch.stack(channels, 1) - 127 / 255) / (128 / 255), given)
        hidden = torch.tanh(F.linear(features, state["pooling.project.weight"], state["pooling.project.bias"]))
        attention = F.linear(hidden, state["pooling.score.weight"], state["pooling.score.bias"]).softmax(0)
        logits = F.linear((attention * features).sum(0), state["head.weight"], state["head.bias"])
    return dict(zip(config["findings"], torch.sigmoid(logits).tolist(), strict=True))


def backbone(x: Tensor, given: dict[str, Any]) -> Tensor:
    """Features [slices, 1280] of pictures [slices, 3, rows, cols]."""
    weights = given["backbone"]

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, gain, shift = (weights[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, gain, shift, eps=1e-3)

    x = norm(same_conv(x, weights["conv_stem.weight"], 2), "bn0").clamp(0, 6)
    number = 0
    while f"blocks.{number}.depthwise_conv.weight" in weights:
        name, y = f"blocks.{number}", x
        if f"{name}.expand_conv.weight" in weights:
            y = norm(F.conv2d(y, weights[f"{name}.expand_conv.weight"]), f"{name}.bn0").clamp(0, 6)
        depthwise = same_conv(y, weights[f"{name}.depthwise_conv.weight"], STRIDES.get(number, 1))
        y = norm(depthwise, f"{name}.bn1").clamp(0, 6)
        projected = F.conv2d(y, weights[f"{name}.project_conv.weight"])
        if number == ADAPTED:
            projected = projected + experts(y, given)
        y = norm(projected, f"{name}.bn2")
        x = x + y if x.shape == y.shape else y
        number += 1
    return norm(F.conv2d(x, weights["conv_head.weight"]), "bn1").clamp(0, 6).mean((2, 3))


def experts(x: Tensor, given: dict[str, Any]) -> Tensor:
    """What the experts add to the adapted convolution, one after the other."""
    state, adapter = given["state"], given["config"]["adapter"]
    rank, name = adapter["rank"], f"backbone.blocks.{ADAPTED}.project_conv"
    read = (x.mean((2, 3)) - state["routers.0.mean"]) / state["routers.0.std"]
    hidden = F.gelu(F.linear(read, state["routers.0.fc1.weight"], state["routers.0.fc1.bias"]))
    gates = F.linear(hidden, state["routers.0.fc2.weight"], state["routers.0.fc2.bias"]).softmax(-1)
    added = []
    for k in range(adapter["experts"]):
        of_it = slice(k * rank, (k + 1) * rank)
        down, up = state[f"{name}.lora_A"][of_it], state[f"{name}.lora_B"][:, of_it, None, None]
        added.append(gates[:, k, None, None, None] * F.conv2d(F.conv2d(x, down), up))
    return adapter["alpha"] / rank * torch.stack(added).sum(0)


def same_conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """A convolution with TensorFlow's padding SAME."""
    kernel, pads = weight.shape[2], []
    for side in (x.shape[3], x.shape[2]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=x.shape[1] // weight.shape[1])
