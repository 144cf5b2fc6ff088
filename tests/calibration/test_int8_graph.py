from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.int8_graph import add_qdq, check_qdq, int8_graph
from molre_edge.calibration.layers import Layer
from molre_edge.errors import CalibrationError


@pytest.fixture
def chosen(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return tuple(layer for layer in layers if not layer.excluded)


@pytest.fixture
def clipping(chosen: tuple[Layer, ...]) -> dict[str, float]:
    return dict.fromkeys((layer.activation for layer in chosen), 4.0)


@pytest.fixture
def int8(model: IndexedModel, chosen: tuple[Layer, ...], clipping: dict[str, float]) -> IndexedModel:
    return int8_graph(model, chosen, clipping)


def scales(model: IndexedModel, name: str) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Of a layer's input and of its weight."""
    node = next(node for node in model.nodes if node.name == name)
    makers = [model.links.maker(name) for name in node.input[:2]]
    assert all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)
    first, second = (model.array(maker.input[1]) for maker in makers if maker is not None)
    return first, second


def test_every_chosen_layer_has_one_scale_for_its_input_and_one_an_output_channel(
    model: IndexedModel, int8: IndexedModel, chosen: tuple[Layer, ...]
) -> None:
    for layer in chosen:
        weight = model.array(layer.weight)
        channels = weight.shape[0] if layer.op == "Conv" else weight.shape[1]
        joined = any(node.name == f"{layer.node}__1" for node in int8.nodes)  # an attention's three
        channels //= 3 if joined else 1
        of_input, of_weight = scales(int8, f"{layer.node}__1" if joined else layer.node)
        assert (of_input.shape, of_input.dtype) == ((), np.float16)
        assert of_input == pytest.approx(4.0 / 127, rel=0.01)
        assert of_weight.shape == (channels,)


def test_routers_and_adapters_read_what_was_not_rounded(model: IndexedModel, int8: IndexedModel) -> None:
    rounding = {node.output[0] for node in int8.nodes if node.op_type == "DequantizeLinear"}
    for softmax in int8.router_softmaxes:
        near = int8.links.upstream([softmax.input[0]], stop=("MatMul", "Softmax", "DequantizeLinear"))
        assert not near & rounding
    assert model.router_softmaxes


def test_only_chosen_layers_are_quantised_though_others_read_the_same_value(
    model: IndexedModel, chosen: tuple[Layer, ...], clipping: dict[str, float]
) -> None:
    one = [layer for layer in chosen if layer.label == "block 1, attention output"]
    assert len(model.links.readers(one[0].activation)) == 3  # the adapter and the router read it too
    made = add_qdq(model, one, clipping)
    check_qdq(made, {one[0].node})
    assert [node.op_type for node in made.nodes].count("QuantizeLinear") == 1
    assert not any(node.op_type == "Identity" for node in made.nodes)


def test_opset_ir_version_and_tensors_are_what_every_target_reads(int8: IndexedModel) -> None:
    graph = int8.model
    assert (graph.opset_import[0].version, graph.ir_version <= 10) == (20, True)
    assert {entry.domain for entry in graph.opset_import} <= {"", "ai.onnx"}
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert {o.type.tensor_type.elem_type for o in graph.graph.output} == {onnx.TensorProto.FLOAT}


def test_no_layer_chosen_is_no_layer_quantised(model: IndexedModel) -> None:
    assert add_qdq(model, [], {}).model == model.model


def test_a_scale_with_an_axis_a_zero_point_or_a_foreign_reader_is_refused(
    int8: IndexedModel, chosen: tuple[Layer, ...]
) -> None:
    joined = [layer.node for layer in chosen if layer.label.endswith("attention input")]
    names = {layer.node for layer in chosen} - set(joined) | {f"{node}__{i}" for node in joined for i in (1, 2, 3)}
    check_qdq(int8, names)
    quantizer = next(node for node in int8.nodes if node.op_type == "QuantizeLinear")

    def altered(name: str, value: np.ndarray) -> IndexedModel:  # type: ignore[type-arg]
        copy = onnx.load_from_string(int8.serialize())
        tensor = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(value, name))
        return IndexedModel(copy)

    with pytest.raises(CalibrationError, match="without axes"):
        check_qdq(altered(quantizer.input[1], np.array([0.1], np.float16)), names)
    with pytest.raises(CalibrationError, match="zero points of 0"):
        check_qdq(altered(quantizer.input[2], np.array(3, np.int8)), names)
    with pytest.raises(CalibrationError, match="expected one reader"):
        check_qdq(int8, names - {chosen[0].node})
    with pytest.raises(CalibrationError, match="without INT8: other"):
        check_qdq(int8, names | {"other"})
