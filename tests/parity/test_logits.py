"""Tolerances are the same for all logits up to 8, grow with saturated ones, and stop growing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.parity import sigmoid
from molre_edge.parity.logits import logit_differences, saturation, threshold_logits

LOGITS = st.floats(-300, 300)


@pytest.mark.parametrize(
    ("logit", "wider"), [(0.0, 1), (-7.9, 1), (8.0, 1), (12.0, 1.5), (-16.0, 2), (32.0, 4), (50.0, 4), (-1e6, 4)]
)
def test_a_saturated_logit_has_a_wider_tolerance(logit: float, wider: float) -> None:
    assert saturation(np.array([logit]))[0] == wider


@given(LOGITS, LOGITS)
def test_a_difference_is_that_of_the_logits_over_the_saturation_of_the_reference(a: float, b: float) -> None:
    got = logit_differences(np.array([a]), np.array([b]))[0]
    assert got == pytest.approx(abs(b - a) / min(max(abs(a) / 8, 1), 4))


@given(LOGITS, st.sampled_from([1.0, -1.0]))
def test_one_logit_off_is_at_least_a_quarter_wherever_the_reference_lies(a: float, step: float) -> None:
    assert logit_differences(np.array([a]), np.array([a + step]))[0] >= 0.25 - 1e-9


@pytest.mark.parametrize(
    "pair", [(np.nan, 0.0), (0.0, np.inf), (-np.inf, -np.inf), (np.inf, -np.inf)], ids=["nan", "inf", "both", "signs"]
)
def test_what_is_not_finite_has_no_difference(pair: tuple[float, float]) -> None:
    assert math.isnan(logit_differences(*(np.array([value]) for value in pair))[0])


@given(st.floats(1e-12, 1 - 1e-9))
def test_the_logit_of_a_threshold_leads_back_to_it(threshold: float) -> None:
    assert sigmoid(threshold_logits(np.array([threshold])))[0] == pytest.approx(threshold, rel=1e-9)


def test_the_ends_of_the_scale_have_a_logit_too() -> None:
    none, every = threshold_logits(np.array([1.0, 0.0]))
    assert 36 < none < 38 and sigmoid(np.array([none + 0.1]))[0] == 1.0
    assert every == -np.inf
