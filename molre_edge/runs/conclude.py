"""From the stored answers of a run to its results: findings, times, parity and the report."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import numpy as np

from molre_edge import __version__
from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.bundle.golden_origin import golden_words
from molre_edge.engines.runner import Runner
from molre_edge.errors import MolreEdgeError, RunError
from molre_edge.files import write_json
from molre_edge.own_model.process import MODEL_FAILED
from molre_edge.parity import Outputs
from molre_edge.parity.whose import as_own_model, as_rebuild
from molre_edge.reports.parity_report import (
    BundleFacts,
    EngineFacts,
    FailedScan,
    KeySlice,
    ReferenceFacts,
    Report,
    TimingRow,
)
from molre_edge.reports.write import write_report
from molre_edge.runs import pictures
from molre_edge.runs.answers import Record, write_record
from molre_edge.runs.context import RunContext
from molre_edge.runs.findings_files import write_findings
from molre_edge.runs.infer_result import InferResult
from molre_edge.runs.labels import write_known_labels
from molre_edge.runs.pairs import GOLDEN, GOLDEN_FILE, Labels, Pair
from molre_edge.runs.run_report import RunFacts, build_report
from molre_edge.runs.scan_findings import ScanFindings, findings_of, mean_gates
from molre_edge.runs.store import RunStore
from molre_edge.runs.timing import ENGINE_PHASES, OWN_MODEL_PHASES, REFERENCE_PHASES, timing_json, timing_rows
from molre_edge.scans import ScanWarning

__all__ = ["conclude"]


def conclude(store: RunStore, context: RunContext, *, golden: GoldenSet | None, labels: Labels | None) -> InferResult:
    """Write the results of a run whose scans are all answered or rejected, and mark it as finished.

    Args:
        store: the run's folder.
        context: what the run worked with.
        golden: needed for the reference kind ``golden``.
        labels: of the run's scans, by their ids.
    """
    bundle, runner = context.bundle, context.runner
    records = store.records()
    pair = _pair(records, context, golden, labels, store)
    write_known_labels(store.folder, labels or {}, bundle.findings)
    failed = tuple(record.scan for record in records if MODEL_FAILED in {code for code, _ in record.warnings})
    notes = (*context.notes, *_notes(context, pair, labels, failed))
    timing = _timing(records, context)
    scans = tuple(_findings(record, bundle) for record in records)
    write_findings(store.folder, scans, names=bundle.findings, engine=runner.name, bundle=bundle.digest)
    write_json(store.folder / "timing.json", timing_json(timing, _measured_on(context, len(records))))
    rejected = tuple(
        FailedScan(scan=entry.scan, code=entry.code, reason=entry.reason)
        for entry in store.entries
        if entry.status == "rejected"
    )
    facts = RunFacts(
        title=f"Parity of {runner.name}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        engine=_engine_facts(runner),
        reference=_reference_facts(context, 0 if pair is None else len(pair.names)),
        bundle=_bundle_facts(bundle, runner),
        findings=bundle.findings,
        thresholds=tuple(float(value) for value in bundle.thresholds),
        failed=rejected,
        warnings={record.scan: tuple(text for _, text in record.warnings) for record in records if record.warnings},
        timing=timing,
        command=context.command,
        versions=_versions(bundle),
        notes=(
            f"reference: {context.reference.why}",
            *notes,
            *(str(note) for note in bundle.manifest.get("notes", ())),
        ),
    )
    report = build_report(facts, pair, context.limits, context.limits_source)
    _, page = write_report(store.folder, report, _pictures(report, store, context))
    store.finish()
    return InferResult(
        folder=store.folder,
        report=page,
        engine=runner.name,
        bundle=bundle.digest,
        scans=scans,
        rejected=rejected,
        numbers=report.numbers,
        verdict=report.verdict,
        timing=timing,
        compared=_compared(pair, context, len(records)),
        not_compared=failed,
        notes=notes,
    )


def _pair(
    records: Sequence[Record], context: RunContext, golden: GoldenSet | None, labels: Labels | None, store: RunStore
) -> Pair | None:
    """What reference and engine both answered; the engine answers the golden volumes here, if those are compared."""
    if context.reference.kind == "none":
        return None
    if context.reference.kind == "golden":
        if golden is None:
            raise RunError("the golden answers are missing; verify the bundle with 'molre-edge verify'")
        volumes = golden.volumes
        got = Outputs.stack([context.runner.run(volumes[i : i + 1]).outputs for i in range(len(volumes))])
        answered = Record(GOLDEN, engine=got, reference=golden.outputs, engine_ms={})
        write_record(store.folder / GOLDEN_FILE, answered)
        return Pair.of_golden(golden.outputs, got)
    return Pair.of_records(records, labels or {})


def _notes(context: RunContext, pair: Pair | None, labels: Labels | None, failed: Sequence[str]) -> list[str]:
    """What the user asked for and does not get."""
    notes, kind = [], context.reference.kind
    if failed:
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        notes.append(f"your model failed on {len(failed)} scans, which are not compared: {', '.join(failed[:5])}{more}")
    if pair is None and kind != "none":
        notes.append("no scan was compared with the reference, so parity is not judged")
    if labels is not None and kind not in ("checkpoint", "own model"):
        found = "the golden answers" if kind == "golden" else "none"
        notes.append(
            f"the labels were not used: AUC needs a model that answers the same scans, and the reference of "
            f"this run is {found}"
        )
    return notes


def _findings(record: Record, bundle: Bundle) -> ScanFindings:
    return ScanFindings(
        scan=record.scan,
        findings=findings_of(record.engine, bundle.findings, bundle.thresholds),
        gates=mean_gates(record.engine),
        warnings=tuple(ScanWarning(code, text) for code, text in record.warnings),
        facts=record.facts,
        milliseconds=record.engine_ms,
    )


def _timing(records: Sequence[Record], context: RunContext) -> tuple[TimingRow, ...]:
    rows = timing_rows(context.runner.name, ENGINE_PHASES, [record.engine_ms for record in records])
    samples = [record.reference_ms for record in records if record.reference_ms]
    if context.reference_runner is not None:
        rows += timing_rows(f"{context.reference_runner.name} (reference)", REFERENCE_PHASES, samples)
    if context.own_model is not None:
        rows += timing_rows(f"{context.own_model.name} (reference)", OWN_MODEL_PHASES, samples)
    return tuple(rows)


def _measured_on(context: RunContext, count: int) -> Mapping[str, Any]:
    """What the times were measured on."""
    facts = {"engine": context.runner.facts, "batch": 1, "readers": context.readers, "scans": count}
    if context.reference_runner is not None:
        facts["reference"] = context.reference_runner.facts
    if context.own_model is not None:
        facts["reference"] = context.own_model.facts
    return {**facts, "molre-edge": __version__}


def _pictures(report: Report, store: RunStore, context: RunContext) -> tuple[KeySlice, ...]:
    """Slices of the worst scans, if asked for. Whatever goes wrong here, the run has its report."""
    if not context.images:
        return ()
    grid = context.bundle.grid
    try:
        slices, notes = pictures.key_slices(report, store.entries, context.scans, grid, all_series=context.all_series)
    except (MolreEdgeError, OSError) as error:
        context.progress.warn(f"no pictures in the report: {error}")
        return ()
    pictures.warn_of(slices, notes, context.progress)
    return slices


def _compared(pair: Pair | None, context: RunContext, done: int) -> str:
    """What the verdict is about: with golden answers, it is not about the scans of this run."""
    if pair is None:
        return ""
    count = len(pair.names)
    if context.reference.kind == "golden":
        return f"on {count} golden volumes of the bundle, not on these scans"
    return f"on all {count} scans" if count == done else f"on {count} of {done} scans"


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


def _reference_facts(context: RunContext, count: int) -> ReferenceFacts:
    runner, own = context.reference_runner, context.own_model
    if context.reference.kind == "golden":
        words = golden_words(context.bundle.own_golden, count)
        return ReferenceFacts(kind="golden answers", volumes=f"{count} golden volumes of the bundle", words=words)
    if own is not None and count:
        details = {name: str(value) for name, value in own.facts.items()}
        words = as_own_model(own.name, count, own.given)
        return ReferenceFacts(kind="own model", volumes=f"{count} scans of this run", details=details, words=words)
    if runner is None or not count:
        return ReferenceFacts(kind="none")
    details = {name: str(value) for name, value in runner.facts.items()}
    checkpoint = context.reference.checkpoint
    words = as_rebuild("the checkpoint" if checkpoint is None else checkpoint.name)
    return ReferenceFacts(kind="pytorch checkpoint", volumes=f"{count} scans of this run", details=details, words=words)


def _bundle_facts(bundle: Bundle, runner: Runner) -> BundleFacts:
    graph = None
    if not runner.name.startswith("torch"):
        graph = str(bundle.manifest["files"][bundle.graph(runner.precision).file])
    return BundleFacts(
        digest=bundle.digest,
        checkpoint_sha256=bundle.checkpoint_sha256,
        graph_sha256=graph,
        grid=asdict(bundle.grid),
    )


def _versions(bundle: Bundle) -> dict[str, str]:
    return {
        "molre-edge": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        **{f"{name} at export": str(version) for name, version in bundle.manifest["tool"].items()},
    }
