"""Codes of E4M3 are those that ONNX Runtime's QuantizeLinear gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from molre_edge.calibration.e4m3 import LARGEST, decode, encode


def quantize_linear(values: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The values that ONNX Runtime's codes stand for."""
    zero = helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True)
    scale = numpy_helper.from_array(np.array(1.0, np.float32), "scale")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "pair", ends[:1], ends[1:], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": values})[0])


def test_values_of_every_size_ties_and_values_beyond_the_largest_round_as_in_onnx_runtime() -> None:
    draw = np.random.default_rng(0)
    sizes = np.exp(draw.uniform(-9, 8, 20_000)).astype(np.float32)
    codes = decode(np.arange(127, dtype=np.uint8))
    values = np.concatenate([[0.0], codes, (codes[1:] + codes[:-1]) / 2, sizes, [447.0, 449.0, 1e9]]).astype(np.float32)
    values = np.concatenate([values, -values])
    np.testing.assert_array_equal(decode(encode(values)), quantize_linear(values))


def test_every_number_of_the_format_is_its_own_code() -> None:
    codes = np.delete(np.arange(256, dtype=np.uint8), [127, 255])  # two are no numbers
    np.testing.assert_array_equal(encode(decode(codes)), codes)
    assert decode(codes).max() == LARGEST and np.isnan(decode(np.array([127, 255], np.uint8))).all()


def test_the_error_of_a_value_is_a_sixteenth_of_it_at_most() -> None:
    values = np.exp(np.random.default_rng(1).uniform(np.log(2.0**-6), np.log(LARGEST), 10_000)).astype(np.float32)
    assert np.abs(decode(encode(values)) / values - 1).max() <= 1 / 16
