"""The INT8 graph: Q/DQ around chosen layers with ONNX Runtime's quantizer, then float16 for all that is left.

Symmetric everywhere: activations with one scale a tensor, weights with one an output channel, no zero points. Each
layer has a pair of its own on its input and none on its output, so that whatever else reads that value, above all a
router, reads it unrounded. Placement after docs/calibration.md.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from molre_edge.calibration.layers import Layer
from molre_edge.calibration.split_joined import take_apart
from molre_edge.errors import CalibrationError
from molre_edge.export.half import check_half, float32_islands, to_half
from molre_edge.export.links import Links

if TYPE_CHECKING:
    import onnx

__all__ = ["LEAST_SCALE", "check_int8", "int8_graph", "with_qdq"]

LEAST_SCALE = 6.2e-5
"""Smaller scales are subnormal in float16 and lose digits."""

_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "DedicatedQDQPair": True,
    "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},  # Gemm's axis follows transB
    "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm", "Conv"],
}


def with_qdq(graph: onnx.ModelProto, layers: Sequence[Layer], limits: Mapping[str, float]) -> onnx.ModelProto:
    """A copy of the float32 graph with Q/DQ pairs around some layers.

    Args:
        graph: float32.
        layers: to quantise; with none, the copy is the graph.
        limits: the absolute value that becomes 127, by activation.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    if not layers:  # the quantizer takes an empty list for "all"
        return copy
    ranges = {}
    for node, layer in _own_inputs(copy, layers):
        limit = np.float32(limits[layer.activation])
        ranges[node.input[0]] = (-limit, limit)
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises a preprocessing that export has done
    try:
        quantizer = QDQQuantizer(
            copy,
            True,  # per channel
            False,
            QuantType.QInt8,
            QuantType.QInt8,
            TensorsData(CalibrationMethod.MinMax, ranges),
            [layer.node for layer in layers],
            [],
            sorted({layer.op for layer in layers}),
            dict(_OPTIONS),
        )
        quantizer.quantize_model()
    finally:
        logger.setLevel(level)
    made = quantizer.model
    made.topological_sort()
    _without_copies(made.model)
    return made.model  # type: ignore[no-any-return]


_OWN = "__int8"


def _own_inputs(graph: onnx.ModelProto, layers: Sequence[Layer]) -> Iterator[tuple[onnx.NodeProto, Layer]]:
    """Put a copy before each layer's input, in place, so that its Q/DQ pair is its alone.

    Left to itself the quantizer gives its pair to everything that reads the value, "dedicated" or not, as soon as a
    single one of its readers is quantised: routers and adapters would read rounded values.
    """
    from onnx import helper

    by_name = {layer.node: layer for layer in layers}
    nodes = list(graph.graph.node)
    del graph.graph.node[:]
    for node in nodes:
        layer = by_name.get(node.name)
        if layer is not None:
            own = f"{layer.node}{_OWN}"
            graph.graph.node.append(helper.make_node("Identity", [node.input[0]], [own], name=own))
            node.input[0] = own
        graph.graph.node.append(node)
        if layer is not None:
            yield graph.graph.node[-1], layer


def _without_copies(graph: onnx.ModelProto) -> None:
    """Take the copies out again, in place."""
    nodes = list(graph.graph.node)
    origin = {
        node.output[0]: node.input[0] for node in nodes if node.op_type == "Identity" and node.name.endswith(_OWN)
    }
    del graph.graph.node[:]
    for node in nodes:
        if node.output[0] not in origin:
            for i, name in enumerate(node.input):
                node.input[i] = origin.get(name, name)
            graph.graph.node.append(node)


def int8_graph(graph: onnx.ModelProto, layers: Sequence[Layer], limits: Mapping[str, float]) -> onnx.ModelProto:
    """The graph of a bundle: layers in INT8, the rest in float16 with export's float32 islands. Checked.

    Raises:
        CalibrationError: what was made is not what TensorRT reads as INT8.
        ExportError: the conversion to float16 failed.
    """
    quantised = with_qdq(graph, layers, limits)
    names = take_apart(quantised, {layer.node for layer in layers})
    half = to_half(quantised)
    half.producer_name, half.producer_version = graph.producer_name, graph.producer_version
    del half.metadata_props[:]  # the quantizer notes that it inferred shapes
    del half.graph.value_info[:]
    check_half(half, float32_islands(graph))
    check_int8(half, names)
    return half


def check_int8(graph: onnx.ModelProto, quantised: Collection[str]) -> None:
    """Check what TensorRT relies on, and that nothing but the chosen layers reads a rounded value.

    Raises:
        CalibrationError: names what is not as it should be.
    """
    import onnx
    from onnx import numpy_helper

    links = Links(graph)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    found = set[str]()
    for node in graph.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = constants.get(node.input[1]), constants.get(node.input[2])
        if scale is None or zero is None or numpy_helper.to_array(zero).any():
            raise CalibrationError(f"{node.name}: expected a constant scale and zero points of 0")
        of_weight = node.input[0] in constants
        if zero.data_type != onnx.TensorProto.INT8 or (len(scale.dims) != 0 and not of_weight):
            # a scale of one element with an axis makes a float convolution of an INT8 one in TensorRT
            raise CalibrationError(f"{node.name}: expected INT8 with a scale without axes for an activation")
        if node.op_type == "DequantizeLinear":
            readers = {reader.name for reader in links.readers(node.output[0])}
            if len(readers) != 1 or not readers <= set(quantised):
                raise CalibrationError(f"{node.name}: is read by {', '.join(sorted(readers))}, which was not chosen")
            found |= readers
    if found != set(quantised):
        raise CalibrationError(f"layers without INT8: {', '.join(sorted(set(quantised) - found))}")
