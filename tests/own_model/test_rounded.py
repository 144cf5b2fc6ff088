"""A rounded probability is no difference; a wrong one is."""

from __future__ import annotations

import numpy as np
import pytest

from molre_edge.own_model.rounded import LogitRange
from molre_edge.parity.outputs import sigmoid

LOGITS = np.linspace(-30, 30, 121)[:, None]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_logit_of_a_probability_is_within_its_range(kind: type) -> None:
    ranges = LogitRange.of_probabilities(sigmoid(LOGITS).astype(kind))
    assert np.abs(ranges.nearest(LOGITS) - LOGITS).max() < 1e-9


def test_half_of_float32_s_steps_near_one_are_wider_than_the_limit_of_fp32() -> None:
    ranges = LogitRange.of_probabilities(sigmoid(np.array([[10.0]])).astype(np.float32))
    assert ranges.high - ranges.low > 4e-4


def test_a_logit_that_is_off_stays_off() -> None:
    ranges = LogitRange.of_probabilities(sigmoid(np.array([[0.5, -3.0]])).astype(np.float32))
    nearest = ranges.nearest([[0.51, -3.01]])
    assert np.abs(nearest - [[0.5, -3.0]]).max() < 1e-5


def test_zero_and_one_stand_for_all_logits_that_round_to_them() -> None:
    ranges = LogitRange.of_probabilities(np.array([[0.0, 1.0]], np.float32))
    assert (ranges.nearest([[-120.0, 40.0]]) == [[-120.0, 40.0]]).all()
    low, high = ranges.nearest([[0.0, 0.0]])[0]
    assert low < -80 and high > 15


def test_logits_are_themselves() -> None:
    ranges = LogitRange.of_logits([[1.0, 2.0]])
    assert ranges.nearest([[1.5, 0.0]]).tolist() == [[1.0, 2.0]]
    assert ranges.columns([1, 0]).low.tolist() == [[2.0, 1.0]]
