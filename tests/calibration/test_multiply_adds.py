"""Multiply-adds are counted by the shapes of a run."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.multiply_adds import count_multiply_adds


def test_convolutions_linear_layers_and_inner_products_are_counted_and_nothing_else() -> None:
    weights = {
        "kernel": np.zeros((6, 2, 3, 3), np.float32),  # two groups, of four input channels
        "matrix": np.zeros((36, 5), np.float32),
        "turned": np.zeros((7, 5), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["volume", "kernel"], ["c"], name="conv", group=2),  # to [1, 6, 6, 6]
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Reshape", ["r", "shape"], ["s"], name="reshape"),  # to [6, 36]
        helper.make_node("MatMul", ["s", "matrix"], ["m"], name="matmul"),  # to [6, 5]
        helper.make_node("Gemm", ["m", "turned"], ["g"], name="gemm", transB=1),  # to [6, 7]
        helper.make_node("Transpose", ["g"], ["t"], name="transpose"),
        helper.make_node("MatMul", ["g", "t"], ["inner"], name="inner"),  # to [6, 6]
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([6, 36]), "shape"))
    ends = [
        helper.make_tensor_value_info("volume", TensorProto.FLOAT, [1, 4, 8, 8]),
        helper.make_tensor_value_info("inner", TensorProto.FLOAT, [6, 6]),
    ]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    counted = count_multiply_adds(IndexedModel(model), np.zeros((1, 4, 8, 8), np.float16), threads=1)
    assert counted == {
        "conv": 6 * 6 * 6 * 2 * 3 * 3, "matmul": 6 * 5 * 36, "gemm": 6 * 7 * 5, "inner": 6 * 6 * 7,
    }  # fmt: skip


def test_a_kernel_that_is_an_input_of_the_graph_counts_as_one_that_is_a_constant() -> None:
    """Experts of an adapted convolution, in a graph that takes adapters."""
    kernel = np.zeros((6, 4, 3, 3), np.float32)
    nodes = [helper.make_node("Conv", ["volume", "adapter.conv.A"], ["c"], name="conv")]  # to [1, 6, 6, 6]
    ends = [
        helper.make_tensor_value_info("volume", TensorProto.FLOAT, [1, 4, 8, 8]),
        helper.make_tensor_value_info("adapter.conv.A", TensorProto.FLOAT, list(kernel.shape)),
        helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 6, 6, 6]),
    ]
    graph = helper.make_graph(nodes, "experts", ends[:2], ends[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    volume = np.zeros((1, 4, 8, 8), np.float16)
    counted = count_multiply_adds(IndexedModel(model), volume, threads=1, adapter={"adapter.conv.A": kernel})
    assert counted == {"conv": 6 * 6 * 6 * 4 * 3 * 3}
