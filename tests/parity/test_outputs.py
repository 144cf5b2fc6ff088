"""Outputs are plain float32 arrays that belong together, and probabilities never overflow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.parity import Outputs, ParityError, sigmoid

LOGITS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.floats(-30, 30))
def test_sigmoid_is_the_logistic_function(x: float) -> None:
    assert sigmoid(np.array(x)) == pytest.approx(1 / (1 + np.exp(-x)), rel=1e-14)


@given(st.lists(LOGITS, min_size=2))
def test_sigmoid_stays_in_range_keeps_the_order_and_is_symmetric_for_any_logit(values: list[float]) -> None:
    x = np.sort(np.array(values, np.float32))
    p = sigmoid(x)
    assert p.dtype == np.float64
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) >= 0).all()
    np.testing.assert_allclose(sigmoid(-x), 1 - p, atol=1e-15)


def test_sigmoid_of_nan_is_nan_and_of_infinity_is_certain() -> None:
    np.testing.assert_array_equal(sigmoid(np.array([np.nan, np.inf, -np.inf, 0.0])), [np.nan, 1.0, 0.0, 0.5])


def test_every_array_becomes_float32() -> None:
    got = Outputs(np.zeros((2, 3), np.float16), np.zeros((2, 4)), np.ones((2, 1, 2, 5), np.float64))
    assert got.gates is not None
    assert {got.logits.dtype, got.embedding.dtype, got.gates.dtype} == {np.dtype(np.float32)}
    assert len(got) == 2


def test_a_value_beyond_float32_becomes_infinite_without_a_warning() -> None:
    assert np.isposinf(Outputs(np.full((1, 1), 1e300), np.zeros((1, 1))).logits).all()


@pytest.mark.parametrize(
    ("logits", "embedding", "gates", "said"),
    [
        ((3,), (3, 4), None, r"'logits': expected \(volumes, findings\), got shape \(3,\)"),
        ((), (3, 4), None, r"'logits': expected \(volumes, findings\), got shape \(\)"),
        ((3, 2), (3, 4, 1), None, r"'embedding': expected \(volumes, d\)"),
        ((3, 2), (3, 4), (3, 2, 6), r"'gates': expected \(volumes, slices or 1, routers, experts\)"),
        ((3, 2), (4, 4), None, "'embedding': expected 3 volumes as in logits, got 4"),
        ((3, 2), (3, 4), (1, 1, 2, 6), "'gates': expected 3 volumes as in logits, got 1"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(
    logits: tuple[int, ...], embedding: tuple[int, ...], gates: tuple[int, ...] | None, said: str
) -> None:
    with pytest.raises(ParityError, match=said):
        Outputs(np.zeros(logits), np.zeros(embedding), None if gates is None else np.zeros(gates))


@given(cuts=st.lists(st.integers(1, 6), max_size=3), experts=st.booleans())
def test_batches_stacked_are_the_whole_again(
    make_outputs: Callable[..., Outputs], cuts: list[int], experts: bool
) -> None:
    whole = make_outputs(n=7, findings=3, d=4, gates=(2, 2, 3) if experts else None)
    edges = [0, *sorted(set(cuts)), 7]
    parts = [
        Outputs(
            whole.logits[a:b],
            whole.embedding[a:b],
            None if whole.gates is None else whole.gates[a:b],
        )
        for a, b in pairwise(edges)
    ]
    again = Outputs.stack(parts)
    for name in ("logits", "embedding", "gates"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


def test_nothing_can_not_be_stacked() -> None:
    with pytest.raises(ParityError, match="expected at least one batch"):
        Outputs.stack([])


def test_batches_of_different_models_can_not_be_stacked(make_outputs: Callable[..., Outputs]) -> None:
    with pytest.raises(ParityError, match=r"'embedding' differs in shape between batches: \(4,\), \(5,\)"):
        Outputs.stack([make_outputs(d=4), make_outputs(d=5)])
    with pytest.raises(ParityError, match=r"'gates' differs in shape between batches: \(4, 3, 6\), none"):
        Outputs.stack([make_outputs(), make_outputs(gates=None)])
