from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.evidence import answers
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.number_format import FORMATS, NumberFormat
from molre_edge.calibration.quantised_graph import Quantiser, check_qdq
from molre_edge.calibration.split_joined import split_joined_layers
from molre_edge.specs import Precision


@pytest.fixture(params=list(FORMATS.values()), ids=list(FORMATS))
def number_format(request: pytest.FixtureRequest) -> NumberFormat:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def quantised(
    model: IndexedModel, layers: tuple[Layer, ...], number_format: NumberFormat
) -> tuple[IndexedModel, set[str]]:
    chosen = [layer for layer in layers if not layer.excluded and layer.op in number_format.operators]
    clipping = {layer.activation: 4.0 for layer in chosen}
    return Quantiser(model, number_format).add_qdq(chosen, clipping), {layer.node for layer in chosen}


def test_an_attentions_joined_layer_becomes_three_and_answers_the_same(
    quantised: tuple[IndexedModel, set[str]], number_format: NumberFormat, tiny_bundle: Path
) -> None:
    graph, names = quantised
    volumes = list(Bundle.open(tiny_bundle).golden().volumes[:, None])
    before = answers(graph.serialize(), volumes, precision=Precision.FP32, threads=1)
    now = split_joined_layers(graph, names)
    onnx.checker.check_model(graph.model, full_check=True)
    check_qdq(graph, now, number_format)
    assert len(now) == len(names) + 2 * 2  # two attentions
    joined = names - now
    assert {name.rpartition("__")[0] for name in now - names} == joined and len(joined) == 2
    after = answers(graph.serialize(), volumes, precision=Precision.FP32, threads=1)
    np.testing.assert_allclose(after.logits, before.logits, atol=1e-4)


def test_nothing_is_left_of_what_was_joined(quantised: tuple[IndexedModel, set[str]]) -> None:
    graph, names = quantised
    splits = sum(node.op_type == "Split" for node in graph.nodes)
    split_joined_layers(graph, names)
    assert sum(node.op_type == "Split" for node in graph.nodes) == splits - 2
    read = {name for node in graph.nodes for name in node.input}
    assert {tensor.name for tensor in graph.model.graph.initializer} <= read
    assert split_joined_layers(graph, names) == names  # a second time there is nothing to do


def joined(bias: bool, axis: int, tokens: int = 4) -> onnx.ModelProto:
    """x [batch, tokens, 6] times a quantised weight [6, 10], with a bias or not, split into 3 and 7 features."""
    rng = np.random.default_rng(0)
    constants = {
        "scale": np.array(0.05, np.float32),
        "zero": np.array(0, np.int8),
        "weight": rng.integers(-127, 127, (6, 10), dtype=np.int8),
        "scales": rng.uniform(0.01, 0.02, 10).astype(np.float32),
        "zeros": np.zeros(10, np.int8),
        "bias": rng.normal(size=10).astype(np.float32),
        "sizes": np.array([3, 7] if axis else [1, 1], np.int64),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="dq"),
        helper.make_node("DequantizeLinear", ["weight", "scales", "zeros"], ["w"], name="w", axis=1),
        helper.make_node("MatMul", ["dq", "w"], ["product"], name="m"),
        *([helper.make_node("Add", ["product", "bias"], ["sum"], name="a")] if bias else []),
        helper.make_node("Split", ["sum" if bias else "product", "sizes"], ["first", "second"], name="s", axis=axis),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("first", "second")]
    graph = helper.make_graph(
        nodes,
        "joined",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, tokens, 6])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items() if bias or name != "bias"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("bias", [False, True])
def test_parts_of_any_size_with_and_without_a_bias(bias: bool) -> None:
    import onnxruntime as ort

    model = joined(bias, axis=-1)
    x = {"x": np.random.default_rng(1).normal(size=(2, 4, 6)).astype(np.float32)}
    options = {"providers": ["CPUExecutionProvider"]}
    before = ort.InferenceSession(model.SerializeToString(), **options).run(None, x)
    assert split_joined_layers(IndexedModel(model), {"m"}) == {"m__1", "m__2"}
    after = ort.InferenceSession(model.SerializeToString(), **options).run(None, x)
    for first, second in zip(before, after, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5)


def test_the_last_axis_may_be_named_by_its_number_where_the_rank_is_known() -> None:
    model = joined(bias=True, axis=2)
    assert split_joined_layers(IndexedModel(onnx.shape_inference.infer_shapes(model)), {"m"}) == {"m__1", "m__2"}
    assert split_joined_layers(IndexedModel(model), {"m"}) == {"m"}


@pytest.mark.parametrize(("axis", "tokens"), [(0, 4), (1, 10), (-2, 10)])
def test_a_split_of_something_else_is_left_alone(axis: int, tokens: int) -> None:
    model = onnx.shape_inference.infer_shapes(joined(bias=False, axis=axis, tokens=tokens))
    before = model.SerializeToString()
    assert split_joined_layers(IndexedModel(model), {"m"}) == {"m"}
    assert model.SerializeToString() == before
