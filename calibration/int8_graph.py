"""Q/DQ in INT8 around chosen layers, by ONNX Runtime's quantizer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import Layer

if TYPE_CHECKING:
    import onnx

__all__ = ["add_int8_qdq"]

_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "DedicatedQDQPair": True,
    "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},  # Gemm's axis follows transB
    "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm", "Conv"],
}
_OWN_INPUT = "__int8"


def add_int8_qdq(model: IndexedModel, layers: Sequence[Layer], clipping: Mapping[str, float]) -> IndexedModel:
    """A copy of the float32 graph with INT8 Q/DQ pairs around some layers.

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
