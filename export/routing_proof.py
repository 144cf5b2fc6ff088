"""The proof that routing is dynamic: on the graph's structure, and by numbers.

A LoRA can be merged into the weights; a mixture that depends on the image can't. So a graph in which a router was
folded to a constant, or its experts merged, answers like one model for all patients, and may pass on one scan.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ExportError
from molre_edge.export.links import Links
from molre_edge.parity import Outputs

if TYPE_CHECKING:
    import onnx

__all__ = ["RouterTrace", "RoutingProof", "prove_routing", "router_softmaxes", "trace_routers", "with_even_gates"]

_MIN_GATE_DIFFERENCE = 1e-5
"""Two volumes must differ in some gate by more than float32 noise (about 1e-7) and its growth through a network."""


@dataclass(frozen=True)
class RouterTrace:
    """What the graph shows of one router.

    Attributes:
        softmax: name of its Softmax node.
        layers: names of the nodes in which its gates multiply the experts' stacked activations, one an adapted layer.
    """

    softmax: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class RoutingProof:
    """The evidence, as the manifest and the report show it.

    Attributes:
        routers: traces, in the order of the graph.
        adapted_layers: number of adapted layers that the gates reach.
        gate_difference: largest absolute difference of a gate between two golden volumes, by PyTorch.
        gate_error: largest absolute difference of a gate between the graph and PyTorch on these volumes.
        logit_effect: largest absolute change of a logit when all gates are made even (1 / K), in the graph.
    """

    routers: tuple[RouterTrace, ...]
    adapted_layers: int
    gate_difference: float
    gate_error: float
    logit_effect: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def router_softmaxes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The routers' Softmax nodes: those from which the output ``gates`` is computed, in the graph's order."""
    links = Links(graph)
    if not any(output.name == "gates" for output in graph.graph.output):
        return []
    values = links.upstream(["gates"], stop={"Softmax"})
    return [node for node in graph.graph.node if node.op_type == "Softmax" and node.output[0] in values]


def trace_routers(graph: onnx.ModelProto, *, routers: int, layers: int, experts: int, rank: int) -> list[RouterTrace]:
    """Show on the graph that each router depends on the input and multiplies the experts of its layers.

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
    from_input = links.downstream([volume])
    traces = []
    for node in softmaxes:
        gates = node.output[0]
        if gates not in from_input:
            raise ExportError(f"routing is not dynamic in the graph: router {node.name} does not depend on the input")
        reached = links.downstream([gates])
        found = tuple(
            mul.name
            for mul in graph.graph.node
            if mul.op_type == "Mul" and _is_gating(links, mul, gates, reached, from_input, experts * rank)
        )
        if not found or gates not in answers:
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


_MOVES = {"Cast", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Transpose", "Identity", "Flatten"}


def _is_gating(
    links: Links, mul: onnx.NodeProto, gates: str, reached: set[str], from_input: set[str], width: int
) -> bool:
    """Whether a Mul takes these gates on one side and the down projection of `width` rows on the other.

    On the gates' side only scaling and copies may lie between the softmax and the product; on the other side a MatMul,
    Gemm or Conv with a constant weight that is `width` wide, and after the product one that reads `width`.
    """
    if len(mul.input) != 2:
        return False
    for side, other in ((0, 1), (1, 0)):
        if mul.input[side] not in reached or mul.input[other] not in from_input:
            continue
        if not _is_copy_of(links, mul.input[side], gates):
            continue
        down = _through_moves(links, mul.input[other])
        if down is None or not _has_constant_axis(links, down, width):
            continue
        if any(_has_constant_axis(links, up, width) for up in _next_products(links, mul.output[0])):
            return True
    return False


def _is_copy_of(links: Links, value: str, gates: str) -> bool:
    """Whether a value is the gates after copies, casts and products with constants."""
    while value != gates:
        node = links.maker(value)
        if node is None:
            return False
        if node.op_type in _MOVES:
            value = node.input[0]
        elif node.op_type == "Mul":
            variable = [name for name in node.input if name not in links.constants]
            if len(variable) != 1:
                return False
            value = variable[0]
        else:
            return False
    return True


_PRODUCTS = {"MatMul", "Gemm", "Conv"}


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
        elif node.op_type in _MOVES:
            found.extend(_next_products(links, node.output[0]))
    return found


def _has_constant_axis(links: Links, node: onnx.NodeProto, width: int) -> bool:
    return any(width in shape for name in node.input[1:] if (shape := _constant_shape(links, name)) is not None)


def _constant_shape(links: Links, name: str) -> tuple[int, ...] | None:
    if name in links.constants:
        return links.constants[name]
    maker = links.maker(name)  # behind a cast, or Q/DQ
    if maker is not None and maker.op_type in {"Cast", "DequantizeLinear", "QuantizeLinear"}:
        return _constant_shape(links, maker.input[0])
    return None


def with_even_gates(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph whose routers answer 1 / K whatever they see."""
    import onnx

    even = onnx.ModelProto()
    even.CopyFrom(graph)
    for node in router_softmaxes(even):
        index = list(even.graph.node).index(node)
        flat = f"{node.name}_even"
        even.graph.node.insert(index, onnx.helper.make_node("Sub", [node.input[0], node.input[0]], [flat], name=flat))
        node.input[0] = flat
    return even


def prove_routing(
    traces: list[RouterTrace],
    *,
    reference: Outputs,
    graph_answers: Outputs,
    even_logits: npt.NDArray[np.float32],
    tolerance: float,
) -> RoutingProof:
    """Show by numbers that two scans get two mixtures, both as PyTorch has them, and that the mixture matters.

    Args:
        traces: from :func:`trace_routers`.
        reference: PyTorch's answers to at least two volumes.
        graph_answers: the graph's answers to the same volumes.
        even_logits: the graph's logits for the first of them with all gates even.
        tolerance: largest allowed L1 distance between a gate vector of the graph and PyTorch's.

    Raises:
        ExportError: the gates do not differ, or differ from PyTorch's.
    """
    assert reference.gates is not None and graph_answers.gates is not None
    difference = float(np.ptp(reference.gates, axis=0).max())
    if difference < _MIN_GATE_DIFFERENCE:
        raise ExportError(
            f"routing can't be proved dynamic: PyTorch's own gates differ by no more than {difference:.1e} between the "
            f"golden volumes. Is the router trained, and do the volumes differ (--golden)?"
        )
    error = np.abs(graph_answers.gates - reference.gates)
    if float(error.sum(-1).max()) > tolerance:
        raise ExportError(
            f"the graph's gates are not PyTorch's: L1 distance {float(error.sum(-1).max()):.1e}, "
            f"allowed {tolerance:.0e}"
        )
    layers = {name for trace in traces for name in trace.layers}
    return RoutingProof(
        routers=tuple(traces),
        adapted_layers=len(layers),
        gate_difference=difference,
        gate_error=float(error.max()),
        logit_effect=float(np.abs(graph_answers.logits[: len(even_logits)] - even_logits).max()),
    )
