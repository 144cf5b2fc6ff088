"""A run: every scan read, brought to the grid, answered, timed and stored; then the results."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

from molre_edge.bundle.bundle import GoldenSet
from molre_edge.errors import RunError
from molre_edge.runs.answering import answer_scans
from molre_edge.runs.conclude import conclude
from molre_edge.runs.context import RunContext
from molre_edge.runs.dicom_files import DicomFiles
from molre_edge.runs.infer_result import InferResult
from molre_edge.runs.interrupt import finish_first
from molre_edge.runs.pairs import Labels
from molre_edge.runs.store import RunStore
from molre_edge.runs.storing import Storing
from molre_edge.scans import FoundScans, find_scans
from molre_edge.scans.workers.finder import find_apart
from molre_edge.scans.workers.pool import Readers

__all__ = ["run_scans"]


def run_scans(store: RunStore, context: RunContext) -> InferResult:
    """Run an engine over scans, in the order of their rows, while readers read the next ones.

    One bad scan never stops the run: it is listed with its reason. Answers are stored while the engine works on the
    next scans. Nothing is written before bundle, scans and labels were checked.

    Args:
        store: the run's folder, new or resumed.
        context: what the run works with.

    Raises:
        KeyboardInterrupt: stopped by the user; after the first signal when the scans that the engine has are stored,
            after the second at once.
        ScanError: no such path, or too many files below it.
        BundleError: the golden volumes are altered.
        RunError: no image below the path, labels that match no scan, or a damaged store.
    """
    progress, bundle = context.progress, context.bundle
    progress.step("looking for scans")
    found = _found(context)
    todo = store.enter(found, context.scans)
    labels = _labels(store, context)
    golden = bundle.golden() if context.reference.kind == "golden" or todo else None
    store.begin()
    done, total = store.count("done"), len(todo) + store.count("done")
    progress.info(_start(len(todo), done, store.count("rejected")))
    left = _left_to_compare(store, context, len(todo))
    most = min(context.most_readers, len(todo))
    with Readers(bundle.grid, min(context.readers, len(todo)), most=most) as ahead:
        if todo and golden is not None:
            progress.step("warming up")
            _warm_up(context, golden, left)
        progress.step("scans")
        progress.count(done, total, "scans")
        with finish_first(progress.stopping) as stop_asked:
            counting = itertools.count(done + 1)
            with Storing(store, DicomFiles.of(store.folder, context)) as storing:
                answer_scans(
                    todo,
                    ahead,
                    context,
                    storing,
                    compare=left,
                    tell=lambda: progress.count(next(counting), total, "scans"),
                    stop_asked=stop_asked,
                )
            if stop_asked():
                raise KeyboardInterrupt
        used = max(context.readers, ahead.count)  # more than it started with, where the engine waited
    progress.step("results")
    return conclude(store, replace(context, readers=used), golden=golden, labels=labels)


def _found(context: RunContext) -> FoundScans:
    """The scans below the path; no image at all is an error."""
    find = find_apart if context.readers else find_scans
    found = find(context.scans, all_series=context.all_series, settle_seconds=context.settle_seconds)
    if found.scans or found.rejected:
        return found
    codes = Counter[str]()
    for each in found.ignored:
        codes[each.code] += each.files
    what = ", ".join(f"{count} {code}" for code, count in codes.most_common()) or "none"
    raise RunError(
        f"{context.scans}: contains no head CT in DICOM or NIfTI (files there: {what}; docs/concepts/scans.md explains "
        f"the codes). Name the folder of the scans"
    )


def _labels(store: RunStore, context: RunContext) -> Labels | None:
    """Labels of the run's scans. A shard needs none of its own, so lines are brought together with all scans."""
    if context.labels is None:
        return None
    mine = {entry.scan for entry in store.entries}
    every = {entry.scan: entry for entry in (*store.seen, *store.entries)}
    found = context.labels.of(every.values(), context.scans)
    return {scan: values for scan, values in found.items() if scan in mine}


def _start(todo: int, done: int, rejected: int) -> str:
    earlier = f", {done} done before" if done else ""
    refused = f", {rejected} cannot be used" if rejected else ""
    return f"Scans: {todo} to do{earlier}{refused}"


def _left_to_compare(store: RunStore, context: RunContext, todo: int) -> int:
    """How many of the scans to do the reference answers too; those of an earlier start count."""
    if context.reference_runner is None and context.own_model is None:
        return 0
    if context.reference_scans is None:
        return todo
    return min(todo, max(context.reference_scans - store.compared, 0))


def _warm_up(context: RunContext, golden: GoldenSet, left: int) -> None:
    """Run once without a clock, since the first run allocates and initialises; say what the reference will cost."""
    context.runner.run(golden.volumes[:1])
    if context.reference_runner is None or not left:
        return
    runs = [context.reference_runner.run(golden.volumes[:1]).milliseconds["compute"] for _ in range(2)]
    seconds = left * min(runs) / 1e3  # the first is cold
    context.progress.info(f"The PyTorch reference adds about {_duration(seconds)} for {left} scans")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min"
