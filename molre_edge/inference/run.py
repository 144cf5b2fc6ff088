"""A run: every scan read, brought to the grid, answered, timed and stored; then the results."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Protocol

from molre_edge.bundle import Bundle
from molre_edge.engines.runner import Runner
from molre_edge.errors import RunError, ScanError
from molre_edge.inference.conclusion import RunSummary, conclude
from molre_edge.inference.entries import Entry
from molre_edge.inference.interrupt import finish_first
from molre_edge.inference.labels import LabelTable
from molre_edge.inference.prepare import Prepared
from molre_edge.inference.readers import Readers
from molre_edge.inference.records import Record
from molre_edge.inference.reference import Reference
from molre_edge.inference.store import RunStore
from molre_edge.parity import Gate
from molre_edge.scans import find_scans

__all__ = ["Progress", "run_scans"]


class Progress(Protocol):
    """Who wants to know how a run goes on. All methods may do nothing."""

    def started(self, todo: int, done: int, rejected: int) -> None:
        """Scans to do, done by an earlier start, and refused so far."""

    def expected(self, text: str) -> None:
        """How long something is expected to take, said before it starts."""

    def finished(self, scan: str, problem: str | None) -> None:
        """A scan is done, or could not be used for the reason given."""

    def stopping(self) -> None:
        """The user wants to stop after the scan in hand. Called in a signal's handler: it must wait for no lock."""


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
    settle_seconds: float = 0.0,
    labels: LabelTable | None = None,
    command: str = "",
    notes: tuple[str, ...] = (),
    readers: int = 0,
) -> RunSummary:
    """Run an engine over scans, in the order of their ids, while readers read those that come next.

    One bad scan never stops the run: it is noted with its reason. A scan's answers are on disk before the engine gets
    the next one. Nothing is written before bundle, scans and labels were found to be in order.

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
        settle_seconds: leave studies of which a file was changed less than so long ago.
        labels: of the scans.
        command: for the report, without the scans' path.
        notes: for the report.
        readers: processes that read ahead; 0 reads here, between the engine's answers.

    Raises:
        KeyboardInterrupt: stopped by the user; with the first Ctrl-C after the scan in hand, with the second at once.
        ScanError: no such path, or too many files below it.
        BundleError: the golden volumes are altered.
        RunError: nothing there is an image, labels that fit no scan, or a damaged store.
    """
    found = find_scans(scans, all_series=all_series, settle_seconds=settle_seconds)
    if not found.scans and not found.rejected:
        there = Counter[str]()
        for each in found.ignored:
            there[each.code] += each.files
        what = ", ".join(f"{count} {code}" for code, count in there.most_common()) or "nothing"
        raise RunError(
            f"{scans}: holds no head CT in DICOM or NIfTI (files there: {what}; docs/scans.md has the codes); name the "
            f"folder of the scans"
        )
    todo = store.enter(found, scans)
    known = None if labels is None else labels.of(store.entries, scans)
    golden = bundle.golden() if reference.kind == "golden" or todo else None
    store.begin()
    progress.started(len(todo), store.count("done"), store.count("rejected"))
    left = 0
    if reference_runner is not None:
        compared = sum(record.reference is not None for record in store.records())
        left = len(todo) if reference_scans is None else min(len(todo), max(reference_scans - compared, 0))
    with Readers(bundle.grid, min(readers, len(todo))) as ahead:
        if todo and golden is not None:
            runner.run(golden.volumes[:1])  # warm-up: allocations and lazy initialisation are in no time
            if reference_runner is not None and left:
                first, second = (reference_runner.run(golden.volumes[:1]).milliseconds["compute"] for _ in range(2))
                took = min(first, second)  # the first is cold
                progress.expected(f"the PyTorch reference adds about {_duration(left * took / 1e3)} for {left} scans")
        since = time.perf_counter()
        with finish_first(progress.stopping) as stop_asked:
            for (entry, _), read in zip(todo, ahead.read(source for _, source in todo), strict=True):
                if isinstance(read, ScanError):
                    store.reject(entry, read.code, str(read))
                    progress.finished(entry.scan, str(read))
                else:
                    record = _answer(entry, read, runner, reference_runner if left else None, since)
                    since = time.perf_counter()  # the reference is in no interval, writing the answers in the next one
                    store.add(entry, record, read.slices)
                    left -= record.reference is not None
                    progress.finished(entry.scan, None)
                if stop_asked():
                    raise KeyboardInterrupt
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
        readers=readers,
    )


def _answer(entry: Entry, found: Prepared, runner: Runner, reference_runner: Runner | None, since: float) -> Record:
    """Ask the engine, and the reference where it is wanted; `since` is when the answer before was there."""
    result = runner.run(found.volume[None])
    answered = time.perf_counter()
    _ = result.outputs.probabilities
    done = time.perf_counter()
    phases = {"read": found.read_ms, "geometry": found.geometry_ms, **result.milliseconds}
    phases["post"] = 1e3 * (done - answered)
    phases["end_to_end"] = sum(phases.values())
    phases["interval"] = 1e3 * (done - since)
    compared = reference_runner.run(found.volume[None]) if reference_runner is not None else None
    return Record(
        scan=entry.scan,
        engine=result.outputs,
        reference=compared.outputs if compared is not None else None,
        engine_ms=phases,
        reference_ms=compared.milliseconds if compared is not None else {},
        warnings=tuple((warning.code, warning.text) for warning in found.warnings),
        facts=found.facts,
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min"
