"""The proof by numbers that routing is dynamic: two scans get two mixtures, as in PyTorch, and they matter as there.

A LoRA can be merged into the weights; a mixture that depends on the image can't. So a graph in which a router was
folded to a constant, or its experts merged, answers like one model for all patients, and may pass on one scan. The
structure is looked at first (:mod:`molre_edge.export.routing_trace`), then this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from molre_edge.errors import ExportError
from molre_edge.export.routing_trace import RouterTrace, router_softmaxes
from molre_edge.parity import Outputs

if TYPE_CHECKING:
    import onnx

    from molre_edge.model.classifier import HeadCTClassifier

__all__ = ["RoutingProof", "even_gates", "prove_routing", "routing_notes", "with_even_gates"]

_MIN_GATE_DIFFERENCE = 1e-4
"""A router shows that it routes when some gate differs by this much between two volumes: float32 noise, about 1e-7, may
grow to 1e-5 on its way through a network."""

_FOLLOWS = 0.25
"""The graph's gates may be off by this part of that difference. A router that is a constant is off by half at least."""

_NOISE = 1e-4
"""Logits of the graph and of PyTorch may differ by this, besides a part of what is measured."""


@dataclass(frozen=True)
class RoutingProof:
    """The evidence, as shown by the manifest and the report.

    Attributes:
        routers: traces, in the order of the graph.
        adapted_layers: number of adapted layers that the gates reach.
        gate_difference: largest absolute difference of a gate between two golden volumes, by PyTorch.
        gate_error: largest absolute difference of a gate between the graph and PyTorch on these volumes.
        logit_effect: largest absolute change of a logit when all gates are made even (1 / K), in the graph.
        logit_effect_reference: the same in PyTorch.
        unmoved: indices, along the routers' axis of ``gates``, of routers that gave all golden volumes the same gates.
            The numbers prove nothing about them; the structure of the graph does.
    """

    routers: tuple[RouterTrace, ...]
    adapted_layers: int
    gate_difference: float
    gate_error: float
    logit_effect: float
    logit_effect_reference: float
    unmoved: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def with_even_gates(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph whose routers answer 1 / K whatever they see."""
    import onnx

    softmaxes = {node.name for node in router_softmaxes(graph)}
    even = onnx.ModelProto()
    even.CopyFrom(graph)
    del even.graph.node[:]
    for node in graph.graph.node:
        if node.name in softmaxes:
            score, flat = node.input[0], f"{node.name}_even"
            even.graph.node.append(onnx.helper.make_node("Sub", [score, score], [flat], name=flat))
        even.graph.node.append(node)
        if node.name in softmaxes:
            even.graph.node[-1].input[0] = flat
    return even


@contextlib.contextmanager
def even_gates(model: HeadCTClassifier) -> Iterator[None]:
    """PyTorch's side of :func:`with_even_gates`: within the block, the model's routers answer 1 / K."""
    import torch

    def even(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], gates: torch.Tensor) -> torch.Tensor:
        return torch.full_like(gates, 1 / gates.shape[-1])

    handles = [router.register_forward_hook(even) for router in model.routers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def prove_routing(
    traces: list[RouterTrace],
    *,
    reference: Outputs,
    answers: Outputs,
    even_reference: Outputs,
    even_answers: Outputs,
    tolerance: float,
) -> RoutingProof:
    """Show by numbers that two scans get two mixtures, both as PyTorch has them, and that the mixture matters as there.

    Args:
        traces: from :func:`trace_routers`.
        reference: PyTorch's answers to at least two volumes.
        answers: the graph's answers to the same volumes.
        even_reference: PyTorch's answers to the first of them with all gates even.
        even_answers: the graph's, likewise.
        tolerance: largest allowed L1 distance between a gate vector of the graph and PyTorch's.

    Raises:
        ExportError: the gates do not differ, or differ from PyTorch's, or act on the logits in another way than there.
    """
    assert reference.gates is not None and answers.gates is not None
    differences = np.ptp(reference.gates, axis=0).max(axis=(0, 2))  # by router
    unmoved = differences < _MIN_GATE_DIFFERENCE
    if unmoved.all():
        raise ExportError(
            f"routing can't be proved dynamic: PyTorch's own gates differ by no more than {differences.max():.1e} "
            f"between the golden volumes. Expected two volumes with different gates: check that the router is trained, "
            f"or use other volumes with --golden"
        )
    errors = np.abs(answers.gates - reference.gates)
    distance = float(errors.sum(-1).max())
    if not distance <= tolerance:
        raise ExportError(
            f"the graph's gates are not PyTorch's: L1 distance {distance:.1e}, at most {tolerance:.0e} allowed"
        )
    by_router = errors.max(axis=(0, 1, 3))
    still = np.flatnonzero(~unmoved & ~(by_router <= _FOLLOWS * differences))
    if len(still):
        first = still[0]
        raise ExportError(
            f"routing is not dynamic in the graph: between the golden volumes, gates of router {first} differ by "
            f"{differences[first]:.1e} in PyTorch, and the graph's are off by {by_router[first]:.1e}. Does this router "
            f"see the scan?"
        )
    count = len(even_answers)
    effect = float(np.abs(answers.logits[:count] - even_answers.logits).max())
    expected = float(np.abs(reference.logits[:count] - even_reference.logits).max())
    off = float(np.abs(even_answers.logits - even_reference.logits).max())
    if not off <= _FOLLOWS * expected + _NOISE * max(1.0, float(np.abs(reference.logits).max())):
        raise ExportError(
            f"the graph's gates do not act as PyTorch's: made even, they change logits by {effect:.1e} in the graph "
            f"and by {expected:.1e} in PyTorch. Were experts merged into weights?"
        )
    return RoutingProof(
        routers=tuple(traces),
        adapted_layers=len({name for trace in traces for name in trace.layers}),
        gate_difference=float(differences.max()),
        gate_error=float(by_router.max()),
        logit_effect=effect,
        logit_effect_reference=expected,
        unmoved=tuple(int(index) for index in np.flatnonzero(unmoved)),
    )


def routing_notes(proof: RoutingProof | None, experts: int) -> list[str]:
    """Remarks about the proof for the manifest.

    Args:
        proof: None if the model has no routing.
        experts: K.
    """
    if proof is None:
        return [f"no routing to prove: the model has {'one expert' if experts else 'no experts'}"]
    notes = []
    if proof.logit_effect < 1e-6:
        notes.append("the experts do not change any logit yet: their up projections are zero, or almost zero")
    if proof.unmoved:
        which = ", ".join(map(str, proof.unmoved))
        notes.append(
            f"routers {which} gave all golden volumes the same gates, so the numbers prove nothing about them; the "
            f"graph's structure was checked"
        )
    return notes
