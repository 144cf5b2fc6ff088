"""From the stored answers of a run to its results: findings, times, parity and the report."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from molre_edge import __version__
from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.engines.runner import Runner
from molre_edge.errors import RunError
from molre_edge.files import write_json
from molre_edge.parity import Outputs, ParityLimits, ParityNumbers, Verdict, compare, judge
from molre_edge.reports.parity_report import BundleFacts, EngineFacts, FailedScan, ReferenceFacts, Report, TimingRow
from molre_edge.reports.write import write_report
from molre_edge.runs.answers import Record, write_record
from molre_edge.runs.findings_files import positive_findings, write_findings
from molre_edge.runs.labels import write_known_labels
from molre_edge.runs.pairs import GOLDEN, GOLDEN_FILE, Labels, Pair
from molre_edge.runs.reference import Reference
from molre_edge.runs.store import RunStore
from molre_edge.runs.timing import ENGINE_PHASES, REFERENCE_PHASES, timing_json, timing_rows

__all__ = ["RunSummary", "conclude"]


@dataclass(frozen=True, eq=False)
class RunSummary:
    """What a run found.

    Attributes:
        folder: the run's files.
        done: scans with answers.
        rejected: (id, code, reason) of scans that could not be used.
        numbers: parity; None without a reference.
        verdict: the same, judged.
        rows: timing by runner and phase.
        report: the HTML report.
        compared: in words, what parity was judged on; empty without a reference.
        positive: (id, findings that reach their threshold) of each answered scan.
        notes: what the user should know about how this was found.
    """

    folder: Path
    done: int
    rejected: tuple[tuple[str, str, str], ...]
    numbers: ParityNumbers | None
    verdict: Verdict | None
    rows: tuple[TimingRow, ...]
    report: Path
    compared: str = ""
    positive: tuple[tuple[str, tuple[str, ...]], ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """3 parity failed, 1 no scan could be used, 4 some could not, else 0."""
        if self.verdict is not None and not self.verdict.passed:
            return 3
        if not self.done:
            return 1
        return 4 if self.rejected else 0


def conclude(
    store: RunStore,
    *,
    bundle: Bundle,
    runner: Runner,
    reference: Reference,
    reference_runner: Runner | None,
    golden: GoldenSet | None,
    gate: ParityLimits,
    limits_source: str,
    labels: Labels | None,
    command: str,
    notes: tuple[str, ...],
    readers: int = 0,
) -> RunSummary:
    """Write the results of a run whose scans are all answered or refused, and mark it as finished.

    Args: as of :func:`molre_edge.runs.run.run_scans`; `golden` is needed for the kind ``golden``.
    """
    records = store.records()
    pair = _pair(records, reference, runner, golden, labels, store.folder)
    write_known_labels(store.folder, labels or {}, bundle.findings)
    numbers = verdict = None
    if pair is not None:
        numbers = compare(
            pair.expected, pair.got, findings=bundle.findings, thresholds=bundle.thresholds, labels=pair.truth
        )
        verdict = judge(numbers, gate)
    elif reference.kind != "none":
        notes = (*notes, "no scan was compared with the reference, so no parity is judged")
    if labels is not None and reference.kind != "checkpoint":
        notes = (
            *notes,
            "the labels were not used: AUC is compared where the PyTorch model answers the scans too, and its "
            "reference here is " + ("the golden answers" if reference.kind == "golden" else "none"),
        )
    rows = timing_rows(runner.name, ENGINE_PHASES, [record.engine_ms for record in records])
    if reference_runner is not None:
        samples = [record.reference_ms for record in records if record.reference_ms]
        rows += timing_rows(f"{reference_runner.name} (reference)", REFERENCE_PHASES, samples)
    write_findings(store.folder, records, bundle, runner.name)
    facts = {"engine": runner.facts, "batch": 1, "readers": readers, "scans": len(records), "molre-edge": __version__}
    if reference_runner is not None:
        facts["reference"] = reference_runner.facts
    write_json(store.folder / "timing.json", timing_json(rows, facts))
    rejected = tuple((e.scan, e.code, e.reason) for e in store.entries if e.status == "rejected")
    report = Report(
        title=f"Parity of {runner.name}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        engine=_engine_facts(runner),
        reference=_reference_facts(reference, reference_runner, 0 if pair is None else len(pair.names)),
        bundle=BundleFacts(
            digest=bundle.digest,
            checkpoint_sha256=bundle.checkpoint_sha256,
            graph_sha256=_graph_sha256(bundle, runner),
            grid=asdict(bundle.grid),
        ),
        findings=bundle.findings,
        thresholds=tuple(float(value) for value in bundle.thresholds),
        scans=() if pair is None else pair.names,
        numbers=numbers,
        limits=gate if pair is not None else None,
        limits_source=limits_source,
        verdict=verdict,
        reference_outputs=None if pair is None else pair.expected,
        engine_outputs=None if pair is None else pair.got,
        failed=tuple(FailedScan(scan=scan, code=code, reason=reason) for scan, code, reason in rejected),
        warnings={r.scan: tuple(text for _, text in r.warnings) for r in records if r.warnings},
        timing=tuple(rows),
        command=command,
        versions={
            "molre-edge": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "system": f"{platform.system()} {platform.machine()}",
            **{f"{name} at export": str(version) for name, version in bundle.manifest["tool"].items()},
        },
        notes=(f"reference: {reference.why}", *notes, *(str(note) for note in bundle.manifest.get("notes", ()))),
    )
    _, page = write_report(store.folder, report)
    store.finish()
    return RunSummary(
        folder=store.folder,
        done=len(records),
        rejected=rejected,
        numbers=numbers,
        verdict=verdict,
        rows=tuple(rows),
        report=page,
        compared=_compared(pair, reference, len(records)),
        positive=tuple((record.scan, positive_findings(record, bundle)) for record in records),
        notes=notes,
    )


def _compared(pair: Pair | None, reference: Reference, done: int) -> str:
    """What parity says something of: golden answers say nothing of the scans themselves."""
    if pair is None:
        return ""
    count = len(pair.names)
    if reference.kind == "golden":
        return f"on {count} golden volumes of the bundle, not on these scans"
    return f"on all {count} scans" if count == done else f"on {count} of {done} scans"


def _pair(
    records: list[Record],
    reference: Reference,
    runner: Runner,
    golden: GoldenSet | None,
    labels: Labels | None,
    folder: Path,
) -> Pair | None:
    if reference.kind == "none":
        return None
    if reference.kind == "golden":
        if golden is None:
            raise RunError("the golden answers were not read")
        got = Outputs.stack([runner.run(golden.volumes[i : i + 1]).outputs for i in range(len(golden.volumes))])
        write_record(folder / GOLDEN_FILE, Record(GOLDEN, engine=got, reference=golden.outputs, engine_ms={}))
        return Pair.of_golden(golden.outputs, got)
    return Pair.of_records(records, labels or {})


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
