"""The proof on the graph's structure that routing is dynamic: routers read the scan, their gates mix the experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molre_edge.errors import ExportError
from molre_edge.export.links import Links

if TYPE_CHECKING:
    import onnx

__all__ = ["RouterTrace", "router_softmaxes", "trace_routers"]

_SHAPES = {"Shape", "Size"}
"""What depends on the input's shape alone is the same for every patient."""

_MOVES = {"Cast", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Transpose", "Identity", "Flatten"}

_ROUNDS = {"QuantizeLinear", "DequantizeLinear"}

_PRODUCTS = {"MatMul", "Gemm", "Conv"}


@dataclass(frozen=True)
class RouterTrace:
    """What the graph shows of one router.

    Attributes:
        softmax: name of its Softmax node.
        layers: names of the nodes in which its gates multiply the experts' stacked activations, one an adapted layer.
    """

    softmax: str
    layers: tuple[str, ...]


def router_softmaxes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The routers' Softmax nodes: those from which the output ``gates`` is computed, in the graph's order."""
    links = Links(graph)
    if not any(output.name == "gates" for output in graph.graph.output):
        return []
    values = links.upstream(["gates"], stop={"Softmax"})
    return [node for node in graph.graph.node if node.op_type == "Softmax" and node.output[0] in values]


def trace_routers(graph: onnx.ModelProto, *, routers: int, layers: int, experts: int, rank: int) -> list[RouterTrace]:
    """Show on the graph that each router depends on the volume and multiplies the experts of its layers.

    The volume is the graph's first input. Others hold what was trained: they are the same for every patient.

    Args:
        graph: of any precision.
        routers: how many the model has.
        layers: how many adapted layers the model has.
        experts: K.
        rank: r; the stacked activations are K * r wide.

    Raises:
        ExportError: names what is not there.
    """
    links = Links(graph)
    volume = graph.graph.input[0].name
    softmaxes = router_softmaxes(graph)
    if len(softmaxes) != routers:
        raise ExportError(
            f"routing is not dynamic in the graph: found {len(softmaxes)} router softmaxes on the way to 'gates', "
            f"expected {routers}. A folded router answers the same for every patient"
        )
    answers = links.upstream(["logits"])
    from_input = links.downstream([volume], stop=_SHAPES)
    traces = []
    for node in softmaxes:
        gates = node.output[0]
        if gates not in from_input:
            raise ExportError(
                f"routing is not dynamic in the graph: router {node.name} does not depend on the input's values"
            )
        reached = links.downstream([gates])
        found = tuple(
            mul.name
            for mul in graph.graph.node
            if mul.op_type == "Mul"
            and mul.output[0] in answers
            and _is_gating(links, mul, gates, reached, from_input, experts * rank)
        )
        if not found:
            raise ExportError(
                f"routing is not dynamic in the graph: the gates of router {node.name} multiply no stacked experts "
                f"({experts} x {rank} wide) on the way to the logits"
            )
        traces.append(RouterTrace(node.name, found))
    reached_layers = {name for trace in traces for name in trace.layers}
    if len(reached_layers) != layers:
        raise ExportError(
            f"routing is not dynamic in the graph: gates reach {len(reached_layers)} adapted layers, the model has "
            f"{layers}. Were experts merged into weights?"
        )
    return traces


def _is_gating(
    links: Links, mul: onnx.NodeProto, gates: str, reached: set[str], from_input: set[str], width: int
) -> bool:
    """Whether a Mul takes these gates on one side and the down projection of `width` rows on the other.

    On the gates' side only scaling and copies may lie between the softmax and the product; on the other side a MatMul,
    Gemm or Conv whose weight makes `width` features, and after the product one whose weight reads as many. A weight is
    a constant or an input of the graph, and never depends on the volume.
    """
    if len(mul.input) != 2:
        return False
    for side, other in ((0, 1), (1, 0)):
        if mul.input[side] not in reached or mul.input[other] not in from_input:
            continue
        if not _is_copy_of(links, mul.input[side], gates, from_input):
            continue
        down = _through_moves(links, mul.input[other])
        if down is None or _widths(links, down)[1] != width:
            continue
        if any(_widths(links, up)[0] == width for up in _next_products(links, mul.output[0])):
            return True
    return False


def _is_copy_of(links: Links, value: str, gates: str, from_input: set[str]) -> bool:
    """Whether a value is the gates after copies, casts and products with constants."""
    while value != gates:
        node = links.maker(value)
        if node is None:
            return False
        if node.op_type in _MOVES:
            value = node.input[0]
        elif node.op_type == "Mul":
            variable = [name for name in node.input if name in from_input]
            if len(variable) != 1:
                return False
            value = variable[0]
        else:
            return False
    return True


def _through_moves(links: Links, value: str) -> onnx.NodeProto | None:
    node = links.maker(value)
    while node is not None and node.op_type in _MOVES:
        node = links.maker(node.input[0])
    return node if node is not None and node.op_type in _PRODUCTS else None


def _next_products(links: Links, value: str) -> list[onnx.NodeProto]:
    found = []
    for node in links.readers(value):
        if node.op_type in _PRODUCTS:
            found.append(node)
        elif node.op_type in _MOVES or node.op_type in _ROUNDS:
            found.extend(_next_products(links, node.output[0]))
    return found


def _widths(links: Links, product: onnx.NodeProto) -> tuple[int, int] | tuple[None, None]:
    """Features that a product reads and makes, by its weight; None where it has none."""
    shape = links.weights.get(product.input[1])
    if shape is None or len(shape) < 2:
        return None, None
    transposed = any(a.name == "transB" and a.i for a in product.attribute)
    if product.op_type == "Conv" or transposed:  # [out, in, ...]
        return shape[1], shape[0]
    return shape[-2], shape[-1]
