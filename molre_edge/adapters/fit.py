"""What fits what: an adapter brought to the shapes of a graph, or the reason why it can't be.

A graph is made for a largest number of experts K, a largest rank r and a largest number of findings. What an adapter
has less of is filled so that its answers stay the same: ranks with zeros, experts with matrices of zeros and a router
that never chooses them, findings with zeros. What was filled is cut from the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.file import Adapter
from molre_edge.adapters.fit_facts import FitFacts
from molre_edge.errors import AdapterError
from molre_edge.parity import Outputs
from molre_edge.specs import TensorSpec

__all__ = ["NEVER", "FittedAdapter", "fit_adapter", "why_not_fit"]

NEVER = -1e4
"""Logit of an expert that is not there: its gate is 0 in float32 and in float16, and finite in both."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FittedAdapter:
    """An adapter in the shapes of a graph's inputs.

    Attributes:
        adapter: as it is in its file.
        tensors: float32, one for each input of the graph.
        experts, findings: how many of the graph's are the adapter's; the others are cut.
    """

    adapter: Adapter
    tensors: Mapping[str, Array]
    experts: int
    findings: int

    def cut(self, outputs: Outputs) -> Outputs:
        """A graph's answers without what the adapter has not: [n, findings], and gates [..., experts]."""
        gates = None if outputs.gates is None else outputs.gates[..., : self.experts]
        if gates is not None and self.experts == 1:  # always 1, and reported once a volume
            gates = gates[:, :1]
        return replace(outputs, logits=outputs.logits[:, : self.findings], gates=gates)


def why_not_fit(adapter: FitFacts, graph: FitFacts) -> str | None:
    """Why an adapter can't run in a graph, named by what differs; None if it can."""
    for what, of in _SAME.items():
        if of(adapter) != of(graph):
            return f"{what}: the adapter's is {_brief(of(adapter))}, the bundle's {_brief(of(graph))}"
    if adapter.experts > 1:
        for what, of in _ROUTERS.items():
            if of(adapter) != of(graph):
                return f"{what}: the adapter's is {_brief(of(adapter))}, the bundle's {_brief(of(graph))}"
    for what, has, most in (
        ("experts", adapter.experts, graph.experts),
        ("rank", adapter.rank if adapter.experts else 0, graph.rank),
        ("findings", adapter.findings, graph.findings),
    ):
        if has > most:
            return f"{what}: the adapter has {has}, and the bundle's graphs take {most} at most"
    return None


_SAME: Mapping[str, Callable[[FitFacts], object]] = {
    "backbone": lambda facts: facts.backbone,
    "backbone's options": lambda facts: dict(facts.options),
    "backbone's weights (SHA-256)": lambda facts: facts.backbone_sha256,
    "grid": lambda facts: facts.grid,
    "windows": lambda facts: facts.windows,
    "windows' range": lambda facts: facts.window_range,
    "normalisation": lambda facts: (facts.mean, facts.std),
    "adapted modules": lambda facts: facts.places,
    "embedding's width": lambda facts: facts.width,
    "pooling's hidden size": lambda facts: facts.pooling,
}
_ROUTERS: Mapping[str, Callable[[FitFacts], object]] = {
    "routing level": lambda facts: facts.level,
    "router sharing": lambda facts: (facts.sharing, facts.groups),
    "routers' hidden size": lambda facts: facts.hidden,
}
"""What matters where there is something to choose: one expert (LoRA) has no router."""


def _brief(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) and value else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def fit_adapter(adapter: Adapter, graph: FitFacts, inputs: Sequence[TensorSpec]) -> FittedAdapter:
    """Bring an adapter to the shapes of a graph's inputs.

    Args:
        adapter: from its file.
        graph: what the graph was made for.
        inputs: the graph's inputs without the volume.

    Raises:
        AdapterError: it does not fit, or its tensors are not those of its description. The message names what differs.
    """
    if (reason := why_not_fit(adapter.fit, graph)) is not None:
        raise AdapterError(
            f"adapter {adapter.words} does not fit this bundle. Different {reason}. Pack it from a checkpoint of this "
            f"bundle's model, or use the bundle that it was made for"
        )
    wanted = {spec.name: tuple(int(side or 0) for side in spec.shape) for spec in inputs}
    given = {**_without_choice(adapter, graph, wanted), **adapter.tensors}
    if missing := sorted(set(wanted) - set(given)):
        raise AdapterError(f"adapter {adapter.words}: has no tensor {missing[0]}. Pack it again")
    if surplus := sorted(set(given) - set(wanted)):
        raise AdapterError(
            f"adapter {adapter.words}: {surplus[0][:200]} is no input of the bundle's graphs. Pack it again"
        )
    tensors = {}
    for name, shape in wanted.items():
        expected, fill = _own_shape(name, shape, adapter.fit, graph)
        if given[name].shape != expected:
            raise AdapterError(
                f"adapter {adapter.words}: {name} is {list(given[name].shape)}, expected {list(expected)} by its own "
                f"description. Pack it again"
            )
        tensors[name] = fill(given[name])
    return FittedAdapter(adapter, tensors, adapter.fit.experts, adapter.fit.findings)


def _without_choice(adapter: Adapter, graph: FitFacts, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Routers' tensors that an adapter may lack: no standardisation; and for one expert, a router that takes it."""
    filled = {}
    for name, shape in wanted.items():
        if not name.startswith("adapter.routers."):
            continue
        if name.endswith(".mean"):
            filled[name] = np.zeros(shape, np.float32)
        elif name.endswith(".std"):
            filled[name] = np.ones(shape, np.float32)
        elif adapter.fit.experts == 1:
            kept = (1, *shape[1:]) if name.endswith((".fc2.weight", ".fc2.bias")) else shape
            filled[name] = np.zeros(kept, np.float32)
    return filled


def _own_shape(
    name: str, shape: tuple[int, ...], own: FitFacts, graph: FitFacts
) -> tuple[tuple[int, ...], Callable[[Array], Array]]:
    """The shape that an adapter's own tensor has, by the graph's, and how it is filled up to that."""
    head = name in ("adapter.head.weight", "adapter.head.bias", "adapter.head.B")
    rows = own.findings if head else shape[0]

    def more_rows(array: Array) -> Array:
        return _filled(array, (shape[0], *array.shape[1:]))

    if name.endswith(".A"):
        return (own.experts * own.rank, *shape[1:]), lambda array: _stacked(array, own, graph)
    if name.endswith(".B"):
        return (rows, own.experts * own.rank), lambda array: more_rows(_stacked(array.T, own, graph).T)
    if name.endswith(".fc2.bias"):
        return (own.experts,), lambda array: _filled(array, shape, NEVER)
    if name.endswith(".fc2.weight"):
        return (own.experts, *shape[1:]), lambda array: _filled(array, shape)
    return (rows, *shape[1:]), more_rows


def _stacked(array: Array, own: FitFacts, graph: FitFacts) -> Array:
    """Stacked experts [K * r, ...] with the graph's K and r; what is new is zero."""
    apart = array.reshape(own.experts, own.rank, *array.shape[1:])
    filled = _filled(apart, (graph.experts, graph.rank, *array.shape[1:]))
    return filled.reshape(graph.experts * graph.rank, *array.shape[1:])


def _filled(array: Array, shape: tuple[int, ...], value: float = 0.0) -> Array:
    if array.shape == shape:
        return np.ascontiguousarray(array)
    whole = np.full(shape, value, np.float32)
    whole[tuple(slice(side) for side in array.shape)] = array
    return whole
