"""The INT8 graph: Q/DQ around chosen layers by ONNX Runtime's quantizer, then float16 for everything else.

Everything is symmetric: activations have one scale per tensor, weights one per output channel, and zero points are 0.
Each layer has its own Q/DQ pair on its input and none on its output. So whatever else reads that value, above all a
router, reads it unrounded. docs/calibration.md describes the placement.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import Layer
from molre_edge.calibration.split_joined import split_joined_layers
from molre_edge.errors import CalibrationError
from molre_edge.export.half import check_half, float32_islands, to_half

if TYPE_CHECKING:
    import onnx

__all__ = ["MIN_SCALE", "add_qdq", "check_qdq", "int8_graph"]

MIN_SCALE = 6.2e-5
"""Smaller scales are subnormal in float16 and lose digits."""

_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "DedicatedQDQPair": True,
    "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},  # Gemm's axis follows transB
    "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm", "Conv"],
}
_OWN_INPUT = "__int8"


def add_qdq(model: IndexedModel, layers: Sequence[Layer], clipping: Mapping[str, float]) -> IndexedModel:
    """A copy of the float32 graph with Q/DQ pairs around some layers.

    Args:
        model: the float32 graph.
        layers: the layers to quantise; without any, the copy equals the graph.
        clipping: the absolute value that becomes 127, by activation.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copy = model.copy()
    if not layers:  # the quantizer takes an empty list for "all"
        return copy
    ranges = {}
    for name, layer in _give_own_inputs(copy, layers).items():
        largest = np.float32(clipping[layer.activation])
        ranges[name] = (-largest, largest)
    with _without_advice():
        quantizer = QDQQuantizer(
            copy.model,
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
    quantizer.model.topological_sort()
    quantised = IndexedModel(quantizer.model.model)
    _remove_own_inputs(quantised)
    return quantised


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the quantizer, which advises a preprocessing that export has done already."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _give_own_inputs(model: IndexedModel, layers: Sequence[Layer]) -> dict[str, Layer]:
    """Put an Identity before each layer's input, in place; returns the layers by the name of their new input.

    Left alone, the quantizer gives a layer's Q/DQ pair to everything that reads the same value, "dedicated" or not,
    as soon as one of its readers is quantised: routers and adapters would read rounded values.
    """
    from onnx import helper

    by_name = {layer.node: layer for layer in layers}
    nodes: list[onnx.NodeProto] = []
    inputs = {}
    for node in model.nodes:
        layer = by_name.get(node.name)
        if layer is not None:
            own = f"{layer.node}{_OWN_INPUT}"
            nodes.append(helper.make_node("Identity", [node.input[0]], [own], name=own))
            node.input[0] = own
            inputs[own] = layer
        nodes.append(node)
    model.replace_nodes(nodes)
    return inputs


def _remove_own_inputs(model: IndexedModel) -> None:
    """Remove the Identity nodes of :func:`_give_own_inputs`, in place."""
    nodes = model.nodes
    origin = {
        node.output[0]: node.input[0] for node in nodes if node.op_type == "Identity" and node.name.endswith(_OWN_INPUT)
    }
    kept = [node for node in nodes if node.output[0] not in origin]
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = origin.get(name, name)
    model.replace_nodes(kept)


def int8_graph(model: IndexedModel, layers: Sequence[Layer], clipping: Mapping[str, float]) -> IndexedModel:
    """The INT8 graph of a bundle, checked: some layers in INT8, the rest in float16 with export's float32 islands.

    Args:
        model: the float32 graph.
        layers: the layers to quantise.
        clipping: the absolute value that becomes 127, by activation.

    Raises:
        CalibrationError: TensorRT would not read the result as INT8.
        ExportError: the conversion to float16 failed.
    """
    quantised = add_qdq(model, layers, clipping)
    names = split_joined_layers(quantised, {layer.node for layer in layers})
    half = to_half(quantised.model)
    half.producer_name, half.producer_version = model.model.producer_name, model.model.producer_version
    del half.metadata_props[:]  # the quantizer notes that it inferred shapes
    del half.graph.value_info[:]
    check_half(half, float32_islands(model.model))
    made = IndexedModel(half)
    check_qdq(made, names)
    return made


def check_qdq(model: IndexedModel, quantised: Collection[str]) -> None:
    """Check what TensorRT relies on, and that only the chosen layers read rounded values.

    Args:
        model: the INT8 graph.
        quantised: names of the layers that must be in INT8.

    Raises:
        CalibrationError: names the node that is wrong.
    """
    import onnx

    readers_of_rounded = set[str]()
    for node in model.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = (model.initializers.get(name) for name in node.input[1:3])
        if scale is None or zero is None or np.any(model.array(node.input[2])):
            raise CalibrationError(f"{node.name}: expected a constant scale and zero points of 0")
        of_weight = node.input[0] in model.initializers
        if zero.data_type != onnx.TensorProto.INT8 or (len(scale.dims) != 0 and not of_weight):
            # with a scale of one element and an axis, TensorRT makes a float convolution of an INT8 one
            raise CalibrationError(f"{node.name}: expected INT8 and, for an activation, a scale without axes")
        if node.op_type == "DequantizeLinear":
            readers = {reader.name for reader in model.links.readers(node.output[0])}
            if len(readers) != 1 or not readers <= set(quantised):
                raise CalibrationError(
                    f"{node.name}: expected one reader, a layer chosen for INT8; it is read by "
                    f"{', '.join(sorted(readers))}"
                )
            readers_of_rounded |= readers
    missing = set(quantised) - readers_of_rounded
    if missing:
        raise CalibrationError(f"chosen layers without INT8: {', '.join(sorted(missing))}")
