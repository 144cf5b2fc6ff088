"""Who waited for whom in a run: the engine for the readers, or they for it."""

from __future__ import annotations

from collections.abc import Iterable

from molre_edge.reports.parity_report import TimingRow

__all__ = ["ENGINE_WAITED", "READER_WAITED", "WAITS", "waiting"]

ENGINE_WAITED, READER_WAITED = "engine_waited", "reader_waited"
WAITS = (ENGINE_WAITED, READER_WAITED)
"""Phases in which nobody worked on the scan."""


def waiting(rows: Iterable[TimingRow]) -> str:
    """A sentence on who waited for whom, from the rows of a run; empty where none tells."""
    totals = {row.phase: row.total_s for row in rows if row.phase in WAITS}
    engine, readers = (totals.get(phase) for phase in WAITS)
    if engine is None or readers is None:
        return ""
    return f"The engine waited {engine:.1f} s for readers; readers were idle for {readers:.1f} s in all."
