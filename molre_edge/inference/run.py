"""A run: every scan read, brought to the grid, answered, timed and stored; then findings, parity and report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from molre_edge import __version__
from molre_edge.bundle import Bundle
from molre_edge.engines.runner import Runner
from molre_edge.errors import RunError, ScanError
from molre_edge.files import write_json
from molre_edge.inference.reference import Reference
from molre_edge.inference.results import write_findings
from molre_edge.inference.store import Entry, Record, RunStore
from molre_edge.inference.timing import ENGINE_PHASES, REFERENCE_PHASES, timing_json, timing_rows
from molre_edge.parity import (
    BundleFacts,
    EngineFacts,
    FailedScan,
    Gate,
    Outputs,
    ParityNumbers,
    ReferenceFacts,
    Report,
    Verdict,
    compare,
    judge,
    write_report,
)
from molre_edge.scans import ScanSource, find_scans, read_scan, to_grid

__all__ = ["LabelReader", "Progress", "RunSummary", "run_scans"]

LabelReader = Callable[[Mapping[str, str]], Mapping[str, npt.NDArray[np.float64]]]
"""Scan id -> path relative to the scans' folder, to scan id -> float64 [findings], NaN where unknown."""


class Progress(Protocol):
    """Who wants to know how a run goes on. All methods may do nothing."""

    def started(self, todo: int, done: int, rejected: int) -> None:
        """Scans to do, done by an earlier start, and rejected by their headers."""

    def expected(self, text: str) -> None:
        """How long something is expected to take, said before it starts."""

    def finished(self, scan: str, problem: str | None) -> None:
        """A scan is done, or could not be used for the reason given."""


@dataclass(frozen=True, eq=False)
class RunSummary:
    """What a run found.

    Attributes:
        folder: the run's files.
        done: scans with answers.
        rejected: (id, code, reason) of scans that could not be used.
        numbers, verdict: parity; None without a reference.
        rows: timing by runner and phase.
        report: the HTML report.
    """

    folder: Path
    done: int
    rejected: tuple[tuple[str, str, str], ...]
    numbers: ParityNumbers | None
    verdict: Verdict | None
    rows: tuple[Any, ...]
    report: Path
    notes: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """3 parity failed, 1 no scan could be used, 4 some could not, else 0."""
        if self.verdict is not None and not self.verdict.passed:
            return 3
        if not self.done:
            return 1
        return 4 if self.rejected else 0


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
    read_labels: LabelReader | None = None,
    command: str = "",
    notes: tuple[str, ...] = (),
) -> RunSummary:
    """Run an engine over scans.

    One bad scan never stops the run: it is noted with its reason. A scan's answers are on disk before the next starts.

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
        reference_scans: the reference runs on the first so many scans; None for all.
        all_series: take every series of a study.
        read_labels: makes labels once ids and paths of the scans are known (see :mod:`molre_edge.inference.labels`).
        command: for the report, without the scans' path.
        notes: for the report.

    Raises:
        RunError: no file to look at, or a damaged store.
    """
    todo = store.enter(find_scans(scans, all_series=all_series), scans)
    labels = None
    if read_labels is not None:
        labels = read_labels({entry.scan: entry.path for entry in store.entries if entry.fingerprint})
    progress.started(len(todo), store.count("done"), store.count("rejected"))
    golden = bundle.golden() if reference.kind == "golden" or todo else None
    if todo:
        assert golden is not None
        runner.run(golden.volumes[:1])  # warm-up: allocations and lazy initialisation are in no time
        if reference_runner is not None:
            took = reference_runner.run(golden.volumes[:1]).milliseconds["compute"]  # once cold, once for the estimate
            took = min(took, reference_runner.run(golden.volumes[:1]).milliseconds["compute"])
            count = len(todo) if reference_scans is None else min(len(todo), reference_scans)
            progress.expected(f"the PyTorch reference adds about {_duration(count * took / 1e3)} for {count} scans")
    for number, (entry, source) in enumerate(todo):
        wanted = reference_scans is None or number < reference_scans
        try:
            record = _answer(entry, source, bundle, runner, reference_runner if wanted else None)
        except ScanError as error:
            store.reject(entry, error.code, str(error))
            progress.finished(entry.scan, str(error))
            continue
        store.add(entry, record)
        progress.finished(entry.scan, None)
    return _conclude(
        store, bundle, runner, reference, reference_runner, gate, gate_source, labels, command, notes, golden
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


def _conclude(
    store: RunStore,
    bundle: Bundle,
    runner: Runner,
    reference: Reference,
    reference_runner: Runner | None,
    gate: Gate,
    gate_source: str,
    labels: Mapping[str, npt.NDArray[np.float64]] | None,
    command: str,
    notes: tuple[str, ...],
    golden: Any,
) -> RunSummary:
    """From the stored answers to findings, timing, parity and report."""
    records = store.records()
    pair = _pair(records, reference, runner, golden, labels)
    numbers = verdict = None
    if pair is not None:
        _, expected, got, truth = pair
        numbers = compare(expected, got, findings=bundle.findings, thresholds=bundle.thresholds, labels=truth)
        verdict = judge(numbers, gate)
    elif reference.kind != "none":
        notes = (*notes, "no scan was compared with the reference, so no parity is judged")
    rows = timing_rows(runner.name, ENGINE_PHASES, [record.engine_ms for record in records])
    if reference_runner is not None:
        samples = [record.reference_ms for record in records if record.reference_ms]
        rows += timing_rows(f"{reference_runner.name} (reference)", REFERENCE_PHASES, samples)
    write_findings(store.folder, records, bundle, runner.name)
    facts = {"engine": runner.facts, "batch": 1, "scans": len(records), "molre-edge": __version__}
    if reference_runner is not None:
        facts["reference"] = reference_runner.facts
    write_json(store.folder / "timing.json", timing_json(rows, facts))
    rejected = tuple((e.scan, e.code, e.reason) for e in store.entries if e.status == "rejected")
    report = Report(
        title=f"Parity of {runner.name}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        engine=_engine_facts(runner),
        reference=_reference_facts(reference, reference_runner, 0 if pair is None else len(pair[0])),
        bundle=BundleFacts(
            digest=bundle.digest,
            checkpoint_sha256=bundle.checkpoint_sha256,
            graph_sha256=_graph_sha256(bundle, runner),
        ),
        findings=bundle.findings,
        thresholds=tuple(float(value) for value in bundle.thresholds),
        scans=() if pair is None else pair[0],
        numbers=numbers,
        gate=gate if pair is not None else None,
        gate_source=gate_source,
        verdict=verdict,
        reference_outputs=None if pair is None else pair[1],
        engine_outputs=None if pair is None else pair[2],
        failed=tuple(FailedScan(scan=scan, code=code, reason=reason) for scan, code, reason in rejected),
        warnings={r.scan: tuple(text for _, text in r.warnings) for r in records if r.warnings},
        timing=tuple(rows),
        command=command,
        versions={
            "molre-edge": __version__,
            **{str(k): str(v) for k, v in bundle.manifest["tool"].items() if k != "molre-edge"},
        },
        notes=(reference.why, *notes, *(str(note) for note in bundle.manifest.get("notes", ()))),
    )
    _, page = write_report(store.folder, report)
    store.finish()
    return RunSummary(store.folder, len(records), rejected, numbers, verdict, tuple(rows), page, notes)


_Pair = tuple[tuple[str, ...], Outputs, Outputs, "npt.NDArray[np.float64] | None"]


def _pair(
    records: list[Record],
    reference: Reference,
    runner: Runner,
    golden: Any,
    labels: Mapping[str, npt.NDArray[np.float64]] | None,
) -> _Pair | None:
    """Names, the reference's answers, the engine's, and labels of the volumes that both answered."""
    if reference.kind == "golden":
        if golden is None:
            raise RunError("the golden answers were not read")
        got = Outputs.stack([runner.run(golden.volumes[i : i + 1]).outputs for i in range(len(golden.volumes))])
        return tuple(f"golden-{i + 1:02d}" for i in range(len(golden.volumes))), golden.outputs, got, None
    both = [record for record in records if record.reference is not None]
    if reference.kind == "none" or not both:
        return None
    names = tuple(record.scan for record in both)
    expected = Outputs.stack([record.reference for record in both if record.reference is not None])
    got = Outputs.stack([record.engine for record in both])
    truth = None
    if labels:
        unknown = np.full(expected.logits.shape[1], np.nan)
        truth = np.stack([labels.get(name, unknown) for name in names])
    return names, expected, got, truth


def _engine_facts(runner: Runner) -> EngineFacts:
    facts = dict(runner.facts)
    runtime = f"{facts.pop('runtime')} {facts.pop('version')}"
    device, threads = str(facts.pop("device")), facts.pop("threads", None)
    details = {name: str(value) for name, value in facts.items()}
    return EngineFacts(
        name=runner.name,
        precision=str(runner.precision),
        runtime=runtime,
        device=device,
        threads=threads,
        details=details,
    )


def _reference_facts(reference: Reference, runner: Runner | None, count: int) -> ReferenceFacts:
    if reference.kind == "golden":
        return ReferenceFacts(kind="golden answers", volumes=f"{count} golden volumes of the bundle")
    if runner is None or not count:
        return ReferenceFacts(kind="none")
    details = {name: str(value) for name, value in runner.facts.items()}
    return ReferenceFacts(kind="pytorch checkpoint", volumes=f"{count} scans of this run", details=details)


def _graph_sha256(bundle: Bundle, runner: Runner) -> str | None:
    if runner.name.startswith("torch"):
        return None
    return str(bundle.manifest["files"][bundle.graph(runner.precision).file])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min"
