"""One sentence says who waited for whom."""

from __future__ import annotations

from molre_edge.reports.parity_report import TimingRow
from molre_edge.reports.waiting import waiting


def row(phase: str, total_s: float | None) -> TimingRow:
    return TimingRow(who="e", phase=phase, median_ms=1, p90_ms=1, p95_ms=1, p99_ms=1, n=1, total_s=total_s)


def test_both_totals_are_in_it() -> None:
    rows = [row("compute", 9.0), row("engine_waited", 1.25), row("reader_waited", 70.0)]
    assert waiting(rows) == "The engine waited 1.2 s for readers; readers were idle for 70.0 s in all."


def test_a_report_of_a_version_that_did_not_measure_it_says_nothing() -> None:
    assert waiting([row("compute", None)]) == ""
