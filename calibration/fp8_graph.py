"""Q/DQ in FP8 (E4M3) around chosen layers.

ONNX Runtime's quantizer is not used: it derives FP8 scales from the standard deviation of values and weights instead of
their largest value. Each layer has a Q/DQ pair of its own on its input and none on its output, as in the int8 graph.
Activations have one scale per tensor, weights one per output channel.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molre_edge.calibration.e4m3 import LARGEST, encode
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import Layer

if TYPE_CHECKING:
    import onnx

__all__ = ["Fp8Weight", "add_fp8_qdq"]

Fp8Weight = tuple["npt.NDArray[np.uint8]", "npt.NDArray[np.float32]"]
"""Codes of a weight, in its shape, and the scale of each output channel, [channels]."""


def add_fp8_qdq(
    model: IndexedModel,
    layers: Sequence[Layer],
    clipping: Mapping[str, float],
    weights: MutableMapping[str, Fp8Weight],
    *,
    min_scale: float,
) -> IndexedModel:
    """A copy of the float32 graph with FP8 Q/DQ pairs around some layers.

    Args:
        model: the float32 graph.
        layers: the layers to quantise; without any, the copy equals the graph.
        clipping: the absolute value that becomes the largest one of E4M3, by activation.
        weights: those that were quantised before, by name and axis; new ones are added.
        min_scale: no weight's scale is smaller. A floating-point format loses nothing by a larger one.
    """
    copy = model.copy()
    by_name = {layer.node: layer for layer in layers}
    nodes: list[onnx.NodeProto] = []
    for node in copy.nodes:
        layer = by_name.get(node.name)
        if layer is not None:
            scale = np.float32(clipping[layer.activation] / LARGEST)
            nodes += _input_pair(copy, node, scale)
            nodes.append(_weight(copy, model, node, weights, min_scale))
        nodes.append(node)
    copy.replace_nodes(nodes)
    copy.drop_unread()
    return copy


def _input_pair(model: IndexedModel, node: onnx.NodeProto, scale: np.float32) -> list[onnx.NodeProto]:
    """The nodes that round a layer's input, which then reads their value."""
    from onnx import helper

    rounded, value = f"{node.name}__fp8", f"{node.name}__input"
    constants = [
        model.add_initializer(f"{rounded}_scale", np.array(scale)),
        model.add_fp8(f"{rounded}_zero", np.zeros((), np.uint8)),
    ]
    pair = [
        helper.make_node("QuantizeLinear", [node.input[0], *constants], [rounded], name=rounded),
        helper.make_node("DequantizeLinear", [rounded, *constants], [value], name=value),
    ]
    node.input[0] = value
    return pair


def _weight(
    copy: IndexedModel,
    model: IndexedModel,
    node: onnx.NodeProto,
    weights: MutableMapping[str, Fp8Weight],
    min_scale: float,
) -> onnx.NodeProto:
    """The node that makes a float of a layer's FP8 weight, which the layer then reads."""
    from onnx import helper

    axis, name = _channels(node), node.input[1]
    key = f"{name} {axis}"
    if key not in weights:
        weights[key] = _quantised(np.asarray(model.array(name), np.float32), axis, min_scale)
    codes, scale = weights[key]
    value = f"{node.name}__weight"
    inputs = [
        copy.add_fp8(f"{value}_fp8", codes),
        copy.add_initializer(f"{value}_scale", scale),
        copy.add_fp8(f"{value}_zero", np.zeros(len(scale), np.uint8)),
    ]
    node.input[1] = value
    return helper.make_node("DequantizeLinear", inputs, [value], name=value, axis=axis)


def _channels(node: onnx.NodeProto) -> int:
    """The axis of a weight's output channels."""
    if node.op_type == "Conv":
        return 0
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else 1


def _quantised(weight: npt.NDArray[np.float32], axis: int, min_scale: float) -> Fp8Weight:
    others = tuple(other for other in range(weight.ndim) if other != axis)
    largest = np.abs(weight).max(axis=others)
    # the scale as the float16 graph stores it: the codes belong to that
    scale = np.maximum(largest / np.float32(LARGEST), np.float32(min_scale)).astype(np.float16).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    return encode(weight / scale.reshape(shape)), scale
