"""The layers of a graph that 8 bits could serve, their place in the model, and the layers that are never quantised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from molre_edge.calibration.indexed_model import PRODUCTS, IndexedModel
from molre_edge.calibration.number_format import FORMATS, NumberFormat
from molre_edge.export.attention import MOVES
from molre_edge.export.half import float32_islands
from molre_edge.export.routing_trace import RouterTrace
from molre_edge.specs import Precision

if TYPE_CHECKING:
    import onnx

__all__ = ["Layer", "find_layers"]

_ACTIVATIONS = ("Gelu", "Relu", "Sigmoid", "Tanh", "Erf", "LeakyRelu", "HardSwish", "Clip", "Mul", "Div")
_MIN_FEATURES = 16
"""Narrower products gain nothing from 8 bits: the matrix units work on tiles of 16."""
_STAGE = 4  # convolutions per block in a model without attention


@dataclass(frozen=True)
class Layer:
    """A product with a constant weight: a linear layer or a convolution. Experts that are inputs are none.

    Attributes:
        node: its name in the graph.
        op: ``MatMul``, ``Gemm`` or ``Conv``.
        block: its place in the model, such as ``block 3``.
        role: its task there, as far as the graph shows, such as ``attention input``.
        activation: name of the value that it reads.
        weight: name of its weight.
        weights: number of elements of its weight.
        excluded: the reason why it is never quantised; empty for a layer that the search may take.
    """

    node: str
    op: str
    block: str
    role: str
    activation: str
    weight: str
    weights: int
    excluded: str = ""

    @property
    def label(self) -> str:
        """For people: ``block 3, attention input``."""
        return f"{self.block}, {self.role}"


def find_layers(
    model: IndexedModel,
    traces: Sequence[RouterTrace] = (),
    *,
    conv3d: bool = False,
    number_format: NumberFormat = FORMATS[Precision.INT8],
) -> tuple[Layer, ...]:
    """All products with constant weights, in the graph's order.

    Args:
        model: the float32 graph.
        traces: of the routers, from :func:`molre_edge.export.routing_trace.trace_routers`; they show the adapters.
        conv3d: 3D convolutions may be quantised.
        number_format: that they would be quantised to.
    """
    nodes = [node for node in model.nodes if model.is_layer(node)]
    adapters = _adapters(model, traces)
    excluded = _excluded(model)
    blocks = _blocks(model, nodes, {*adapters, *excluded})
    layers = []
    for node in nodes:
        shape = model.links.constants[node.input[1]]
        block, role = blocks[node.name], adapters.get(node.name) or _role(model, node)
        if node.name in adapters:
            block = f"adapters of {block}"
        if node.name in excluded:
            role, reason = excluded[node.name]
        elif node.op_type not in number_format.operators:
            reason = f"TensorRT-RTX computes convolutions with {number_format.word} Q/DQ in float16"
        elif len(shape) == 5 and not conv3d:
            reason = "3D convolutions are quantised only with --conv3d"
        else:
            reason = _too_narrow(node, shape)
        layers.append(
            Layer(node.name, node.op_type, block, role, node.input[0], node.input[1], math.prod(shape), reason)
        )
    return _numbered(layers)


def _excluded(model: IndexedModel) -> dict[str, tuple[str, str]]:
    """Layers that always stay in high precision: node -> role and reason."""
    reasons = dict.fromkeys(float32_islands(model.model), ("head", "makes the logits"))
    for softmax in model.router_softmaxes:
        reason = ("router", "decides the mixture of experts, and is small")
        reasons.update(dict.fromkeys(_two_layers_before(model, softmax), reason))
    inner = {node.name for node in (*model.router_softmaxes, *model.attentions)}
    for softmax in model.nodes:
        if softmax.op_type == "Softmax" and softmax.name not in inner:
            for name in _two_layers_before(model, softmax):
                reasons.setdefault(name, ("pooling", "weights the slices against each other, and is small"))
    return reasons


def _two_layers_before(model: IndexedModel, softmax: onnx.NodeProto) -> set[str]:
    """The two layers before a Softmax: those of a router, or of the pooling's attention."""
    names, value = set[str](), softmax.input[0]
    for _ in range(2):
        products = [node for node in model.links.nodes_between(value, stop=PRODUCTS) if model.is_layer(node)]
        if len(products) != 1:
            break
        names.add(products[0].name)
        value = products[0].input[0]
    return names


def _too_narrow(node: onnx.NodeProto, shape: tuple[int, ...]) -> str:
    inside = math.prod(shape[1:]) if node.op_type == "Conv" else shape[-2]
    outside = shape[0] if node.op_type == "Conv" else shape[-1]
    if min(inside, outside) < _MIN_FEATURES and not _is_depthwise(node):
        return f"fewer than {_MIN_FEATURES} features on one side"
    return ""


def _is_depthwise(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


def _adapters(model: IndexedModel, traces: Iterable[RouterTrace]) -> dict[str, str]:
    """The stacked experts' projections: the layers before and after the product with the gates."""
    products = {name for trace in traces for name in trace.layers}
    roles = {}
    for mul in model.nodes:
        if mul.name not in products:
            continue
        for value in mul.input:
            near = model.links.nodes_between(value, stop=("Softmax", *PRODUCTS))
            if not any(node.op_type == "Softmax" for node in near):
                roles.update({node.name: "down projection" for node in near if model.is_layer(node)})
        readers = model.readers_past_moves(mul.output[0])
        roles.update({node.name: "up projection" for node in readers if model.is_layer(node)})
    return roles


def _blocks(model: IndexedModel, layers: Sequence[onnx.NodeProto], beside: set[str]) -> dict[str, str]:
    """The block of each layer: counted by attentions or, in a model without attention, by the backbone's layers.

    Layers `beside` the backbone, such as adapters, belong to the stage that they adapt. Names of parameters do not
    help: the exporter renames weights, and the simplifier merges equal ones.
    """
    attentions = {node.name: 1 << place for place, node in enumerate(model.attentions)}
    if not attentions:
        stages, count = {}, 0
        for node in layers:
            stages[node.name] = f"stage {max(count - (node.name in beside), 0) // _STAGE + 1}"
            count += node.name not in beside
        return stages
    before: dict[str, int] = {}  # the attentions that a value depends on, as bits
    for node in model.nodes:
        bits = attentions.get(node.name, 0)
        for name in node.input:
            bits |= before.get(name, 0)
        before.update(dict.fromkeys(node.output, bits))
    blocks = {}
    for node in layers:
        number = before[node.output[0]].bit_count() + _feeds_attention(model, node)
        blocks[node.name] = f"block {number}" if number else "embedding"
    return blocks


def _feeds_attention(model: IndexedModel, node: onnx.NodeProto) -> bool:
    """Whether a layer's answer reaches an attention without passing a norm or another layer."""
    visited, queue = set[str](), [node.output[0]]
    while queue:
        value = queue.pop()
        for reader in model.links.readers(value):
            if model.is_inner_product(reader):
                return True
            if reader.op_type.endswith("Normalization") or model.has_weight(reader):
                continue
            queue += [name for name in reader.output if name not in visited]
            visited.update(reader.output)
    return False


def _role(model: IndexedModel, node: onnx.NodeProto) -> str:
    """The task of a layer, as far as the graph shows."""
    if node.op_type == "Conv":
        return "depthwise convolution" if _is_depthwise(node) else "convolution"
    if _feeds_attention(model, node):
        return "attention input"
    maker = model.links.maker(node.input[0])
    while maker is not None and maker.op_type in MOVES:
        maker = model.links.maker(maker.input[0])
    if maker is not None and model.is_inner_product(maker):
        return "attention output"
    if maker is not None and maker.op_type in _ACTIVATIONS:
        return "MLP, second"
    readers = model.readers_past_moves(node.output[0])
    if len(readers) == 1 and readers[0].op_type == "Add":  # the bias
        readers = model.readers_past_moves(readers[0].output[0])
    return "MLP, first" if any(reader.op_type in _ACTIVATIONS for reader in readers) else "linear"


def _numbered(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Number the layers of one block and role."""
    totals: dict[str, int] = {}
    for layer in layers:
        totals[layer.label] = totals.get(layer.label, 0) + 1
    counts: dict[str, int] = {}
    named = []
    for layer in layers:
        counts[layer.label] = number = counts.get(layer.label, 0) + 1
        named.append(replace(layer, role=f"{layer.role} {number}") if totals[layer.label] > 1 else layer)
    return tuple(named)
