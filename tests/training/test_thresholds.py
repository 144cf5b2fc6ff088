"""Thresholds are the best of all that could be tried."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from molre_edge.training.thresholds import sensitivity_threshold, set_thresholds, youden_threshold

PROBABILITIES = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0]) | st.floats(0, 1)
Array = npt.NDArray[Any]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, Array]:
    rows = draw(st.lists(st.tuples(PROBABILITIES, st.booleans()), min_size=2, max_size=20))
    p, positive = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assume(positive.any() and not positive.all())
    return p, positive


def rates(p: Array, positive: Array, threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity, counted."""
    hits = [bool(value >= threshold) for value in p]
    found = sum(hit for hit, truth in zip(hits, positive, strict=True) if truth)
    spared = sum(not hit for hit, truth in zip(hits, positive, strict=True) if not truth)
    return found / sum(positive), spared / sum(~positive)


@given(cases())
def test_no_threshold_has_a_larger_youden_index(case: Any) -> None:
    p, positive = case
    best = max(sum(rates(p, positive, t)) for t in [*p, 2.0])
    threshold = youden_threshold(p, positive)
    assert 0 <= threshold <= 1
    assert sum(rates(p, positive, threshold)) == pytest.approx(best)


@given(cases(), st.floats(0.01, 1.0))
def test_the_share_of_positives_is_found_and_no_higher_probability_would_find_it(case: Any, share: float) -> None:
    p, positive = case
    threshold = sensitivity_threshold(p, positive, share)
    needed = math.ceil(share * positive.sum() - 1e-9)
    assert rates(p, positive, threshold)[0] * positive.sum() >= needed - 1e-6
    higher = [value for value in p if value > min(v for v in p if v >= threshold)]
    assert all(rates(p, positive, value)[0] * positive.sum() < needed - 1e-6 for value in higher)


@given(cases())
def test_all_positives_are_found_at_a_sensitivity_of_1(case: Any) -> None:
    p, positive = case
    assert rates(p, positive, sensitivity_threshold(p, positive, 1.0))[0] == 1


@given(cases())
def test_a_threshold_lies_amid_a_gap_so_that_rounding_flips_nothing(case: Any) -> None:
    p, positive = case
    for threshold in (youden_threshold(p, positive), sensitivity_threshold(p, positive, 0.5)):
        above, below = min(v for v in p if v >= threshold), max((v for v in p if v < threshold), default=0.0)
        assert threshold == pytest.approx((above + below) / 2, abs=1e-12)


def test_unknown_labels_are_left_out_and_a_finding_of_one_class_keeps_a_half() -> None:
    nan = np.nan
    labels = np.array([[1, 1, nan], [0, 1, nan], [nan, 1, nan], [0, nan, nan]], dtype=np.float32)
    p = np.array([[0.6, 0.9, 0.9], [0.2, 0.9, 0.9], [0.4, 0.9, 0.9], [0.1, 0.9, 0.9]])
    assert set_thresholds(p, labels, None) == ((pytest.approx(0.4), 0.5, 0.5), (1, 2))


def test_a_share_asked_for_moves_the_thresholds() -> None:
    p = np.array([[0.9], [0.8], [0.3], [0.7], [0.6], [0.1]])
    labels = np.array([[1], [1], [1], [0], [0], [0]], dtype=np.float32)
    assert set_thresholds(p, labels, None)[0] == (pytest.approx(0.75),)
    assert set_thresholds(p, labels, 0.95)[0] == (pytest.approx(0.2),)
