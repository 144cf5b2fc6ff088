"""Multiply-adds of a graph's products, by the shapes that a run really has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import Tensors
from molre_edge.calibration.indexed_model import PRODUCTS, IndexedModel
from molre_edge.machine import usable_cores
from molre_edge.specs import VOLUME

if TYPE_CHECKING:
    import onnx

__all__ = ["count_multiply_adds"]


def count_multiply_adds(
    model: IndexedModel,
    volume: npt.NDArray[np.float16],
    *,
    threads: int | None = None,
    adapter: Tensors | None = None,
) -> Mapping[str, int]:
    """The multiply-adds of one volume in each linear layer, convolution and inner product, by the node's name.

    Args:
        model: the float32 graph.
        volume: float16 HU [1, slices, rows, cols].
        threads: CPU threads; None takes the cores that this process may use.
        adapter: the trained tensors, for a graph that takes them as inputs.
    """
    import onnx
    import onnxruntime as ort
    from onnx import helper

    copy = model.copy()
    products = [node for node in model.nodes if node.op_type in PRODUCTS]
    # an expert's kernel is an input of the graph where adapters are
    read = {name for node in products for name in (*node.input[: 1 + (node.op_type == "Conv")], node.output[0])}
    values = sorted(read - set(model.initializers))
    graph = copy.model.graph
    graph.node.extend(helper.make_node("Shape", [name], [f"{name}__shape"], name=f"{name}__shape") for name in values)
    del graph.output[:]
    outputs = [f"{name}__shape" for name in values]
    graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in outputs)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4
    session = ort.InferenceSession(copy.serialize(), options, providers=["CPUExecutionProvider"])
    trained = {name: np.asarray(value, dtype=np.float32) for name, value in (adapter or {}).items()}
    found = session.run(outputs, {VOLUME: volume.astype(np.float32), **trained})
    shapes = {name: [int(side) for side in shape] for name, shape in zip(values, found, strict=True)}
    shapes.update({name: list(tensor.dims) for name, tensor in model.initializers.items()})
    return {node.name: math.prod(shapes[node.output[0]]) * _terms(node, shapes) for node in products}


def _terms(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> int:
    """The number of products that are summed into one element of a node's answer."""
    if node.op_type == "Conv":
        return math.prod(shapes[node.input[1]][1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return shapes[node.input[0]][0 if transposed else -1]
