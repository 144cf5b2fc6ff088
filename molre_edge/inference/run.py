"""A run: every scan read, brought to the grid, answered, timed and stored; then the results."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from molre_edge.bundle import Bundle
from molre_edge.engines.runner import Runner
from molre_edge.errors import ScanError
from molre_edge.inference.conclusion import RunSummary, conclude
from molre_edge.inference.entries import Entry
from molre_edge.inference.labels import LabelTable
from molre_edge.inference.records import Record
from molre_edge.inference.reference import Reference
from molre_edge.inference.store import RunStore
from molre_edge.parity import Gate
from molre_edge.scans import ScanSource, find_scans, read_scan, to_grid

__all__ = ["Progress", "run_scans"]


class Progress(Protocol):
    """Who wants to know how a run goes on. All methods may do nothing."""

    def started(self, todo: int, done: int, rejected: int) -> None:
        """Scans to do, done by an earlier start, and refused so far."""

    def expected(self, text: str) -> None:
        """How long something is expected to take, said before it starts."""

    def finished(self, scan: str, problem: str | None) -> None:
        """A scan is done, or could not be used for the reason given."""


def run_scans(
    scans: Path,
    store: RunStore,
    *,
    bundle: Bundle,
    runner: Runner,
    reference: Reference,
    reference_runner: Runner | None,
    gate: Gate,
    gate_source: str,
    progress: Progress,
    reference_scans: int | None = None,
    all_series: bool = False,
    labels: LabelTable | None = None,
    command: str = "",
    notes: tuple[str, ...] = (),
) -> RunSummary:
    """Run an engine over scans.

    One bad scan never stops the run: it is noted with its reason. A scan's answers are on disk before the next starts.
    Nothing is written before bundle, scans and labels were found to be in order.

    Args:
        scans: a file or folder.
        store: the run's folder, new or resumed.
        bundle: opened.
        runner: entered; answers.
        reference: the choice of the reference.
        reference_runner: entered, for the kind ``checkpoint``.
        gate: the budget of this engine.
        gate_source: where it came from.
        progress: is told.
        reference_scans: so many scans are compared with the reference, the first that can be used; None for all.
        all_series: take every series of a study.
        labels: of the scans.
        command: for the report, without the scans' path.
        notes: for the report.

    Raises:
        ScanError: no such path, or too many files below it.
        BundleError: the golden volumes are altered.
        RunError: labels that fit no scan, or a damaged store.
    """
    todo = store.enter(find_scans(scans, all_series=all_series), scans)
    known = None if labels is None else labels.of(store.entries, scans)
    golden = bundle.golden() if reference.kind == "golden" or todo else None
    store.begin()
    progress.started(len(todo), store.count("done"), store.count("rejected"))
    left = 0
    if reference_runner is not None:
        compared = sum(record.reference is not None for record in store.records())
        left = len(todo) if reference_scans is None else min(len(todo), max(reference_scans - compared, 0))
    if todo and golden is not None:
        runner.run(golden.volumes[:1])  # warm-up: allocations and lazy initialisation are in no time
        if reference_runner is not None and left:
            first, second = (reference_runner.run(golden.volumes[:1]).milliseconds["compute"] for _ in range(2))
            took = min(first, second)  # the first is cold
            progress.expected(f"the PyTorch reference adds about {_duration(left * took / 1e3)} for {left} scans")
    for entry, source in todo:
        try:
            record = _answer(entry, source, bundle, runner, reference_runner if left else None)
        except ScanError as error:
            store.reject(entry, error.code, str(error))
            progress.finished(entry.scan, str(error))
            continue
        store.add(entry, record)
        left -= record.reference is not None
        progress.finished(entry.scan, None)
    return conclude(
        store,
        bundle=bundle,
        runner=runner,
        reference=reference,
        reference_runner=reference_runner,
        golden=golden,
        gate=gate,
        gate_source=gate_source,
        labels=known,
        command=command,
        notes=notes,
    )


def _answer(
    entry: Entry, source: ScanSource, bundle: Bundle, runner: Runner, reference_runner: Runner | None
) -> Record:
    start = time.perf_counter()
    volume = read_scan(source)
    read = time.perf_counter()
    grid = to_grid(volume, bundle.grid)[None]
    ready = time.perf_counter()
    result = runner.run(grid)
    answered = time.perf_counter()
    _ = result.outputs.probabilities
    phases = {"read": 1e3 * (read - start), "geometry": 1e3 * (ready - read), **result.milliseconds}
    phases["post"] = 1e3 * (time.perf_counter() - answered)
    phases["end_to_end"] = 1e3 * (time.perf_counter() - start)
    compared = reference_runner.run(grid) if reference_runner is not None else None
    return Record(
        scan=entry.scan,
        engine=result.outputs,
        reference=compared.outputs if compared is not None else None,
        engine_ms=phases,
        reference_ms=compared.milliseconds if compared is not None else {},
        warnings=tuple((warning.code, warning.text) for warning in volume.warnings),
        facts=volume.facts,
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min"
