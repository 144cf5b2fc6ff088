"""Attention that no builder fuses into one kernel, for versions of TensorRT whose fused kernel answers wrongly.

The values of an attention get a guard added that is zero, and that only the whole matrix of its weights can tell: the
largest weight less two, if that is above zero. Weights are at most one, so answers stay as they are, bit for bit. A
kernel that goes over the weights once, as fused attention does, can't have the guard before it is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molre_edge.errors import ExportError
from molre_edge.export.links import Links
from molre_edge.export.routing_trace import router_softmaxes

if TYPE_CHECKING:
    import onnx

__all__ = ["FUSED", "MOVES", "UNFUSED", "attention_products", "unfuse_attention"]

FUSED, UNFUSED = "fused", "unfused"
"""What the manifest says of a bundle's graphs: builders may fuse their attentions, or can't."""

MOVES = ("Cast", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Split", "Identity", "Flatten")
"""Operators that only move or cast values."""

_ABOVE_ALL_WEIGHTS, _LAST_TWO = "attention_above_all_weights", "attention_last_two_axes"


def attention_products(graph: onnx.ModelProto, links: Links) -> list[tuple[onnx.NodeProto, onnx.NodeProto, int]]:
    """Each attention: its Softmax, the product of weights and values, and which input of that the weights are.

    Routers' softmaxes don't count, and neither does pooling, which is no product of two matrices.

    Args:
        graph: of any precision.
        links: of that graph.
    """
    routers = {node.name for node in router_softmaxes(graph)}
    found = []
    for softmax in graph.graph.node:
        if softmax.op_type != "Softmax" or softmax.name in routers:
            continue
        values = [softmax.output[0]]
        while values:
            value = values.pop()
            for reader in links.readers(value):
                if reader.op_type in MOVES:
                    values.extend(reader.output)
                elif reader.op_type == "MatMul" and not any(name in links.weights for name in reader.input):
                    found.append((softmax, reader, list(reader.input).index(value)))
    return found


def unfuse_attention(graph: onnx.ModelProto) -> int:
    """Guard every attention of a float32 graph, in place.

    Args:
        graph: from :func:`molre_edge.export.graph.export_fp32`.

    Returns:
        The number of attentions.

    Raises:
        ExportError: the graph has none.
    """
    import numpy as np
    from onnx import numpy_helper

    products = attention_products(graph, Links(graph))
    if not products:
        raise ExportError(
            "--attention unfused: the graph has no attention that could be fused (a Softmax whose result multiplies "
            "another matrix). Leave the option out for this backbone"
        )
    guards = {product.name: _guard(product, weights) for _, product, weights in products}
    nodes = []
    for node in graph.graph.node:
        nodes += [*guards.get(node.name, ()), node]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.graph.node[:]
    graph.graph.node.extend(copies)
    graph.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(2.0, np.float32), _ABOVE_ALL_WEIGHTS),
            numpy_helper.from_array(np.array([-2, -1], np.int64), _LAST_TWO),
        ]
    )
    return len(products)


def _guard(product: onnx.NodeProto, weights: int) -> list[onnx.NodeProto]:
    """The nodes of a guard; the product reads the guarded values from now on."""
    from onnx import helper

    name, side = f"{product.name}_guard", 1 - weights
    values, guarded = product.input[side], f"{name}_values"
    product.input[side] = guarded
    steps = [
        ("ReduceMax", [product.input[weights], _LAST_TWO], f"{name}_largest"),  # keeps both axes by default
        ("Sub", [f"{name}_largest", _ABOVE_ALL_WEIGHTS], f"{name}_above"),
        ("Relu", [f"{name}_above"], f"{name}_zero"),
        ("Add", [values, f"{name}_zero"], guarded),
    ]
    return [helper.make_node(kind, inputs, [out], name=out) for kind, inputs, out in steps]
