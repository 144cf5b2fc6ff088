"""An adapter's tensors are handed to a graph only if they are exactly what it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from molre_edge.adapters.tensors import check_half_range, fit_tensors, tensors_digest
from molre_edge.errors import AdapterError
from molre_edge.specs import TensorSpec

SPECS = (
    TensorSpec("adapter.backbone.layer.A", "float16", (4, 3)),
    TensorSpec("adapter.head.weight", "float32", (2, 3)),
)


def tensors(**changes: Any) -> dict[str, Any]:
    made = {spec.name: np.ones(spec.sides, np.float32) for spec in SPECS}
    return {**made, **{name.replace("__", "."): value for name, value in changes.items()}}


def test_they_come_in_the_graphs_order_and_precision_as_copies() -> None:
    given = dict(reversed(tensors().items()))
    fitting = fit_tensors(given, SPECS, "the graph")
    assert [(name, value.dtype.name) for name, value in fitting.items()] == [
        ("adapter.backbone.layer.A", "float16"),
        ("adapter.head.weight", "float32"),
    ]
    assert not any(np.shares_memory(value, given[name]) for name, value in fitting.items())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"adapter.head.weight": np.ones((2, 3))},
            r"1 tensors are missing \(adapter\.backbone\.layer\.A\), 0 are unknown",
        ),
        (tensors(adapter__more=np.ones(1)), r"0 tensors are missing \(none\), 1 are unknown \(adapter\.more\)"),
        (
            tensors(adapter__head__weight=np.ones((3, 3))),
            r"adapter\.head\.weight has the shape \[3, 3\], expected \[2, 3\]",
        ),
        (tensors(adapter__head__weight=np.full((2, 3), np.nan)), r"NaN or infinity in adapter\.head\.weight"),
        (tensors(adapter__backbone__layer__A=np.full((4, 3), -7e4)), r"layer\.A reaches 7e\+04, .* 65504 at most"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterError, match=words):
        fit_tensors(given, SPECS, "the graph")


def test_what_a_graph_reads_in_float32_may_be_large() -> None:
    check_half_range(tensors(adapter__head__weight=np.full((2, 3), 7e4)), SPECS)


def test_the_digest_is_of_names_shapes_and_values_in_any_order() -> None:
    digest = tensors_digest(tensors())
    assert digest == tensors_digest(dict(reversed(tensors().items())))
    others = (
        tensors(adapter__head__weight=np.ones((3, 2))),
        tensors(adapter__head__weight=np.full((2, 3), 2.0)),
        {"adapter.other" if name.endswith("A") else name: value for name, value in tensors().items()},
    )
    assert len({digest, *map(tensors_digest, others)}) == 4
