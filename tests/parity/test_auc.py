"""AUC and DeLong's interval are those of the definitions, counted pair by pair."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from molre_edge.parity import ParityError, auc, compare_auc
from molre_edge.parity.auc import Z_95, auc_interval, unseen

SCORES = st.integers(-4, 4) | st.floats(-8, 8, width=32)  # whole numbers make ties


def won(positive: float, negative: float) -> float:
    return 1.0 if positive > negative else 0.5 if positive == negative else 0.0


def area(scores: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    pairs = [won(a, b) for a in scores[truth] for b in scores[~truth]]
    return sum(pairs) / len(pairs)


def delong_variance(one: npt.NDArray[Any], two: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """Variance of the difference of two areas: equations 4 to 6 of DeLong et al., 1988, by double loops."""
    readers = (one, two)
    m, n = int(truth.sum()), int((~truth).sum())
    v10 = [[sum(won(x, y) for y in r[~truth]) / n for x in r[truth]] for r in readers]
    v01 = [[sum(won(x, y) for x in r[truth]) / m for y in r[~truth]] for r in readers]
    areas = [sum(v) / m for v in v10]

    def covariance(values: list[list[float]], r: int, s: int) -> float:
        pairs = zip(values[r], values[s], strict=True)
        return sum((a - areas[r]) * (b - areas[s]) for a, b in pairs) / (len(values[r]) - 1)

    matrix = [[covariance(v10, r, s) / m + covariance(v01, r, s) / n for s in (0, 1)] for r in (0, 1)]
    return matrix[0][0] + matrix[1][1] - matrix[0][1] - matrix[1][0]


@st.composite
def cases(draw: st.DrawFn) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Scores of two readers and labels, at least two of each class."""
    rows = draw(st.lists(st.tuples(SCORES, SCORES, st.booleans()), min_size=4, max_size=24))
    truth = np.array([row[2] for row in rows])
    assume(truth.sum() >= 2 and (~truth).sum() >= 2)
    one, two = (np.array([row[i] for row in rows], np.float32) for i in (0, 1))
    return one, two, truth


def test_the_textbook_example() -> None:
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75


@given(cases())
def test_auc_is_the_share_of_pairs_in_the_right_order(case: Any) -> None:
    one, _, truth = case
    assert auc(one, truth) == pytest.approx(area(one, truth), abs=1e-12)


@given(cases())
def test_auc_does_not_change_with_a_monotone_scale_and_turns_round_with_the_sign(case: Any) -> None:
    one, _, truth = case
    assert auc(one.astype(np.float64) * 3, truth) == auc(one, truth)
    assert auc(-one, truth) == pytest.approx(1 - auc(one, truth), abs=1e-12)


@given(cases())
def test_the_interval_is_delongs(case: Any) -> None:
    one, two, truth = case
    got = compare_auc(one, two, truth)
    assert got is not None
    assert got.reference == pytest.approx(area(one, truth), abs=1e-12)
    assert got.engine == pytest.approx(area(two, truth), abs=1e-12)
    assert got.difference == got.engine - got.reference == -got.drop
    half = NormalDist().inv_cdf(0.975) * math.sqrt(max(0.0, delong_variance(one, two, truth)))
    assert got.low == pytest.approx(max(-1.0, got.difference - half), abs=1e-7)
    assert got.high == pytest.approx(min(1.0, got.difference + half), abs=1e-7)
    assert (got.positives, got.negatives) == (truth.sum(), (~truth).sum())


@given(cases())
def test_two_equal_readers_differ_by_nothing(case: Any) -> None:
    one, _, truth = case
    got = compare_auc(one, one, truth)
    assert got is not None
    assert (got.difference, got.low, got.high) == (0.0, 0.0, 0.0)
    assert got.not_excluded == unseen(got.positives, got.negatives) > 0


def test_where_every_pair_changed_alike_nothing_is_said_to_be_unchanged() -> None:
    truth = np.arange(20) >= 10
    good = truth + np.arange(20) / 100
    for one, difference in ((np.zeros(20), -0.5), (-good, -1.0)):
        got = compare_auc(good, one, truth)
        assert got is not None and got.difference == difference and got.low == got.high
        assert got.not_excluded is None


@given(cases())
def test_changing_sides_mirrors_the_interval(case: Any) -> None:
    one, two, truth = case
    there, back = compare_auc(one, two, truth), compare_auc(two, one, truth)
    assert there is not None and back is not None
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)


@given(cases())
def test_the_interval_of_one_reader_is_delongs(case: Any) -> None:
    one, _, truth = case
    got = auc_interval(one, truth)
    assert got is not None
    assert got.auc == pytest.approx(area(one, truth), abs=1e-12)
    both = compare_auc(one, -one, truth)
    assert both is not None and both.reference_interval == (got.low, got.high)
    assume(len({won(x, y) for x in one[truth] for y in one[~truth]}) > 1)
    # against a reader whose scores are all equal: his area is a half, without variance
    half = NormalDist().inv_cdf(0.975) * math.sqrt(delong_variance(one, np.zeros_like(one), truth))
    assert got.low == pytest.approx(max(0.0, got.auc - half), abs=1e-7)
    assert got.high == pytest.approx(min(1.0, got.auc + half), abs=1e-7)


def test_the_interval_of_one_reader_by_hand() -> None:
    # ten of each: positives win shares of 1, 1/2 and 1/2, negatives are beaten by 1/3 and by all
    scores, truth = np.array([3.0, 1.0, 1.0, 2.0, 0.0]), np.array([True, True, True, False, False])
    got = auc_interval(scores.repeat(10), truth.repeat(10))
    half = Z_95 * math.sqrt((10 / 9 + 20 / 36) / 29 / 30 + (20 / 9) / 19 / 20)
    assert got is not None
    assert (got.auc, got.low, got.high) == pytest.approx((2 / 3, 2 / 3 - half, 2 / 3 + half))


@pytest.mark.parametrize(("scans", "share"), [(3, 0.632), (10, 0.259), (20, 0.139), (100, 0.0295), (300, 0.00994)])
def test_what_so_few_scans_cannot_exclude_is_the_exact_rule_of_three(scans: int, share: float) -> None:
    """The upper 95 % bound of a share that was 0 in n."""
    assert unseen(scans, 1000) == unseen(1000, scans) == pytest.approx(share, abs=6e-4)
    assert (1 - unseen(scans, scans)) ** scans == pytest.approx(0.05)


@pytest.mark.parametrize(("one", "ends"), [([0, 1], (0.741, 1)), ([1, 0], (0, 0.259)), ([0, 0], (0.371, 0.629))])
def test_an_area_without_variance_has_an_interval_all_the_same(one: list[int], ends: tuple[float, float]) -> None:
    scores, truth = np.array(one, float).repeat([12, 10]), np.array([False, True]).repeat([12, 10])
    got = auc_interval(scores, truth)
    assert got is not None and (got.low, got.high) == pytest.approx(ends, abs=1e-3)


def test_an_area_is_near_chance_if_an_interval_holds_a_half() -> None:
    truth = np.array([False, True]).repeat(40)
    good, noise = truth + np.sin(np.arange(80.0)) * 0.7, np.sin(np.arange(80.0))
    for one, two, near in ((good, good, False), (good, noise, True), (noise, good, True)):
        got = compare_auc(one, two, truth)
        assert got is not None and got.near_chance is near
        assert got.not_excluded is None or got.low == got.high == 0


def test_z_is_the_point_of_the_normal_distribution() -> None:
    assert pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-12) == Z_95


@pytest.mark.parametrize("truth", [[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_fewer_than_two_of_a_class_give_no_comparison_and_no_interval(truth: list[int]) -> None:
    scores = np.arange(4.0)
    assert compare_auc(scores, scores, np.array(truth, bool)) is None
    assert auc_interval(scores, np.array(truth, bool)) is None


@pytest.mark.parametrize("truth", [[True, True], [False, False], []])
def test_an_area_needs_both_classes(truth: list[bool]) -> None:
    with pytest.raises(ParityError, match="at least one scan with the finding and one without"):
        auc(np.zeros(len(truth)), np.array(truth, bool))
