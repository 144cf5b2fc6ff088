"""The layers of a graph that INT8 could serve, where in the model they are, and which are never quantised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from molre_edge.export.half import float32_islands
from molre_edge.export.links import Links
from molre_edge.export.routing_trace import RouterTrace, router_softmaxes

if TYPE_CHECKING:
    import onnx

__all__ = ["Layer", "attentions", "find_layers"]

_PRODUCTS = ("MatMul", "Gemm", "Conv")
_MOVES = ("Cast", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Split", "Identity", "Flatten")
_ACTIVATIONS = ("Gelu", "Relu", "Sigmoid", "Tanh", "Erf", "LeakyRelu", "HardSwish", "Clip", "Mul", "Div")
_LEAST_FEATURES = 16
"""Narrower products gain nothing from INT8: the matrix units work on tiles of 16."""
_STAGE = 4  # convolutions that make a block where there is no attention to count by


@dataclass(frozen=True)
class Layer:
    """A product with a constant weight: a linear layer or a convolution.

    Attributes:
        node: its name in the graph.
        op: ``MatMul``, ``Gemm`` or ``Conv``.
        block: where in the model, such as ``block 3``.
        role: what it does there, as far as the graph shows, such as ``attention input``.
        activation: name of the value that it reads.
        weight: name of its weight.
        weights: elements of its weight.
        barred: why it is never quantised; empty for one that the search may take.
    """

    node: str
    op: str
    block: str
    role: str
    activation: str
    weight: str
    weights: int
    barred: str = ""

    @property
    def label(self) -> str:
        """For people: ``block 3, attention input``."""
        return f"{self.block}, {self.role}"


def find_layers(
    graph: onnx.ModelProto, traces: Sequence[RouterTrace] = (), *, conv3d: bool = False
) -> tuple[Layer, ...]:
    """All products with constant weights, in the graph's order.

    Args:
        graph: float32, its nodes in topological order.
        traces: of the routers, from :func:`molre_edge.export.routing_trace.trace_routers`; they tell the adapters.
        conv3d: 3D convolutions may be quantised.
    """
    links = Links(graph)
    nodes = [node for node in graph.graph.node if _is_layer(links, node)]
    adapters = _adapters(links, graph, traces)
    barred = _barred(links, graph)
    blocks = _blocks(links, graph, nodes, {*adapters, *barred})
    layers = []
    for node in nodes:
        shape = links.constants[node.input[1]]
        block, role = blocks[node.name], adapters.get(node.name) or _role(links, node)
        if node.name in adapters:
            block = f"adapters of {block}"
        if node.name in barred:
            role, why = barred[node.name]
        elif len(shape) == 5 and not conv3d:
            why = "3D convolutions are quantised on request only"
        else:
            why = _too_narrow(node, shape)
        layers.append(Layer(node.name, node.op_type, block, role, node.input[0], node.input[1], math.prod(shape), why))
    return _numbered(layers)


def attentions(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The softmaxes of attentions: between a product of two activations and another one; routers' are none."""
    links, routers = Links(graph), {node.name for node in router_softmaxes(graph)}
    return [
        node
        for node in graph.graph.node
        if node.op_type == "Softmax"
        and node.name not in routers
        and any(_is_inner(links, reader) for reader in _readers(links, node.output[0]))
    ]


def _is_layer(links: Links, node: onnx.NodeProto) -> bool:
    return node.op_type in _PRODUCTS and node.input[1] in links.constants and node.input[0] not in links.constants


def _is_inner(links: Links, node: onnx.NodeProto) -> bool:
    """Whether a node multiplies two activations, as attention does."""
    return node.op_type == "MatMul" and not any(name in links.constants for name in node.input)


def _readers(links: Links, value: str) -> list[onnx.NodeProto]:
    """Who reads a value, also after it was moved or cast."""
    found = []
    for node in links.readers(value):
        found += _readers(links, node.output[0]) if node.op_type in _MOVES else [node]
    return found


def _barred(links: Links, graph: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Layers that stay in high precision whatever they would gain: node -> role and reason."""
    found = dict.fromkeys(float32_islands(graph), ("head", "makes the logits"))
    routers = router_softmaxes(graph)
    for softmax in routers:
        found.update(dict.fromkeys(_before(links, softmax), ("router", "decides the mixture of experts, and is small")))
    inner = {node.name for node in (*routers, *attentions(graph))}
    for softmax in graph.graph.node:
        if softmax.op_type == "Softmax" and softmax.name not in inner:
            for name in _before(links, softmax):
                found.setdefault(name, ("pooling", "weights the slices against each other, and is small"))
    return found


def _before(links: Links, softmax: onnx.NodeProto) -> set[str]:
    """The two layers before a softmax: those of a router, or of the pooling's attention."""
    names, value = set[str](), softmax.input[0]
    for _ in range(2):
        products = [node for node in links.nodes_between(value, stop=_PRODUCTS) if _is_layer(links, node)]
        if len(products) != 1:
            break
        names.add(products[0].name)
        value = products[0].input[0]
    return names


def _too_narrow(node: onnx.NodeProto, shape: tuple[int, ...]) -> str:
    inside = math.prod(shape[1:]) if node.op_type == "Conv" else shape[-2]
    outside = shape[0] if node.op_type == "Conv" else shape[-1]
    if min(inside, outside) < _LEAST_FEATURES and not _is_depthwise(node):
        return f"fewer than {_LEAST_FEATURES} features on one side"
    return ""


def _is_depthwise(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


def _adapters(links: Links, graph: onnx.ModelProto, traces: Iterable[RouterTrace]) -> dict[str, str]:
    """The stacked experts' projections: those before and after the product with the gates."""
    products = {name for trace in traces for name in trace.layers}
    found = {}
    for mul in graph.graph.node:
        if mul.name not in products:
            continue
        for value in mul.input:
            near = links.nodes_between(value, stop=("Softmax", *_PRODUCTS))
            if not any(node.op_type == "Softmax" for node in near):
                found.update({node.name: "down projection" for node in near if _is_layer(links, node)})
        found.update({node.name: "up projection" for node in _readers(links, mul.output[0]) if _is_layer(links, node)})
    return found


def _blocks(links: Links, graph: onnx.ModelProto, layers: Sequence[onnx.NodeProto], beside: set[str]) -> dict[str, str]:
    """The block of each layer: counted by attentions, or by the backbone's layers where there are none.

    Layers `beside` the backbone, such as adapters, belong to the stage that they adapt.

    Parameters' names are no help: the exporter renames weights, and equal ones are one to the simplifier.
    """
    inner = {node.name: 1 << i for i, node in enumerate(attentions(graph))}
    if not inner:
        stages, count = {}, 0
        for node in layers:
            stages[node.name] = f"stage {max(count - (node.name in beside), 0) // _STAGE + 1}"
            count += node.name not in beside
        return stages
    before: dict[str, int] = {}  # the attentions behind a value, as bits
    for node in graph.graph.node:
        bits = inner.get(node.name, 0)
        for name in node.input:
            bits |= before.get(name, 0)
        before.update(dict.fromkeys(node.output, bits))
    blocks = {}
    for node in layers:
        number = before[node.output[0]].bit_count() + _leads(links, node)
        blocks[node.name] = f"block {number}" if number else "embedding"
    return blocks


def _leads(links: Links, node: onnx.NodeProto) -> bool:
    """Whether a layer's answer goes into an attention with no norm and no other layer between."""
    seen, queue = set[str](), [node.output[0]]
    while queue:
        value = queue.pop()
        for reader in links.readers(value):
            if _is_inner(links, reader):
                return True
            if reader.op_type.endswith("Normalization") or _is_layer(links, reader):
                continue
            queue += [name for name in reader.output if name not in seen]
            seen.update(reader.output)
    return False


def _role(links: Links, node: onnx.NodeProto) -> str:
    """What a layer does, as far as the graph shows."""
    if node.op_type == "Conv":
        return "depthwise convolution" if _is_depthwise(node) else "convolution"
    if _leads(links, node):
        return "attention input"
    maker = links.maker(node.input[0])
    while maker is not None and maker.op_type in _MOVES:
        maker = links.maker(maker.input[0])
    if maker is not None and _is_inner(links, maker):
        return "attention output"
    if maker is not None and maker.op_type in _ACTIVATIONS:
        return "MLP, second"
    readers = _readers(links, node.output[0])
    if len(readers) == 1 and readers[0].op_type == "Add":  # the bias
        readers = _readers(links, readers[0].output[0])
    return "MLP, first" if any(reader.op_type in _ACTIVATIONS for reader in readers) else "linear"


def _numbered(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Tell layers of one block and role apart."""
    totals: dict[str, int] = {}
    for layer in layers:
        totals[layer.label] = totals.get(layer.label, 0) + 1
    seen: dict[str, int] = {}
    named = []
    for layer in layers:
        seen[layer.label] = number = seen.get(layer.label, 0) + 1
        named.append(replace(layer, role=f"{layer.role} {number}") if totals[layer.label] > 1 else layer)
    return tuple(named)
