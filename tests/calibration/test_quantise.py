from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from molre_edge.calibration.layers import Layer
from molre_edge.calibration.quantise import check_int8, int8_graph, with_qdq
from molre_edge.errors import CalibrationError
from molre_edge.export.links import Links
from molre_edge.export.routing_trace import router_softmaxes


@pytest.fixture
def chosen(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return tuple(layer for layer in layers if not layer.barred)


@pytest.fixture
def limits(chosen: tuple[Layer, ...]) -> dict[str, float]:
    return dict.fromkeys((layer.activation for layer in chosen), 4.0)


@pytest.fixture
def int8(graph: onnx.ModelProto, chosen: tuple[Layer, ...], limits: dict[str, float]) -> onnx.ModelProto:
    return int8_graph(graph, chosen, limits)


def scales(graph: onnx.ModelProto, name: str) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Of a layer's input and of its weight."""
    links, constants = Links(graph), {tensor.name: tensor for tensor in graph.graph.initializer}
    node = next(node for node in graph.graph.node if node.name == name)
    makers = [links.maker(name) for name in node.input[:2]]
    assert all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)
    first, second = (numpy_helper.to_array(constants[maker.input[1]]) for maker in makers if maker is not None)
    return first, second


def test_every_chosen_layer_has_one_scale_for_its_input_and_one_an_output_channel(
    graph: onnx.ModelProto, int8: onnx.ModelProto, chosen: tuple[Layer, ...]
) -> None:
    for layer in chosen:
        weight = next(numpy_helper.to_array(t) for t in graph.graph.initializer if t.name == layer.weight)
        channels = weight.shape[0] if layer.op == "Conv" else weight.shape[1]
        joined = any(node.name == f"{layer.node}__1" for node in int8.graph.node)  # an attention's three
        channels //= 3 if joined else 1
        of_input, of_weight = scales(int8, f"{layer.node}__1" if joined else layer.node)
        assert (of_input.shape, of_input.dtype) == ((), np.float16)
        assert of_input == pytest.approx(4.0 / 127, rel=0.01)
        assert of_weight.shape == (channels,)


def test_routers_and_adapters_read_what_was_not_rounded(graph: onnx.ModelProto, int8: onnx.ModelProto) -> None:
    links = Links(int8)
    rounding = {node.output[0] for node in int8.graph.node if node.op_type == "DequantizeLinear"}
    for softmax in router_softmaxes(int8):
        near = links.upstream([softmax.input[0]], stop=("MatMul", "Softmax", "DequantizeLinear"))
        assert not near & rounding
    assert router_softmaxes(graph)


def test_only_chosen_layers_are_quantised_though_others_read_the_same_value(
    graph: onnx.ModelProto, chosen: tuple[Layer, ...], limits: dict[str, float]
) -> None:
    one = [layer for layer in chosen if layer.label == "block 1, attention output"]
    assert len(Links(graph).readers(one[0].activation)) == 3  # the adapter and the router read it too
    made = with_qdq(graph, one, limits)
    check_int8(made, {one[0].node})
    assert [node.op_type for node in made.graph.node].count("QuantizeLinear") == 1
    assert not any(node.op_type == "Identity" for node in made.graph.node)


def test_opset_ir_version_and_tensors_are_what_every_target_reads(int8: onnx.ModelProto) -> None:
    assert (int8.opset_import[0].version, int8.ir_version <= 10) == (20, True)
    assert {entry.domain for entry in int8.opset_import} <= {"", "ai.onnx"}
    assert int8.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert {o.type.tensor_type.elem_type for o in int8.graph.output} == {onnx.TensorProto.FLOAT}


def test_no_layer_chosen_is_no_layer_quantised(graph: onnx.ModelProto) -> None:
    assert with_qdq(graph, [], {}) == graph


def test_a_scale_with_an_axis_a_zero_point_or_a_foreign_reader_is_refused(
    int8: onnx.ModelProto, chosen: tuple[Layer, ...]
) -> None:
    joined = [layer.node for layer in chosen if layer.label.endswith("attention input")]
    names = {layer.node for layer in chosen} - set(joined) | {f"{node}__{i}" for node in joined for i in (1, 2, 3)}
    check_int8(int8, names)
    quantizer = next(node for node in int8.graph.node if node.op_type == "QuantizeLinear")

    def altered(name: str, value: np.ndarray) -> onnx.ModelProto:  # type: ignore[type-arg]
        copy = onnx.load_from_string(int8.SerializeToString())
        tensor = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(value, name))
        return copy

    with pytest.raises(CalibrationError, match="without axes"):
        check_int8(altered(quantizer.input[1], np.array([0.1], np.float16)), names)
    with pytest.raises(CalibrationError, match="zero points of 0"):
        check_int8(altered(quantizer.input[2], np.array(3, np.int8)), names)
    with pytest.raises(CalibrationError, match="was not chosen"):
        check_int8(int8, names - {chosen[0].node})
    with pytest.raises(CalibrationError, match="without INT8: other"):
        check_int8(int8, names | {"other"})
