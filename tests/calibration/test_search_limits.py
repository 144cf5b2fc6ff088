from __future__ import annotations

import math

import numpy as np
import pytest

from molre_edge.calibration.search_limits import allow_one_flip, scale_limits, sensitivity
from molre_edge.parity import DEFAULT_LIMITS, Outputs, ParityLimits, ParityNumbers, compare
from molre_edge.specs import Precision

INT8 = DEFAULT_LIMITS[Precision.INT8]


def numbers(shift: float = 0.0, turn: float = 0.0, gates: float = 0.0) -> ParityNumbers:
    reference = Outputs(np.zeros((2, 3)), np.tile([1.0, 0.0], (2, 1)), np.full((2, 1, 1, 2), 0.5))
    embedding = np.tile([math.cos(turn), math.sin(turn)], (2, 1))
    mixed = np.tile([0.5 + gates / 2, 0.5 - gates / 2], (2, 1, 1, 1))
    engine = Outputs(np.full((2, 3), shift), embedding, mixed)
    return compare(reference, engine, findings=("a", "b", "c"), thresholds=np.full(3, 0.5))


def test_it_is_the_largest_share_of_a_limit() -> None:
    assert sensitivity(numbers(), INT8) == 0
    assert sensitivity(numbers(shift=0.1), INT8) == pytest.approx(0.1 / 0.2)
    only_dp = ParityLimits("dp only", max_abs_dp=0.05)
    assert sensitivity(numbers(shift=0.1), only_dp) == pytest.approx((1 / (1 + math.exp(-0.1)) - 0.5) / 0.05)
    assert sensitivity(numbers(turn=0.1), INT8) == pytest.approx((1 - math.cos(0.1)) / 0.01, rel=1e-3)
    assert sensitivity(numbers(gates=0.1), INT8) == pytest.approx(2.0, rel=1e-5)
    assert sensitivity(numbers(gates=0.1), only_dp) == 0
    assert sensitivity(numbers(shift=float("nan")), INT8) == math.inf


def test_the_search_keeps_smaller_limits_where_they_do_not_come_in_steps() -> None:
    limits = scale_limits(INT8, 0.8)
    assert limits.max_abs_dp == pytest.approx(0.04)
    assert limits.min_cosine == pytest.approx(0.992)
    assert limits.max_routing_l1 == pytest.approx(0.04)
    assert limits.max_flips_fraction == INT8.max_flips_fraction
    assert scale_limits(ParityLimits("one", max_abs_dp=0.1), 0.5) == ParityLimits("one", max_abs_dp=0.05)


@pytest.mark.parametrize(("decisions", "flips"), [(150, 1), (199, 1), (400, 2), (1000, 5)])
def test_of_few_decisions_one_may_flip_and_of_many_the_limit_holds(decisions: int, flips: int) -> None:
    limit = allow_one_flip(ParityLimits("some", max_flips_fraction=0.005), decisions).max_flips_fraction
    assert limit is not None
    assert flips / decisions <= limit < (flips + 1) / decisions


def test_where_flips_are_free_they_stay_so() -> None:
    limits = ParityLimits("some", max_abs_dp=0.1)
    assert allow_one_flip(limits, 10) == limits
