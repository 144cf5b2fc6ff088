"""What was measured: summaries leave out what is not finite, and everything becomes plain JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.parity import AucComparison, Differences, FindingNumbers, Flip, ParityLimits
from molre_edge.parity.numbers import LogitDifference, largest
from molre_edge.reports.parity_report import Report

DIFFERENCES = st.floats(-1, 1)
BROKEN = st.sampled_from([np.nan, np.inf, -np.inf])


@given(st.lists(DIFFERENCES, min_size=1, max_size=40), st.lists(BROKEN, max_size=5))
def test_differences_are_summed_up_without_what_is_not_finite(known: list[float], broken: list[float]) -> None:
    got = Differences.of(np.array(broken + known))
    size = sorted(abs(value) for value in known)
    assert got.max_abs == size[-1]
    assert got.mean_abs == pytest.approx(sum(size) / len(size), abs=1e-15)
    assert got.mean == pytest.approx(sum(known) / len(known), abs=1e-15)
    assert got.sd == pytest.approx(np.sqrt(sum((v - sum(known) / len(known)) ** 2 for v in known) / len(known)))
    assert got.p99_abs is not None
    assert size[int(0.99 * (len(size) - 1))] - 1e-15 <= got.p99_abs <= size[-1]


@given(st.lists(BROKEN))
def test_without_a_finite_difference_there_is_no_summary(broken: list[float]) -> None:
    assert set(Differences.of(np.array(broken)).to_dict().values()) == {None}


@given(st.lists(DIFFERENCES | BROKEN, max_size=12))
def test_the_largest_is_that_of_the_finite_values(values: list[float]) -> None:
    finite = [value for value in values if np.isfinite(value)]
    assert largest(np.array(values)) == (max(finite) if finite else None)


def finding(
    name: str, *flips: Flip, auc: AucComparison | None = None, logit: LogitDifference | None = None
) -> FindingNumbers:
    return FindingNumbers(name, 0.5, Differences(0.1, 0.1, 0.1, 0.0, 0.1), logit, flips, auc)


def flip(scan: int, at: int, reference: float, engine: float, distance: float, tied: bool = False) -> Flip:
    return Flip(scan, at, reference, engine, 0.5, distance, tied)


def areas(reference: float, engine: float) -> AucComparison:
    return AucComparison(reference, engine, engine - reference, -1.0, 1.0, 4, 9, (0.0, 1.0), (0.0, 1.0))


@pytest.fixture
def few(full_report: Callable[..., Report]) -> Any:
    """Numbers of three findings with known flips and areas."""
    from dataclasses import replace

    return replace(
        full_report().numbers,  # type: ignore[type-var]
        n=4,
        per_finding=(
            finding("a", flip(0, 0, 0.5, 0.49, 0.04, True), flip(3, 0, 0.55, 0.45, 0.2), auc=areas(0.9, 0.88)),
            finding("b", auc=areas(0.7, 0.75), logit=LogitDifference(0.3, 2, 1.0, 1.3)),
            finding("c", flip(1, 2, 0.2, 0.9, 2.2), logit=LogitDifference(0.6, 1, 9.0, 9.675)),
        ),
    )


def test_flips_are_counted_from_a_margin_on(few: Any) -> None:
    assert few.scan_findings == 12
    assert [len(few.flips_beyond(margin)) for margin in (0.0, 0.1, 1.0, 3.0)] == [3, 2, 1, 0]
    assert few.flips_beyond(0.0) == few.flips


def test_flips_on_the_threshold_are_told_apart(few: Any) -> None:
    assert [each.scan for each in few.untied_flips] == [3, 1]
    data = few.to_dict()
    assert (data["flips"], data["tied_flips"]) == (3, 1)


def test_the_largest_difference_of_a_logit_is_that_of_the_findings(few: Any) -> None:
    assert few.worst_logit == ("c", LogitDifference(0.6, 1, 9.0, 9.675))
    assert few.max_abs_dlogit == few.to_dict()["max_abs_dlogit"] == 0.6
    assert [each["max_abs_dlogit"] for each in few.to_dict()["per_finding"]] == [None, 0.3, 0.6]


@pytest.mark.parametrize(
    ("limits", "beyond"),
    [
        ({"max_abs_dp": 0.1}, [False, False, False]),
        ({"max_abs_dp": 0.09}, [True, True, True]),
        ({"max_abs_dlogit": 0.3}, [False, False, True]),
        ({"max_abs_dlogit": 0.2, "max_abs_dp": 0.2}, [False, True, True]),
        ({"min_cosine": 0.9}, [False, False, False]),
    ],
)
def test_a_finding_is_beyond_limits_as_a_probability_or_as_a_logit(
    few: Any, limits: dict[str, float], beyond: list[bool]
) -> None:
    assert [each.beyond(ParityLimits("any", **limits)) for each in few.per_finding] == beyond


def test_auc_drops_are_reference_minus_engine_over_the_findings_that_have_them(few: Any) -> None:
    assert [name for name, _ in few.aucs] == ["a", "b"]
    assert few.mean_auc_reference == pytest.approx(0.8)
    assert few.mean_auc_engine == pytest.approx(0.815)
    assert few.mean_auc_drop == pytest.approx(-0.015)
    assert few.max_finding_auc_drop == pytest.approx(0.02)


@pytest.mark.parametrize("gates", [(8, 5, 6), (1, 2, 1), None])
@pytest.mark.parametrize("broken", [False, True])
def test_numbers_become_plain_json_without_nan(
    full_report: Callable[..., Report], gates: tuple[int, int, int] | None, broken: bool
) -> None:
    numbers = full_report(n=4, gates=gates, broken=broken).numbers
    assert numbers is not None
    data = numbers.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert len(data["per_finding"]) == 75
    assert (data["nonfinite"] != []) == broken
    assert (data["gates"] is None) == (gates is None)
