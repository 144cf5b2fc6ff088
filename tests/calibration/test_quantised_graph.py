from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.number_format import FORMATS, NumberFormat
from molre_edge.calibration.quantised_graph import Quantiser, check_qdq
from molre_edge.errors import CalibrationError


@pytest.fixture(params=list(FORMATS.values()), ids=list(FORMATS))
def number_format(request: pytest.FixtureRequest) -> NumberFormat:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def chosen(layers: tuple[Layer, ...], number_format: NumberFormat) -> tuple[Layer, ...]:
    return tuple(layer for layer in layers if not layer.excluded and layer.op in number_format.operators)


@pytest.fixture
def clipping(chosen: tuple[Layer, ...]) -> dict[str, float]:
    return dict.fromkeys((layer.activation for layer in chosen), 4.0)


@pytest.fixture
def made(
    model: IndexedModel, chosen: tuple[Layer, ...], clipping: dict[str, float], number_format: NumberFormat
) -> IndexedModel:
    return Quantiser(model, number_format).graph(chosen, clipping)


def scales(model: IndexedModel, name: str) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Of a layer's input and of its weight."""
    node = next(node for node in model.nodes if node.name == name)
    makers = [model.links.maker(name) for name in node.input[:2]]
    assert all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)
    first, second = (model.array(maker.input[1]) for maker in makers if maker is not None)
    return first, second


def test_every_chosen_layer_has_one_scale_for_its_input_and_one_an_output_channel(
    model: IndexedModel, made: IndexedModel, chosen: tuple[Layer, ...], number_format: NumberFormat
) -> None:
    for layer in chosen:
        weight = model.array(layer.weight)
        channels = weight.shape[0] if layer.op == "Conv" else weight.shape[1]
        joined = any(node.name == f"{layer.node}__1" for node in made.nodes)  # an attention's three
        channels //= 3 if joined else 1
        of_input, of_weight = scales(made, f"{layer.node}__1" if joined else layer.node)
        assert (of_input.shape, of_input.dtype) == ((), np.float16)
        assert of_input == pytest.approx(4.0 / number_format.largest, rel=0.01)
        assert of_weight.shape == (channels,)


def test_routers_and_adapters_read_what_was_not_rounded(model: IndexedModel, made: IndexedModel) -> None:
    rounding = {node.output[0] for node in made.nodes if node.op_type == "DequantizeLinear"}
    for softmax in made.router_softmaxes:
        near = made.links.upstream([softmax.input[0]], stop=("MatMul", "Softmax", "DequantizeLinear"))
        assert not near & rounding
    assert model.router_softmaxes


def test_only_chosen_layers_are_quantised_though_others_read_the_same_value(
    model: IndexedModel, chosen: tuple[Layer, ...], clipping: dict[str, float], number_format: NumberFormat
) -> None:
    one = [layer for layer in chosen if layer.label == "block 1, attention output"]
    assert len(model.links.readers(one[0].activation)) == 3  # the adapter and the router read it too
    made = Quantiser(model, number_format).add_qdq(one, clipping)
    check_qdq(made, {one[0].node}, number_format)
    assert [node.op_type for node in made.nodes].count("QuantizeLinear") == 1
    assert not any(node.op_type == "Identity" for node in made.nodes)


def test_opset_ir_version_and_tensors_are_what_every_target_reads(made: IndexedModel) -> None:
    graph = made.model
    assert (graph.opset_import[0].version, graph.ir_version <= 10) == (20, True)
    assert {entry.domain for entry in graph.opset_import} <= {"", "ai.onnx"}
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert {o.type.tensor_type.elem_type for o in graph.graph.output} == {onnx.TensorProto.FLOAT}


def test_no_layer_chosen_is_no_layer_quantised(model: IndexedModel, number_format: NumberFormat) -> None:
    assert Quantiser(model, number_format).add_qdq([], {}).model == model.model


def test_a_scale_with_an_axis_a_zero_point_or_a_foreign_reader_is_refused(
    made: IndexedModel, chosen: tuple[Layer, ...], number_format: NumberFormat
) -> None:
    joined = [layer.node for layer in chosen if layer.label.endswith("attention input")]
    names = {layer.node for layer in chosen} - set(joined) | {f"{node}__{i}" for node in joined for i in (1, 2, 3)}
    check_qdq(made, names, number_format)
    quantizer = next(node for node in made.nodes if node.op_type == "QuantizeLinear")

    def altered(name: str, value: np.ndarray) -> IndexedModel:  # type: ignore[type-arg]
        copy = onnx.load_from_string(made.serialize())
        tensor = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(value, name))
        return IndexedModel(copy)

    with pytest.raises(CalibrationError, match="without axes"):
        check_qdq(altered(quantizer.input[1], np.array([0.1], np.float16)), names, number_format)
    with pytest.raises(CalibrationError, match="zero points of 0"):
        check_qdq(altered(quantizer.input[2], np.array(3, np.int8)), names, number_format)
    with pytest.raises(CalibrationError, match="expected one reader"):
        check_qdq(made, names - {min(names)}, number_format)
    with pytest.raises(CalibrationError, match=f"without {number_format.word}: other"):
        check_qdq(made, names | {"other"}, number_format)


def test_a_format_is_not_taken_for_the_other(
    made: IndexedModel, chosen: tuple[Layer, ...], number_format: NumberFormat
) -> None:
    (other,) = (each for each in FORMATS.values() if each is not number_format)
    with pytest.raises(CalibrationError, match=f"expected {other.word} and"):
        check_qdq(made, {layer.node for layer in chosen}, other)
