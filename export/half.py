"""The float16 graph: precision as a property of the file, with float32 islands where half floats are not safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molre_edge.errors import ExportError
from molre_edge.export.links import Links
from molre_edge.export.routing_proof import router_softmaxes

if TYPE_CHECKING:
    import onnx

__all__ = ["float32_islands", "to_half"]

_NORMS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization")


def float32_islands(graph: onnx.ModelProto) -> list[str]:
    """Names of the nodes that stay in float32, norms aside: the routers' softmax and the product that makes the logits.

    Squares of large residuals overflow in a float16 norm; gates and logits are what parity is judged on.
    """
    links = Links(graph)
    head = links.maker("logits")
    while head is not None and head.op_type not in {"Gemm", "MatMul"}:
        head = links.maker(head.input[0])
    if head is None:
        raise ExportError("the graph has no product that makes 'logits'")
    on_the_way = [
        node for node in graph.graph.node if node.output[0] in links.downstream([head.output[0]])
    ]  # a bias added apart, for one
    return [node.name for node in [*router_softmaxes(graph), *on_the_way]]


def to_half(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a float32 graph to float16; volume in float16, outputs in float32.

    Raises:
        ExportError: a weight does not fit into float16.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    for tensor in graph.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        largest = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
        if largest > float(np.finfo(np.float16).max):
            raise ExportError(f"weight {tensor.name} reaches {largest:.3g}, beyond float16; keep this model in fp32")
    source = onnx.ModelProto()
    source.CopyFrom(graph)  # the converter works in place
    half = convert_float_to_float16(
        source,
        keep_io_types=[output.name for output in graph.graph.output],
        op_block_list=list(_NORMS),
        node_block_list=float32_islands(graph),
        min_positive_val=5.96e-8,  # the smallest half there is; the default moves small weights farther
        max_finite_val=float(np.finfo(np.float16).max),
    )
    ordered = OnnxModel(half)
    ordered.topological_sort()  # the converter appends its casts at the end
    return ordered.model  # type: ignore[no-any-return]
