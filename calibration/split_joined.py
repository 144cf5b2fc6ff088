"""Splits quantised layers that export joined: TensorRT-RTX makes a float product of a joined INT8 one.

The simplifier joins linear layers that read one value, such as the three of an attention, into one product and a Split.
That costs nothing in float16. With Q/DQ, TensorRT-RTX 1.7 turns the pair into a batched product in Half, while it joins
three products with equal Q/DQ on their input to one product in Int8.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from molre_edge.calibration.indexed_model import IndexedModel

if TYPE_CHECKING:
    import onnx

__all__ = ["split_joined_layers"]


@dataclass(frozen=True)
class _JoinedLayer:
    """A quantised product whose answer is split.

    Attributes:
        product: the MatMul.
        quantize: rounds its input.
        dequantize: makes a float of the rounded input.
        weight: makes a float of its 8-bit weight.
        bias: the Add after it; None without a bias.
        split: the Split at the end.
    """

    product: onnx.NodeProto
    quantize: onnx.NodeProto
    dequantize: onnx.NodeProto
    weight: onnx.NodeProto
    bias: onnx.NodeProto | None
    split: onnx.NodeProto


def split_joined_layers(model: IndexedModel, quantised: Collection[str]) -> set[str]:
    """Replace each quantised product whose answer is split by one product per part, in place.

    Args:
        model: a graph with Q/DQ pairs.
        quantised: names of the products with such pairs.

    Returns:
        The names of all quantised products afterwards.
    """
    names = set(quantised)
    nodes = model.nodes
    joined = [found for node in nodes if node.name in names and (found := _joined_layer(model, node)) is not None]
    replaced: dict[str, list[onnx.NodeProto]] = {}  # by the first output of the node that is replaced
    for layer in joined:
        parts = _parts(model, layer)
        names.remove(layer.product.name)
        names.update(part.name for part in parts if part.op_type == "MatMul")
        removed = [layer.product] if layer.bias is None else [layer.product, layer.bias]
        replaced.update({node.output[0]: [] for node in removed})
        replaced[layer.split.output[0]] = parts
    if joined:
        model.replace_nodes(new for node in nodes for new in replaced.get(node.output[0], [node]))
        model.drop_unread()
    return names


def _joined_layer(model: IndexedModel, product: onnx.NodeProto) -> _JoinedLayer | None:
    """The joined layer of a product; None if its features are not split right after it and its bias."""
    if product.op_type != "MatMul":
        return None
    bias, split = None, _only_reader(model, product)
    if split is not None and split.op_type == "Add" and _vector_of(model, split) is not None:
        bias, split = split, _only_reader(model, split)
    dequantize, weight = (model.links.maker(name) for name in product.input)
    quantize = None if dequantize is None else model.links.maker(dequantize.input[0])
    if split is None or dequantize is None or weight is None or quantize is None:
        return None
    if split.op_type != "Split" or len(split.input) < 2 or split.input[1] not in model.initializers:
        return None
    features = model.links.constants[weight.input[0]][1]
    axis = next((attribute.i for attribute in split.attribute if attribute.name == "axis"), 0)
    # without a known rank, only -1 is surely the last axis
    last = axis == -1 or axis == model.ranks.get(split.input[0], 0) - 1
    if not last or int(np.sum(model.array(split.input[1]).astype(np.int64))) != features:
        return None
    return _JoinedLayer(product, quantize, dequantize, weight, bias, split)


def _only_reader(model: IndexedModel, node: onnx.NodeProto) -> onnx.NodeProto | None:
    readers = model.links.readers(node.output[0])
    return readers[0] if len(readers) == 1 else None


def _vector_of(model: IndexedModel, add: onnx.NodeProto) -> str | None:
    """The constant vector that a node adds; None if it adds something else."""
    return next((name for name in add.input if len(model.links.constants.get(name, ())) == 1), None)


def _parts(model: IndexedModel, layer: _JoinedLayer) -> list[onnx.NodeProto]:
    """For each part: a Q/DQ pair, a weight, a product and, if the layer has a bias, a sum with its share of it."""
    ends = [int(end) for end in np.cumsum(model.array(layer.split.input[1]).astype(np.int64))]
    nodes: list[onnx.NodeProto] = []
    for number, (start, end, output) in enumerate(zip([0, *ends[:-1]], ends, layer.split.output, strict=True), start=1):
        nodes += _part(model, layer, number, slice(start, end), output)
    return nodes


def _part(model: IndexedModel, layer: _JoinedLayer, number: int, features: slice, output: str) -> list[onnx.NodeProto]:
    """The nodes of one part, which make `output` from some of the features."""
    import onnx
    from onnx import helper

    def cut(name: str) -> str:
        """This part of a constant, along its last axis."""
        return model.add_part(name, features, f"{name}__{number}")

    chain = (layer.quantize, layer.dequantize, layer.weight, layer.product)
    own = {name: f"{name}__{number}" for node in chain for name in node.output}
    inputs = (
        list(layer.quantize.input),
        [own[layer.dequantize.input[0]], *layer.dequantize.input[1:]],
        [cut(name) for name in layer.weight.input],
        [own[name] for name in layer.product.input],
    )
    nodes = []
    for node, names in zip(chain, inputs, strict=True):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{node.name}__{number}"
        copy.input[:], copy.output[:] = names, [own[name] for name in node.output]
        nodes.append(copy)
    if layer.bias is None:
        nodes[-1].output[0] = output
        return nodes
    bias = _vector_of(model, layer.bias)
    assert bias is not None
    summed = [nodes[-1].output[0], cut(bias)]
    return [*nodes, helper.make_node("Add", summed, [output], name=f"{layer.bias.name}__{number}")]
