"""Stored runs as the sides of a comparison: which volumes of one run are those of another, and what to call each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from molre_edge.parity import Outputs
from molre_edge.reports.parity_report import Report
from molre_edge.reports.side_by_side import Side
from molre_edge.runs.finished import StoredRun

__all__ = ["sides_of"]


def sides_of(runs: Sequence[tuple[StoredRun, Report]]) -> list[Side]:
    """The sides of a comparison, in the order given.

    A scan is the same in two runs when its place below the folder of scans is, as scans.csv has it; by its id alone
    where a run was handed on without that file. A golden volume is the same when the reference's answer to it is.
    """
    by_id = not all(run.entries for run, _ in runs)
    names = _names([run for run, _ in runs])
    sides = []
    for name, (run, report) in zip(names, runs, strict=True):
        places = {entry.scan: entry.scan if by_id else f"{entry.path}\0{entry.key}" for entry in run.entries}
        keys = [f"scan\0{places.get(scan, scan)}" for scan in run.scans]
        answers = [record.engine for record in run.records()]
        if run.golden is not None and run.golden.reference is not None:
            rows = run.golden.reference.logits
            keys += [f"golden\0{i}\0{hashlib.sha256(row.tobytes()).hexdigest()}" for i, row in enumerate(rows)]
            answers.append(run.golden.engine)
        sides.append(
            Side(name=name, report=report, keys=tuple(keys), answers=Outputs.stack(answers) if answers else None)
        )
    return sides


def _names(runs: Sequence[StoredRun]) -> list[str]:
    """The engine, with the run's folder where two have the same one, and with a number where that does not help."""
    engines = [str(run.data["engine"]["name"]) for run in runs]
    twice = {name for name, count in Counter(engines).items() if count > 1}
    names = [
        f"{engine} ({run.folder.resolve().name})" if engine in twice else engine
        for engine, run in zip(engines, runs, strict=True)
    ]
    again = {name for name, count in Counter(names).items() if count > 1}
    return [f"{name} #{place}" if name in again else name for place, name in enumerate(names, start=1)]
