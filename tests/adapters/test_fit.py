"""What fits what: a smaller adapter answers the same in a larger graph, and another model's is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_adapters import GRAPH, PLACES, facts, inputs_of, made

from molre_edge.adapters.file import Adapter
from molre_edge.adapters.fit import fit_adapter, why_not_fit
from molre_edge.adapters.fit_facts import FitFacts
from molre_edge.errors import AdapterError
from molre_edge.parity import Outputs
from molre_edge.specs import Grid

INPUTS = inputs_of(GRAPH)


def gates_of(tensors: Any, x: np.ndarray, router: int = 0) -> np.ndarray:
    """The gates of x, computed as the model does, with a rectifier."""
    name = f"adapter.routers.{router}"
    x = (x - tensors[f"{name}.mean"]) / tensors[f"{name}.std"]
    hidden = np.maximum(tensors[f"{name}.fc1.weight"] @ x + tensors[f"{name}.fc1.bias"], 0)
    logits = tensors[f"{name}.fc2.weight"] @ hidden + tensors[f"{name}.fc2.bias"]
    powers = np.exp(logits - logits.max(), dtype=np.float32)
    return powers / powers.sum()


def added(tensors: Any, fit: FitFacts, gates: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What the experts of the first place add."""
    hidden = tensors[f"adapter.{PLACES[0]}.A"] @ x * np.repeat(gates, fit.rank)
    return tensors[f"adapter.{PLACES[0]}.B"] @ hidden


@pytest.mark.parametrize("changes", [{}, {"rank": 1}, {"experts": 2}, {"experts": 3, "rank": 1, "findings": 2}])
def test_a_smaller_adapter_gives_the_same_numbers_in_the_shapes_of_the_graph(changes: dict[str, int]) -> None:
    adapter = made(fit=facts(**changes))
    fitted = fit_adapter(adapter, GRAPH, INPUTS)
    assert {name: value.shape for name, value in fitted.tensors.items()} == {each.name: each.shape for each in INPUTS}
    x = np.linspace(-1, 1, 5, dtype=np.float32)
    own, gates = gates_of(adapter.tensors, x), gates_of(fitted.tensors, x)
    assert gates[: len(own)] == pytest.approx(own, rel=1e-6)
    assert (gates[len(own) :] == 0).all()
    wanted = added(adapter.tensors, adapter.fit, own, x)
    assert added(fitted.tensors, GRAPH, gates, x) == pytest.approx(wanted, rel=1e-5)
    head = fitted.tensors["adapter.head.weight"]
    assert np.array_equal(head[: adapter.fit.findings], adapter.tensors["adapter.head.weight"])
    assert (head[adapter.fit.findings :] == 0).all()


def test_one_expert_without_a_router_gets_a_router_that_always_takes_it() -> None:
    adapter = made(fit=facts(experts=1, level="volume", hidden=9))
    assert not any("routers" in name for name in adapter.tensors)
    fitted = fit_adapter(adapter, GRAPH, INPUTS)
    assert gates_of(fitted.tensors, np.ones(5, np.float32), 1).tolist() == [1, 0, 0, 0]


def test_a_router_that_does_not_standardise_gets_mean_0_and_deviation_1() -> None:
    adapter = made()
    kept = {name: value for name, value in adapter.tensors.items() if not name.endswith((".mean", ".std"))}
    fitted = fit_adapter(replace(adapter, tensors=kept), GRAPH, INPUTS)
    assert fitted.tensors["adapter.routers.1.mean"].tolist() == [0] * 5
    assert fitted.tensors["adapter.routers.1.std"].tolist() == [1] * 5


def test_an_adapted_head_is_filled_in_its_experts_too() -> None:
    places, groups = (*PLACES, "head"), (0, 1, 2)
    graph = facts(places=places, groups=groups)
    inputs = [replace(each, shape=(3, 8)) if each.name == "adapter.head.B" else each for each in inputs_of(graph)]
    adapter = made(fit=facts(places=places, groups=groups, findings=2, rank=1))
    adapter = replace(adapter, tensors={**adapter.tensors, "adapter.head.B": np.ones((2, 4), np.float32)})
    fitted = fit_adapter(adapter, graph, inputs).tensors["adapter.head.B"]
    assert fitted.tolist() == [[1, 0] * 4, [1, 0] * 4, [0] * 8]


def test_what_was_filled_is_cut_from_the_answers() -> None:
    outputs = Outputs(np.zeros((1, 3)), np.zeros((1, 5)), np.zeros((1, 4, 2, 4)))
    cut = fit_adapter(made(fit=facts(experts=2, findings=2)), GRAPH, INPUTS).cut(outputs)
    assert cut.gates is not None
    assert (cut.logits.shape, cut.embedding.shape, cut.gates.shape) == ((1, 2), (1, 5), (1, 4, 2, 2))
    one = fit_adapter(made(fit=facts(experts=1)), GRAPH, INPUTS).cut(outputs)
    assert one.gates is not None and one.gates.shape == (1, 1, 2, 1)  # as the model itself reports it


OTHERS: dict[str, dict[str, Any]] = {
    "backbone": {"backbone": "dinov3-vitb16"},
    "backbone's options": {"options": {}},
    "backbone's weights": {"backbone_sha256": "d" * 64},
    "grid": {"grid": Grid(slices=8, rows=32, cols=32)},
    "windows": {"windows": ((40.0, 80.0), (50.0, 150.0))},
    "windows' range": {"window_range": ((0.0, 1.0), (-1.0, 1.0))},
    "normalisation": {"std": (0.5, 0.5)},
    "adapted modules": {"places": (PLACES[0], "head")},
    "embedding's width": {"width": 7},
    "pooling's hidden size": {"pooling": 7},
    "routing level": {"level": "volume"},
    "router sharing": {"sharing": "module"},
    "routers' hidden size": {"hidden": 4},
    "experts: the adapter has 5": {"experts": 5},
    "rank: the adapter has 3": {"rank": 3},
    "findings: the adapter has 4": {"findings": 4},
}


@pytest.mark.parametrize("what", OTHERS)
def test_an_adapter_of_another_model_is_refused_by_what_differs(what: str) -> None:
    other = replace(made(), fit=facts(**OTHERS[what]), digest="e" * 64)
    with pytest.raises(AdapterError, match=rf"adapter hospital \(eeeeeeeeeeee\) does not fit .* Different {what}"):
        fit_adapter(other, GRAPH, INPUTS)


def test_routers_of_an_adapter_with_one_expert_may_differ() -> None:
    assert why_not_fit(facts(experts=1, level="volume", hidden=9, sharing="model", groups=(0, 0)), GRAPH) is None


def without(adapter: Adapter, name: str) -> Adapter:
    return replace(adapter, tensors={key: value for key, value in adapter.tensors.items() if key != name})


def test_tensors_that_are_not_those_of_the_description_are_refused_by_name() -> None:
    adapter = made()
    with pytest.raises(AdapterError, match=r"has no tensor adapter\.head\.bias"):
        fit_adapter(without(adapter, "adapter.head.bias"), GRAPH, INPUTS)
    more = {**adapter.tensors, "adapter.neck": np.zeros(1, np.float32)}
    with pytest.raises(AdapterError, match=r"adapter\.neck is no input of the bundle's graphs"):
        fit_adapter(replace(adapter, tensors=more), GRAPH, INPUTS)
    more = {**adapter.tensors, "adapter.head.bias": np.zeros(2, np.float32)}
    with pytest.raises(AdapterError, match=r"adapter\.head\.bias is \[2\], expected \[3\]"):
        fit_adapter(replace(adapter, tensors=more), GRAPH, INPUTS)


def test_the_facts_are_plain_data_and_come_back() -> None:
    assert FitFacts.from_dict(GRAPH.to_dict()) == GRAPH
    assert FitFacts.from_dict({**GRAPH.to_dict(), "later": 1}) == GRAPH


@pytest.mark.parametrize(
    ("name", "value"),
    [("grid", {"slices": 0, "rows": 32, "cols": 32}), ("groups", [0]), ("mean", [0.5]), ("places", "all"), ("rank", 0)],
)
def test_impossible_facts_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="fit"):
        FitFacts.from_dict({**GRAPH.to_dict(), name: value})
