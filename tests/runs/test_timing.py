"""Times: the percentiles are those of the samples, and every row says what it includes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from molre_edge.reports.parity_report import TimingRow
from molre_edge.runs.timing import ENGINE_PHASES, REFERENCE_PHASES, Times, timing_json


def timing_rows(who: str, phases: Mapping[str, str], samples: Iterable[Mapping[str, float]]) -> list[TimingRow]:
    times = Times()
    for sample in samples:
        times.add(sample)
    return times.rows(who, phases)


SAMPLES = [{"read": 10.0 * n, "compute": float(n)} for n in range(1, 101)]


def test_percentiles_are_those_of_the_samples() -> None:
    row = next(row for row in timing_rows("engine", ENGINE_PHASES, SAMPLES) if row.phase == "compute")
    assert (row.median_ms, row.p90_ms, row.p95_ms, row.p99_ms) == pytest.approx((50.5, 90.1, 95.05, 99.01))
    assert row.n == 100


def test_scans_per_second_count_all_scans_over_all_time() -> None:
    [row] = timing_rows("engine", ENGINE_PHASES, [{"compute": 10.0}, {"compute": 10.0}, {"compute": 580.0}])
    assert row.scans_per_second == pytest.approx(3 / 0.6)


def test_a_rate_is_given_for_compute_the_whole_and_the_run_only() -> None:
    samples = [dict.fromkeys(ENGINE_PHASES, 1.0)]
    rated = {row.phase for row in timing_rows("engine", ENGINE_PHASES, samples) if row.scans_per_second is not None}
    assert rated == {"compute", "end_to_end", "interval"}


def test_phases_without_samples_have_no_row() -> None:
    assert [row.phase for row in timing_rows("engine", ENGINE_PHASES, SAMPLES)] == ["read", "compute"]
    assert timing_rows("engine", ENGINE_PHASES, []) == []


def test_every_phase_says_what_it_includes() -> None:
    rows = timing_rows("engine", ENGINE_PHASES, [dict.fromkeys(ENGINE_PHASES, 1.0)])
    rows += timing_rows("reference", REFERENCE_PHASES, [dict.fromkeys(REFERENCE_PHASES, 1.0)])
    table = timing_json(rows, {"engine": {"device": "CPU"}})
    assert table["phases"]["engine"].keys() == ENGINE_PHASES.keys()
    assert table["phases"]["reference"].keys() == REFERENCE_PHASES.keys()
    assert all(row["includes"] for phases in table["phases"].values() for row in phases.values())
    assert table["unit"] == "milliseconds per scan"
    assert table["measured_on"] == {"engine": {"device": "CPU"}}


def test_a_time_of_zero_gives_no_rate() -> None:
    assert timing_rows("engine", ENGINE_PHASES, [{"compute": 0.0}])[0].scans_per_second is None
