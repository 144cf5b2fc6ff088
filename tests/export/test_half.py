"""The float16 graph computes in float16, but for its islands, and its answers leave it unrounded."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.errors import ExportError
from molre_edge.export.graph import graph_facts
from molre_edge.export.half import check_half, float32_islands, to_half
from molre_edge.export.routing_trace import router_softmaxes
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.specs import Precision

ExportModel = Callable[[str], tuple[HeadCTClassifier, onnx.ModelProto]]


def types(graph: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value."""
    inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    found |= {value.name: value.type.tensor_type.elem_type for value in inferred.input}
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def test_the_volume_comes_in_float16_and_answers_leave_in_float32(half: onnx.ModelProto) -> None:
    facts = graph_facts(half, "graphs/fp16.onnx")
    assert [spec.dtype for spec in facts.inputs] == ["float16"]
    assert {spec.name: spec.dtype for spec in facts.outputs} == dict.fromkeys(
        ["logits", "gates", "embedding", "attention"], "float32"
    )
    assert (facts.opset, facts.ir_version <= 10) == (20, True)


def test_weights_are_float16_outside_the_islands(graph: onnx.ModelProto, half: onnx.ModelProto) -> None:
    islands = float32_islands(graph)
    kind = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    products = [node for node in half.graph.node if node.op_type in {"MatMul", "Gemm", "Conv"}]
    weights = {node.name: kind[node.input[1]] for node in products if node.input[1] in kind}
    wide = {name for name, type_ in weights.items() if type_ == TensorProto.FLOAT}
    assert wide == set(weights) & set(islands)
    assert len(wide) == 2 + 2 * 4  # the head and, as it is adapted, its up projection; both layers of each router
    assert len(weights) > 20
    assert sum(t.ByteSize() for t in half.graph.initializer) < 0.55 * sum(t.ByteSize() for t in graph.graph.initializer)


def test_norms_routers_and_logits_are_float32_islands(graph: onnx.ModelProto, half: onnx.ModelProto) -> None:
    kinds = types(half)
    norms = [node for node in half.graph.node if node.op_type == "LayerNormalization"]
    means = [
        node for node in half.graph.node if node.op_type == "ReduceMean"
    ]  # the mean over tokens that a router reads
    logits = next(node for node in half.graph.node if "logits" in node.output)
    islands = [*norms, *means, *router_softmaxes(half), logits]
    assert len(islands) == 5 + 2 + 4 + 1
    for node in islands:
        assert {kinds[name] for name in (*node.input[:1], *node.output)} == {TensorProto.FLOAT}, node.name
    chosen = float32_islands(graph)
    rest = [node for node in half.graph.node if node.op_type in {"Gelu", "Tanh", "Conv"} and node.name not in chosen]
    assert [node.op_type for node in rest].count("Gelu") == 2  # of the blocks; the routers' are in the islands
    assert {kinds[node.output[0]] for node in rest} == {TensorProto.FLOAT16}


def test_logits_and_gates_are_not_rounded_on_their_way_out(
    half: onnx.ModelProto, volumes: npt.NDArray[np.float16]
) -> None:
    with OnnxRuntimeRunner(half.SerializeToString(), Precision.FP16, optimise=False, cpu_only=True) as runner:
        outputs = runner.run(volumes).outputs
    assert outputs.gates is not None
    for values in (outputs.logits, outputs.gates):
        assert (values != values.astype(np.float16)).mean() > 0.5
    makers = {name: node for node in half.graph.node for name in node.output}
    assert {makers[name].op_type for name in ("logits", "gates")} == {"Add", "Concat"}


def test_no_value_goes_to_float16_and_back_between_two_islands(half: onnx.ModelProto) -> None:
    makers = {name: node for node in half.graph.node for name in node.output}
    kinds = types(half)
    for node in half.graph.node:
        before = makers.get(node.input[0]) if node.op_type == "Cast" else None
        if before is not None and before.op_type == "Cast":
            assert kinds[before.input[0]] != TensorProto.FLOAT, f"{before.name}, {node.name}"


@pytest.mark.parametrize(
    ("name", "products"),
    [("slice", 2 + 8), ("volume", 2 + 8), ("token", 1 + 8), ("lora", 1), ("frozen", 1), ("standardised", 2 + 6)],
)
def test_every_model_has_its_logits_and_routers_in_float32(name: str, products: int, export_model: ExportModel) -> None:
    _, graph = export_model(name)
    islands = float32_islands(graph)
    chosen = [node for node in graph.graph.node if node.name in islands]
    assert sum(node.op_type in {"Gemm", "MatMul"} for node in chosen) == products
    half = to_half(graph)
    check_half(half, islands)
    makers = {name: node for node in half.graph.node for name in node.output}
    assert types(half)[makers["logits"].input[0]] == TensorProto.FLOAT


@pytest.mark.parametrize(("name", "routers"), [("standardised", 3), ("standardised token", 2)])
def test_what_standardises_a_router_is_in_its_island_constants_included(
    name: str, routers: int, export_model: ExportModel
) -> None:
    _, graph = export_model(name)
    half = to_half(graph)
    check_half(half, float32_islands(graph))
    kinds = types(half)
    makers = {value: node for node in half.graph.node for value in node.output}
    for softmax in router_softmaxes(half):
        value, found = softmax.input[0], list[str]()
        while value in makers and "Sub" not in found:
            node = makers[value]
            found.append(node.op_type)
            assert {kinds[each] for each in node.input if each in kinds} - {TensorProto.INT64} == {TensorProto.FLOAT}
            value = next(each for each in node.input if each in makers)
        assert found[-2:] == ["Div", "Sub"]
    assert len(router_softmaxes(half)) == routers


def test_small_weights_keep_the_nearest_half(graph: onnx.ModelProto) -> None:
    tensor = next(t for t in graph.graph.initializer if t.name.endswith("patch_embeddings.weight"))
    weights = numpy_helper.to_array(tensor).copy()
    weights[0, 0, 0, :4] = (6.1e-8, -9e-8, 3e-7, 0.0)
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    converted = next(t for t in to_half(graph).graph.initializer if t.name == tensor.name)
    assert np.array_equal(numpy_helper.to_array(converted), weights.astype(np.float16))


def with_value(graph: onnx.ModelProto, name: str, value: float) -> onnx.ModelProto:
    """The graph with a value in one of its weights."""
    tensor = next(t for t in graph.graph.initializer if t.name.endswith(name))
    weights = numpy_helper.to_array(tensor).copy()
    weights[0, 0] = value
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    return graph


def test_a_weight_beyond_float16_is_refused_by_its_name_in_the_model(graph: onnx.ModelProto) -> None:
    words = r"the weight backbone\.embeddings\.patch_embeddings\.weight reaches 7e\+04, .* 65504 at most"
    with pytest.raises(ExportError, match=words):
        to_half(with_value(graph, "patch_embeddings.weight", -7e4))


def test_a_weight_that_the_simplifier_renamed_is_refused_by_its_name_in_the_model(export_model: ExportModel) -> None:
    model, graph = export_model("slice")
    read = {name for node in graph.graph.node if node.op_type == "MatMul" for name in node.input}
    renamed = next(t.name for t in graph.graph.initializer if t.name in read and "." not in t.name)
    with torch.no_grad():
        model = copy.deepcopy(model)
        model.get_submodule("backbone.layer.1.mlp.up_proj").weight[3, 5] = 7e4
    with pytest.raises(ExportError, match=r"the weight backbone\.layer\.1\.mlp\.up_proj\.weight reaches 7e\+04"):
        to_half(with_value(graph, renamed, 7e4), model)
    with pytest.raises(ExportError, match=f"the weight {renamed} reaches 7e"):
        to_half(graph)


def test_a_weight_that_stays_float32_is_not_refused(graph: onnx.ModelProto) -> None:
    half = to_half(with_value(graph, "routers.0.fc1.weight", -7e4))
    weight = next(t for t in half.graph.initializer if t.name.endswith("routers.0.fc1.weight"))
    assert weight.data_type == TensorProto.FLOAT and numpy_helper.to_array(weight)[0, 0] == np.float32(-7e4)


def test_conversion_leaves_the_float32_graph_as_it_was(graph: onnx.ModelProto) -> None:
    before = graph.SerializeToString()
    to_half(graph)
    assert graph.SerializeToString() == before


def test_a_float32_graph_does_not_pass_for_a_float16_one(graph: onnx.ModelProto) -> None:
    with pytest.raises(ExportError, match=r"has \d+ products with float32 weights, such as node_"):
        check_half(graph, float32_islands(graph))


def test_an_output_in_float16_is_refused(half: onnx.ModelProto, graph: onnx.ModelProto) -> None:
    onnx.checker.check_model(half, full_check=True)
    cast = next(node for node in half.graph.node if "embedding" in node.output)
    cast.attribute[0].i = TensorProto.FLOAT16
    half.graph.output[2].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(ExportError, match="expected embedding in float32"):
        check_half(half, float32_islands(graph))


def test_a_graph_whose_logits_are_no_product_is_refused(graph: onnx.ModelProto) -> None:
    for node in graph.graph.node:
        node.op_type = "Identity"
        del node.input[1:]
    with pytest.raises(ExportError, match="no product that makes 'logits'"):
        float32_islands(graph)
