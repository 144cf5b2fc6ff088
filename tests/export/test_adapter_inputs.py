"""A graph whose trained tensors are inputs answers for every training of its backbone as that one's own graph does."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from molre_edge.adapters.tensors import Tensors, fit_tensors
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import find_layers
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import ExportError
from molre_edge.export.attention import attention_products, unfuse_attention
from molre_edge.export.golden import extreme_volume
from molre_edge.export.graph import INPUTS, check_graph, export_fp32, graph_facts
from molre_edge.export.half import check_half, float32_islands, to_half
from molre_edge.export.links import Links
from molre_edge.export.rounding import rounding_copy
from molre_edge.export.routing_proof import with_even_gates
from molre_edge.export.routing_trace import RouterTrace, router_softmaxes, trace_routers
from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import AdapterConfig
from molre_edge.model.defaults import default_config
from molre_edge.model.trained import trained_specs, trained_tensors
from molre_edge.parity import Outputs
from molre_edge.specs import Precision

Volumes = npt.NDArray[np.float16]
ExportModel = Callable[[str], tuple[HeadCTClassifier, onnx.ModelProto]]

FINDINGS = ("intraparenchymal_hemorrhage", "midline_shift", "hydrocephalus")
BACKBONES = {
    "dinov3-tiny": ("attention.o_proj", "patch_embeddings", "pooling.project", "head"),
    "convnet2d-small": (),
    "ct-fm-tiny": (),
    "headct-vit3d-tiny": (),
}
"""Backbones and what is adapted in them; none for the default."""
EXPERTS, RANK = 3, 4


@dataclass(frozen=True)
class Twins:
    """Two trainings of one backbone: own graphs (the second's only where many are made), and one graph for both."""

    models: tuple[HeadCTClassifier, HeadCTClassifier]
    own: tuple[onnx.ModelProto, ...]
    shared: onnx.ModelProto
    tensors: tuple[Tensors, Tensors]
    volumes: Volumes


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
        if name.startswith("convnet"):
            config = replace(config, grid=replace(config.grid, slices=4, rows=32, cols=32))
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


def of_pytorch(model: HeadCTClassifier, volumes: Volumes) -> Outputs:
    with TorchRunner(model, device="cpu") as runner:
        return runner.run(volumes).outputs


def trace(graph: onnx.ModelProto, model: HeadCTClassifier) -> list[RouterTrace]:
    adapter = model.config.adapter
    layers = sum(isinstance(module, AdaptedLayer) for module in model.modules())
    return trace_routers(graph, routers=len(model.routers), layers=layers, experts=adapter.experts, rank=adapter.rank)


@pytest.fixture(scope="session")
def of_slices(export_model: ExportModel, volumes: Volumes) -> Twins:
    """Twins of the model "slice" of these tests: one more export."""
    first, own = export_model("slice")
    with torch.random.fork_rng(devices=[]):
        second = train_at_random(copy.deepcopy(first), 2)
    shared = export_fp32(first, INPUTS)
    return Twins((first, second), (own,), shared, (trained_tensors(first), trained_tensors(second)), volumes[:3])


@pytest.fixture
def both(of_slices: Twins) -> Twins:
    """The same with a shared graph to alter."""
    shared = onnx.ModelProto()
    shared.CopyFrom(of_slices.shared)
    return replace(of_slices, shared=shared)


def test_one_graph_answers_for_each_training_call_by_call(both: Twins) -> None:
    check_graph(both.shared, both.models[0], INPUTS)
    expected = [answers(both.own[0], both.volumes), of_pytorch(both.models[1], both.volumes)]
    assert difference(*expected) > 0.01
    with OnnxRuntimeRunner(both.shared.SerializeToString(), Precision.FP32, cpu_only=True) as runner:
        for place, most in ((0, 1e-6), (1, 1e-5), (0, 1e-6)):
            runner.use_adapter(both.tensors[place])
            for size in (1, 3):
                made = runner.run(both.volumes[:size]).outputs
                assert difference(made, expected[place].take(range(size))) <= most


@pytest.mark.nightly
@pytest.mark.parametrize("name", BACKBONES)
def test_two_trainings_on_one_graph_answer_as_their_own_graphs_do(name: str) -> None:
    both = twins(name)
    expected = [answers(own, both.volumes) for own in both.own]
    assert difference(*expected) > 0.01
    with OnnxRuntimeRunner(both.shared.SerializeToString(), Precision.FP32, cpu_only=True) as runner:
        for place in (0, 1, 0, 1):
            runner.use_adapter(both.tensors[place])
            assert difference(runner.run(both.volumes).outputs, expected[place]) <= 1e-6


def check_float16(both: Twins) -> None:
    shared = to_half(both.shared, both.models[0], both.tensors[0])
    check_half(shared, float32_islands(both.shared))
    for own, tensors in zip(both.own, both.tensors, strict=False):
        expected = answers(to_half(own), both.volumes, half=True)
        made = answers(shared, both.volumes, tensors, half=True)
        assert made.gates is not None and expected.gates is not None
        assert np.abs(made.gates - expected.gates).sum(-1).max() < 0.01
        assert np.abs(1 / (1 + np.exp(-made.logits)) - 1 / (1 + np.exp(-expected.logits))).max() < 0.01


def test_in_float16_it_answers_as_the_own_graph_within_the_limits(both: Twins) -> None:
    check_float16(both)


@pytest.mark.nightly
@pytest.mark.parametrize("name", BACKBONES)
def test_so_does_every_kind_of_backbone(name: str) -> None:
    check_float16(twins(name))


def check_routers(both: Twins) -> None:
    expected = [len(router.layers) for router in trace(both.own[0], both.models[0])]
    for graph in (both.shared, to_half(both.shared)):
        assert [len(router.layers) for router in trace(graph, both.models[0])] == expected


def test_every_router_is_proved_to_read_the_scan_in_both_precisions(both: Twins) -> None:
    check_routers(both)


@pytest.mark.nightly
@pytest.mark.parametrize("name", BACKBONES)
def test_so_is_every_router_of_every_kind_of_backbone(name: str) -> None:
    check_routers(twins(name))


def test_an_adapter_gives_pytorch_the_answers_of_its_own_model(both: Twins) -> None:
    model = copy.deepcopy(both.models[0])
    expected = of_pytorch(both.models[1], both.volumes)
    with TorchRunner(model, device="cpu") as runner:
        runner.use_adapter(both.tensors[1])
        assert difference(runner.run(both.volumes).outputs, expected) <= 1e-5
    again = trained_tensors(model)
    assert all(np.array_equal(again[name], value) for name, value in both.tensors[1].items())


def test_exporting_leaves_the_model_as_it_was(both: Twins, draw: Callable[..., HeadCTClassifier]) -> None:
    model, fresh = both.models[0], draw(modules=("attention.o_proj", "pooling.project", "head"))
    assert [*model.state_dict()] == [*fresh.state_dict()]
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())
    layers = [module for module in model.modules() if isinstance(module, AdaptedLayer)]
    assert {layer.scale for layer in layers} == {model.config.adapter.alpha / model.config.adapter.rank} != {1.0}
    assert {router.standardise for router in model.routers} == {False}


def test_the_inputs_are_the_volume_and_all_that_was_trained_sorted_by_name(both: Twins) -> None:
    facts = graph_facts(both.shared, "graphs/fp32.onnx")
    names = [spec.name for spec in facts.adapter_inputs]
    assert facts.inputs[0].name == "volume" and names == sorted(names) == list(both.tensors[0])
    assert facts.adapter_inputs == trained_specs(both.models[0])
    for name in ("backbone.layer.1.attention.o_proj.A", "pooling.project.B", "head.bias", "routers.0.std"):
        assert f"adapter.{name}" in names
    constants = [tensor.name for tensor in both.shared.graph.initializer]
    assert not [name for name in constants if any(word in name for word in ("lora", "router", "head", "pooling"))]


def test_experts_and_pooling_come_in_float16_routers_and_head_in_float32_and_none_is_cast(both: Twins) -> None:
    half = to_half(both.shared)
    kinds = {spec.name: spec.dtype for spec in graph_facts(half, "").adapter_inputs}
    single = {name for name, kind in kinds.items() if kind == "float32"}
    routers = {name for name in kinds if name.startswith("adapter.routers.")}
    assert single == routers | {"adapter.head.weight", "adapter.head.bias", "adapter.head.B"}
    assert not [node for node in half.graph.node if node.op_type == "Cast" and node.input[0] in kinds]


def test_an_expert_beyond_float16_is_refused_by_name_and_a_router_is_not(both: Twins) -> None:
    def with_value(name: str) -> Tensors:
        return {**both.tensors[0], name: both.tensors[0][name] + np.float32(7e4)}

    to_half(both.shared, trained=with_value("adapter.routers.0.fc1.weight"))
    with pytest.raises(ExportError, match=r"adapter\.head\.A reaches 7e\+04, .* \(--precision fp32\)"):
        to_half(both.shared, trained=with_value("adapter.head.A"))


def test_a_router_that_reads_nothing_but_the_adapter_is_refused(both: Twins) -> None:
    softmax = router_softmaxes(both.shared)[0]
    bias = next(name for name in both.tensors[0] if name.endswith("routers.0.fc2.bias"))
    rows = helper.make_node("Expand", [bias, "their_shape"], ["scores_of_the_adapter"], name="rows")
    shape = helper.make_node("Shape", [softmax.input[0]], ["their_shape"], name="shape")
    place = [node.name for node in both.shared.graph.node].index(softmax.name)
    both.shared.graph.node.insert(place, shape)
    both.shared.graph.node.insert(place + 1, rows)
    both.shared.graph.node[place + 2].input[0] = "scores_of_the_adapter"
    onnx.checker.check_model(both.shared, full_check=True)
    with pytest.raises(ExportError, match=f"router {softmax.name} does not depend on the input's values"):
        trace(both.shared, both.models[0])


def test_experts_that_are_not_wide_enough_are_refused(both: Twins) -> None:
    with pytest.raises(ExportError, match=r"multiply no stacked experts \(3 x 5 wide\)"):
        trace_routers(both.shared, routers=len(both.models[0].routers), layers=4, experts=3, rank=5)


def test_gates_can_be_made_even(both: Twins) -> None:
    even = answers(with_even_gates(both.shared), both.volumes, both.tensors[0])
    assert even.gates is not None
    np.testing.assert_allclose(even.gates, 1 / 3, atol=1e-6)


def test_products_with_experts_are_no_attention_and_no_layers_of_int8(both: Twins) -> None:
    own, shared = both.own[0], both.shared
    found = [len(attention_products(graph, Links(graph))) for graph in (own, shared)]
    assert found == [2, 2]
    layers = find_layers(IndexedModel(shared), trace(shared, both.models[0]))
    places = Counter((layer.block, layer.role.rstrip(" 0123456789")) for layer in layers)
    of_own = find_layers(IndexedModel(own), trace(own, both.models[0]))
    more = Counter((layer.block, layer.role.rstrip(" 0123456789")) for layer in of_own) - places
    assert sum(more.values()) == len(of_own) - len(layers)  # the others are the same, block by block
    trained = {"down projection", "up projection", "router", "head", "pooling"}
    assert {role for _, role in more} - trained == {"MLP, first"}  # the frozen part of the adapted pooling
    assert not [layer for layer in layers if layer.weight in both.tensors[0]]


def test_attention_can_be_kept_from_fusing_there_too(both: Twins) -> None:
    before = answers(both.shared, both.volumes, both.tensors[0])
    assert unfuse_attention(both.shared) == 2
    check_graph(both.shared, both.models[0], INPUTS)
    assert np.array_equal(answers(both.shared, both.volumes, both.tensors[0]).logits, before.logits)


def lose_an_input(graph: onnx.ModelProto) -> None:
    """Turn a trained tensor into a constant."""
    value = graph.graph.input.pop()
    shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), value.name))


def widen_an_input(graph: onnx.ModelProto) -> None:
    graph.graph.input.append(helper.make_tensor_value_info("adapter.more", TensorProto.FLOAT, [3]))


def free_an_axis(graph: onnx.ModelProto) -> None:
    graph.graph.input[-1].type.tensor_type.shape.dim[0].dim_param = "width"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose_an_input, "expected \\['volume', 'adapter"),
        (widen_an_input, "expected \\['volume', 'adapter"),
        (free_an_axis, r"adapter\.routers\.\d+\.std: float32 \[batch\]: expected adapter"),
    ],
)
def test_a_graph_with_other_inputs_is_refused(
    spoil: Callable[[onnx.ModelProto], None], message: str, both: Twins
) -> None:
    spoil(both.shared)
    with pytest.raises(ExportError, match=message):
        check_graph(both.shared, both.models[0], INPUTS)


def test_the_tensors_of_a_model_fit_its_graph(both: Twins) -> None:
    specs = graph_facts(both.shared, "").adapter_inputs
    assert list(fit_tensors(both.tensors[1], specs, "the graph")) == [spec.name for spec in specs]
