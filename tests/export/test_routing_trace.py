"""The structure of a graph shows whether its routers read the scan and mix the experts of every adapted layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from molre_edge.errors import ExportError
from molre_edge.export.half import to_half
from molre_edge.export.routing_trace import router_softmaxes, trace_routers
from molre_edge.model.classifier import HeadCTClassifier

ExportModel = Callable[[str], tuple[HeadCTClassifier, onnx.ModelProto]]


def trace(graph: onnx.ModelProto, *, routers: int = 4, layers: int = 4, experts: int = 3, rank: int = 4) -> list[int]:
    """Number of layers that each router reaches; the defaults are those of the model "slice"."""
    found = trace_routers(graph, routers=routers, layers=layers, experts=experts, rank=rank)
    return [len(router.layers) for router in found]


def named(graph: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in graph.graph.node if node.name == name)


def remove(graph: onnx.ModelProto, node: onnx.NodeProto) -> None:
    kept = [other for other in graph.graph.node if other.name != node.name]
    del graph.graph.node[:]
    graph.graph.node.extend(kept)


def rewire(graph: onnx.ModelProto, old: str, new: str) -> None:
    """Let all readers of a value read another one."""
    for node in graph.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def constant(graph: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> str:
    graph.graph.initializer.append(numpy_helper.from_array(np.full(shape, 1 / 3, np.float32), name))
    return name


def gating_of(graph: onnx.ModelProto, router: int) -> onnx.NodeProto:
    """The Mul in which a router's gates meet its experts."""
    return named(graph, trace_routers(graph, routers=4, layers=4, experts=3, rank=4)[router].layers[0])


@pytest.mark.parametrize(
    ("name", "settings", "reached"),
    [
        ("slice", {}, [1, 1, 1, 1]),
        ("volume", {"experts": 4, "rank": 16}, [1, 1, 1, 1]),
        ("token", {}, [1, 1, 1, 1]),
        ("one router for all", {"routers": 1, "layers": 2}, [2]),
        ("convolution", {"routers": 1, "layers": 1}, [1]),
    ],
)
def test_every_router_is_found_with_its_layers_in_both_graphs(
    name: str, settings: dict[str, int], reached: list[int], export_model: ExportModel
) -> None:
    _, graph = export_model(name)
    assert trace(graph, **settings) == reached
    assert trace(to_half(graph), **settings) == reached


@pytest.mark.parametrize("name", ["lora", "frozen"])
def test_models_without_routing_have_no_router(name: str, export_model: ExportModel) -> None:
    assert router_softmaxes(export_model(name)[1]) == []


def test_the_softmax_of_attention_is_no_router(graph: onnx.ModelProto) -> None:
    softmaxes = [node.name for node in graph.graph.node if node.op_type == "Softmax"]
    assert len(softmaxes) == 7  # two of attention, one of pooling, four routers
    assert len(router_softmaxes(graph)) == 4


def test_a_folded_router_is_refused(graph: onnx.ModelProto) -> None:
    router = router_softmaxes(graph)[1]
    constant(graph, router.output[0], (3, 3))
    remove(graph, router)
    with pytest.raises(ExportError, match=r"found 3 router softmaxes on the way to 'gates', expected 4\. A folded"):
        trace(graph)


def test_a_router_fed_by_a_constant_is_refused(graph: onnx.ModelProto) -> None:
    router = router_softmaxes(graph)[0]
    router.input[0] = constant(graph, "always", (3, 3))
    with pytest.raises(ExportError, match=f"router {router.name} does not depend on the input's values"):
        trace(graph)


def test_a_router_that_sees_no_more_than_the_batchs_size_is_refused(graph: onnx.ModelProto) -> None:
    router = router_softmaxes(graph)[3]
    shape = helper.make_node("Shape", [router.input[0]], ["its_shape"], name="its_shape")
    spread = helper.make_node("Expand", [constant(graph, "always", (1, 3)), "its_shape"], ["spread"], name="spread")
    place = [node.name for node in graph.graph.node].index(router.name)
    graph.graph.node.insert(place, shape)
    graph.graph.node.insert(place + 1, spread)
    graph.graph.node[place + 2].input[0] = "spread"
    onnx.checker.check_model(graph, full_check=True)
    with pytest.raises(ExportError, match="does not depend on the input's values"):
        trace(graph)


def test_merged_experts_are_refused(graph: onnx.ModelProto) -> None:
    gating = gating_of(graph, 1)
    remove(graph, gating)
    rewire(graph, gating.output[0], gating.input[0])  # the experts' activations go on without their gates
    with pytest.raises(ExportError, match=r"multiply no stacked experts \(3 x 4 wide\) on the way to the logits"):
        trace(graph)


def test_gates_that_reach_only_some_of_a_routers_layers_are_refused(export_model: ExportModel) -> None:
    _, graph = export_model("one router for all")
    (router,) = trace_routers(graph, routers=1, layers=2, experts=3, rank=4)
    gating = named(graph, router.layers[1])
    remove(graph, gating)
    rewire(graph, gating.output[0], gating.input[0])
    with pytest.raises(ExportError, match=r"gates reach 1 adapted layers, the model has 2\. Were experts merged"):
        trace(graph, routers=1, layers=2)


def test_gates_in_a_branch_that_leads_nowhere_do_not_count(graph: onnx.ModelProto) -> None:
    gating = gating_of(graph, 3)
    up = next(node for node in graph.graph.node if gating.output[0] in node.input)
    up.input[0] = gating.input[0]
    decoy = helper.make_node("Gemm", [gating.output[0], up.input[1]], ["nowhere"], name="decoy", transB=1)
    graph.graph.node.append(decoy)
    with pytest.raises(ExportError, match="multiply no stacked experts"):
        trace(graph)


def test_gates_that_multiply_something_else_than_experts_are_refused(graph: onnx.ModelProto) -> None:
    gating = gating_of(graph, 0)
    down = next(node for node in graph.graph.node if node.output[0] in gating.input and node.op_type == "MatMul")
    for tensor in graph.graph.initializer:
        if tensor.name == down.input[1]:
            wide = numpy_helper.to_array(tensor)[:, :6]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(wide), tensor.name))
    with pytest.raises(ExportError, match="multiply no stacked experts"):
        trace(graph)


@pytest.mark.parametrize(("weight", "part"), [("head.lora_A", np.s_[:60]), ("head.lora_B", np.s_[:64, :60])])
def test_width_is_looked_for_on_the_right_axis_of_both_products(
    weight: str, part: tuple[slice, ...], export_model: ExportModel
) -> None:
    """4 experts of rank 16 are as wide as the model, 64: a weight's other axis would fit as well."""
    _, graph = export_model("volume")
    for tensor in graph.graph.initializer:
        if tensor.name.endswith(weight):
            narrow = numpy_helper.to_array(tensor)[part]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(narrow), tensor.name))
    with pytest.raises(ExportError, match=r"multiply no stacked experts \(4 x 16 wide\)"):
        trace(graph, experts=4, rank=16)


def test_a_graph_without_gates_is_refused(graph: onnx.ModelProto) -> None:
    del graph.graph.output[1]
    with pytest.raises(ExportError, match="found 0 router softmaxes"):
        trace(graph)
