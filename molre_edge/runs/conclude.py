"""From the stored answers of a run to its results: findings, times, parity and the report.

One pass over the answers: of a scan that was not compared with the reference, only its times stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from molre_edge import __version__
from molre_edge.bundle.bundle import GoldenSet
from molre_edge.bundle.golden_origin import golden_words
from molre_edge.errors import MolreEdgeError, RunError
from molre_edge.files import write_json
from molre_edge.own_model.process import MODEL_FAILED
from molre_edge.parity import Outputs
from molre_edge.parity.whose import as_own_model, as_rebuild
from molre_edge.reports.parity_report import FailedScan, KeySlice, ReferenceFacts, Report, TimingRow
from molre_edge.reports.write import write_report
from molre_edge.runs import pictures
from molre_edge.runs.answers import Record, write_record
from molre_edge.runs.circumstances import Circumstances
from molre_edge.runs.context import RunContext
from molre_edge.runs.dicom_folder import NO_DICOM_RESULT, NO_DICOM_STUDY
from molre_edge.runs.findings_files import FindingsWriter
from molre_edge.runs.infer_result import InferResult
from molre_edge.runs.labels import write_known_labels
from molre_edge.runs.pairs import GOLDEN, GOLDEN_FILE, Compared, Labels, Pair
from molre_edge.runs.run_report import RunFacts, build_report
from molre_edge.runs.store import RunStore
from molre_edge.runs.stored_findings import StoredFindings
from molre_edge.runs.timing import ENGINE_PHASES, OWN_MODEL_PHASES, REFERENCE_PHASES, Times, timing_json

__all__ = ["conclude", "write_results"]

_COMPARES_SCANS = ("checkpoint", "own model")
"""Kinds of reference that answer the run's own scans."""
Pictures = Callable[[Report], Sequence[KeySlice]]


def conclude(store: RunStore, context: RunContext, *, golden: GoldenSet | None, labels: Labels | None) -> InferResult:
    """Write the results of a run whose scans are all answered or rejected, and mark it as finished.

    Args:
        store: the run's folder.
        context: what the run worked with.
        golden: needed for the reference kind ``golden``.
        labels: of the run's scans, by their ids.
    """
    answered = None
    if context.reference.kind == "golden":
        if golden is None:
            raise RunError("the golden answers are missing; verify the bundle with 'molre-edge verify'")
        volumes = golden.volumes
        got = Outputs.stack([context.runner.run(volumes[i : i + 1]).outputs for i in range(len(volumes))])
        answered = Record(GOLDEN, engine=got, reference=golden.outputs, engine_ms={})
    return write_results(
        store,
        Circumstances.of(context),
        golden=answered,
        labels=labels or {},
        show=lambda report: _pictures(report, store, context),
    )


def write_results(
    store: RunStore,
    how: Circumstances,
    *,
    golden: Record | None,
    labels: Labels,
    show: Pictures = lambda report: (),
) -> InferResult:
    """Write the results of stored answers, and mark their run as finished.

    Args:
        store: the run's folder, begun.
        how: the run was made.
        golden: what the engine and the reference answered for the golden volumes, where they were compared on those.
        labels: of the run's scans, by their ids.
        show: makes pictures for a report.
    """
    if golden is not None:
        write_record(store.folder / GOLDEN_FILE, golden)
    write_known_labels(store.folder, labels, how.findings)
    answers = _read(store, how)
    pair = _pair(how, golden, answers.compared, labels)
    notes = (*how.notes, *_notes(how, pair, answers.failed), *_dicom_notes(answers))
    timing = (*answers.engine.rows(how.engine.name, ENGINE_PHASES),)
    if how.reference_runner:
        phases = OWN_MODEL_PHASES if how.reference == "own model" else REFERENCE_PHASES
        timing += (*answers.reference.rows(f"{how.reference_runner} (reference)", phases),)
    count = store.count("done")
    measured_on = {**how.measured_on, "scans": count, "molre-edge": __version__}
    write_json(store.folder / "timing.json", timing_json(timing, measured_on))
    rejected = tuple(
        FailedScan(scan=entry.scan, code=entry.code, reason=entry.reason)
        for entry in store.entries
        if entry.status == "rejected"
    )
    rows = {entry.scan: entry.row for entry in store.entries}
    facts = _facts(how, pair, rejected, answers.warnings, timing, notes, rows)
    report = build_report(facts, pair, how.limits, how.limits_source)
    _, page = write_report(store.folder, report, show(report))
    store.finish(how.to_dict())
    return InferResult(
        folder=store.folder,
        report=page,
        engine=how.engine.name,
        bundle=how.bundle.digest,
        scans=StoredFindings.of(store, how.findings, how.thresholds),
        rejected=rejected,
        numbers=report.numbers,
        verdict=report.verdict,
        timing=timing,
        compared=_compared(pair, how, count),
        not_compared=tuple(answers.failed),
        no_dicom_result=tuple(answers.no_dicom_result),
        notes=notes,
        shard=store.shard,
    )


@dataclass
class _Answers:
    """What one pass over the answers keeps.

    Attributes:
        engine: times of the engine.
        reference: times of the reference.
        compared: answers of scans that the reference answered too.
        warnings: scan id -> its warnings.
        failed: ids of scans on which the user's own model failed.
        no_dicom_result: ids of scans whose DICOM results could not be made.
        no_dicom_study: how many scans are from NIfTI, and have none for that reason.
    """

    engine: Times = field(default_factory=Times)
    reference: Times = field(default_factory=Times)
    compared: Compared = field(default_factory=Compared)
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    no_dicom_result: list[str] = field(default_factory=list)
    no_dicom_study: int = 0


def _read(store: RunStore, how: Circumstances) -> _Answers:
    """One pass over the answers, which writes the findings."""
    answers = _Answers()
    texts: dict[tuple[str, ...], tuple[str, ...]] = {}  # few different ones
    with FindingsWriter(store.folder, how.findings, engine=how.engine.name, bundle=how.bundle.digest) as findings:
        for record in store.records():
            findings.add(StoredFindings.made(record, how.findings, how.thresholds))
            answers.engine.add(record.engine_ms)
            answers.reference.add(record.reference_ms)
            if how.reference in _COMPARES_SCANS:
                answers.compared.add(record)
            if record.warnings:
                told = tuple(text for _, text in record.warnings)
                answers.warnings[record.scan] = texts.setdefault(told, told)
            codes = {code for code, _ in record.warnings}
            if MODEL_FAILED in codes:
                answers.failed.append(record.scan)
            if NO_DICOM_RESULT in codes:
                answers.no_dicom_result.append(record.scan)
            answers.no_dicom_study += NO_DICOM_STUDY in codes
    return answers


def _pair(how: Circumstances, golden: Record | None, compared: Compared, labels: Labels) -> Pair | None:
    """What reference and engine both answered."""
    if how.reference == "golden" and golden is not None and golden.reference is not None:
        return Pair.of_golden(golden.reference, golden.engine)
    return compared.pair(labels)


def _facts(
    how: Circumstances,
    pair: Pair | None,
    rejected: tuple[FailedScan, ...],
    warnings: Mapping[str, tuple[str, ...]],
    timing: tuple[TimingRow, ...],
    notes: tuple[str, ...],
    rows: Mapping[str, int],
) -> RunFacts:
    return RunFacts(
        title=f"Parity of {how.engine.name}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        engine=how.engine,
        reference=_reference_facts(how, 0 if pair is None else len(pair.names)),
        bundle=how.bundle,
        findings=how.findings,
        thresholds=how.thresholds,
        failed=rejected,
        warnings=warnings,
        timing=timing,
        command=how.command,
        versions=how.versions,
        notes=(f"reference: {how.why}", *notes, *how.bundle_notes),
        rows=rows,
    )


def _notes(how: Circumstances, pair: Pair | None, failed: Sequence[str]) -> list[str]:
    """What the user asked for and does not get."""
    notes = []
    if failed:
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        notes.append(f"your model failed on {len(failed)} scans, which are not compared: {', '.join(failed[:5])}{more}")
    if pair is None and how.reference != "none":
        notes.append("no scan was compared with the reference, so parity is not judged")
    if how.labels_given and how.reference not in _COMPARES_SCANS:
        found = "the golden answers" if how.reference == "golden" else "none"
        notes.append(
            f"the labels were not used: AUC needs a model that answers the same scans, and the reference of "
            f"this run is {found}"
        )
    return notes


def _dicom_notes(answers: _Answers) -> list[str]:
    """Which scans have no DICOM results, and why."""
    notes, without = [], answers.no_dicom_result
    if without:
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        named = ", ".join(without[:5])
        notes.append(f"no DICOM result could be made for {named}{more}; their warnings in findings.jsonl say why")
    if answers.no_dicom_study:
        notes.append(f"NIfTI files name no study, so they have no DICOM result: {answers.no_dicom_study}")
    return notes


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


def _compared(pair: Pair | None, how: Circumstances, done: int) -> str:
    """What the verdict is about: with golden answers, it is not about the scans of this run."""
    if pair is None:
        return ""
    count = len(pair.names)
    if how.reference == "golden":
        return f"on {count} golden volumes of the bundle, not on these scans"
    return f"on all {count} scans" if count == done else f"on {count} of {done} scans"


def _reference_facts(how: Circumstances, count: int) -> ReferenceFacts:
    if how.reference == "golden":
        words = golden_words(how.own_golden, count)
        return ReferenceFacts(kind="golden answers", volumes=f"{count} golden volumes of the bundle", words=words)
    if how.reference == "none" or not count:
        return ReferenceFacts(kind="none")
    volumes, details = f"{count} scans of this run", how.reference_details
    if how.reference == "own model":
        words = as_own_model(how.reference_runner, count, how.given)
        return ReferenceFacts(kind="own model", volumes=volumes, details=details, words=words)
    words = as_rebuild(how.checkpoint or "the checkpoint")
    return ReferenceFacts(kind="pytorch checkpoint", volumes=volumes, details=details, words=words)
