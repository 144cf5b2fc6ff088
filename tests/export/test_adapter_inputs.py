"""A graph whose trained tensors are inputs answers for every training of its backbone as that one's own graph does."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from molre_edge.adapters.tensors import Tensors
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.export.golden import extreme_volume
from molre_edge.export.graph import INPUTS, check_graph, export_fp32
from molre_edge.export.rounding import rounding_copy
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import AdapterConfig
from molre_edge.model.defaults import default_config
from molre_edge.model.trained import trained_tensors
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

FINDINGS = ("intraparenchymal_hemorrhage", "midline_shift", "hydrocephalus")
BACKBONES = {
    "dinov3-tiny": ("attention.o_proj", "pooling.project"),
    "convnet2d-small": (),
    "ct-fm-tiny": (),
}
EXPERTS, RANK = 3, 4


@dataclass(frozen=True)
class Twins:
    """Two trainings of one backbone: their own graphs, and one graph for both with the tensors of each."""

    models: tuple[HeadCTClassifier, HeadCTClassifier]
    own: tuple[onnx.ModelProto, onnx.ModelProto]
    shared: onnx.ModelProto
    tensors: tuple[Tensors, Tensors]
    volumes: npt.NDArray[np.float16]


def train_at_random(model: HeadCTClassifier, seed: int) -> HeadCTClassifier:
    """The model with other experts, routers, pooling and head; its backbone stays."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            expert = name.endswith(("lora_A", "lora_B"))
            if expert or not name.startswith("backbone."):
                value.normal_(std=0.2 if expert else 0.5 / max(value.shape[-1], 1) ** 0.5)
        for router in model.routers:
            if router.standardise:
                router.mean.normal_(std=0.1)
                router.std.uniform_(0.5, 2.0)
    return model


@cache
def twins(name: str) -> Twins:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = default_config(name, adapter="molre", findings=FINDINGS)
        modules = BACKBONES[name] or config.adapter.modules
        config = replace(
            config,
            adapter=AdapterConfig(modules=modules, experts=EXPERTS, rank=RANK, alpha=6.0),
            router=replace(config.router, temperature=0.7),
            budget=1e3,
        )
        first = train_at_random(HeadCTClassifier(config).eval(), 1)
        second = train_at_random(copy.deepcopy(first), 2)
    shared = export_fp32(first, INPUTS)
    check_graph(shared, first, INPUTS)
    volumes = np.stack([extreme_volume(config.grid, seed) for seed in range(2)])
    return Twins(
        (first, second),
        (export_fp32(first), export_fp32(second)),
        shared,
        (trained_tensors(first), trained_tensors(second)),
        volumes,
    )


def answers(
    graph: onnx.ModelProto, volumes: npt.NDArray[np.float16], adapter: Tensors | None = None, *, half: bool = False
) -> Outputs:
    precision = Precision.FP16 if half else Precision.FP32
    raw = (rounding_copy(graph) if half else graph).SerializeToString()
    with OnnxRuntimeRunner(raw, precision, optimise=not half, cpu_only=True, adapter=adapter) as runner:
        return runner.run(volumes).outputs


def difference(one: Outputs, other: Outputs) -> float:
    assert one.gates is not None and other.gates is not None
    pairs = ((one.logits, other.logits), (one.gates, other.gates), (one.embedding, other.embedding))
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in pairs)


@pytest.mark.parametrize("name", BACKBONES)
def test_two_trainings_on_one_graph_answer_as_their_own_graphs_do(name: str) -> None:
    both = twins(name)
    expected = [answers(own, both.volumes) for own in both.own]
    assert difference(*expected) > 0.01
    with OnnxRuntimeRunner(both.shared.SerializeToString(), Precision.FP32, cpu_only=True) as runner:
        for place in (0, 1, 0, 1):  # swapped call by call
            runner.use_adapter(both.tensors[place])
            assert difference(runner.run(both.volumes).outputs, expected[place]) <= 1e-6
