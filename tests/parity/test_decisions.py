"""Sensitivity and specificity are counted, and their intervals are Wilson's."""

from __future__ import annotations

import numpy as np
import pytest

from molre_edge.parity.decisions import decisions_of, share_of, wilson


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_that_of_newcombe(count: int, of: int, low: float, high: float) -> None:
    """Method 3 in table I of R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872."""
    assert wilson(count, of) == pytest.approx((low, high), abs=5.1e-5)
    assert wilson(of - count, of) == pytest.approx((1 - high, 1 - low), abs=5.1e-5)


def test_an_interval_ends_where_the_share_is_one_deviation_of_95_per_cent_away() -> None:
    share = share_of(np.arange(40) < 33)
    assert share is not None and share.value == 33 / 40
    for end in (share.low, share.high):
        assert abs(share.value - end) == pytest.approx(1.959963984540054 * (end * (1 - end) / 40) ** 0.5)


def test_decisions_are_counted_for_scans_with_the_finding_and_without_it() -> None:
    positive = np.array([True, True, True, False, False])
    reference = np.array([True, True, False, False, False])
    engine = np.array([True, False, False, True, False])
    got = decisions_of(reference, engine, positive).to_dict()
    assert (got["positives"], got["negatives"]) == (3, 2)
    counts = [(got[side][rate]["count"], got[side][rate]["of"]) for side in ("reference", "engine") for rate in RATES]
    assert counts == [(2, 3), (2, 2), (1, 3), (1, 2)]
    assert got["reference"]["specificity"]["value"] == got["reference"]["specificity"]["high"] == 1.0


def test_a_class_without_scans_has_no_share() -> None:
    got = decisions_of(*(np.array([True, False]) for _ in range(2)), np.array([False, False])).to_dict()
    assert got["reference"]["sensitivity"] is None and got["reference"]["specificity"]["value"] == 0.5


RATES = ("sensitivity", "specificity")
