"""A calibration from end to end: scans, ranges, search, judgement, and the graph in its bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.data import (
    MOST_LOOKED_AT,
    LabelsOf,
    Problem,
    Split,
    candidates,
    choose,
    content_of,
    look,
)
from molre_edge.calibration.evaluator import Bench, Judgement
from molre_edge.calibration.layers import Layer, find_layers
from molre_edge.calibration.quantise import LEAST_SCALE
from molre_edge.calibration.ranges import Seen, collect, thresholds
from molre_edge.calibration.ranking import Found, most_confirmed, most_judged, most_runs, search
from molre_edge.calibration.result_report import describe_calibration, explain
from molre_edge.calibration.settings import CalibrationSettings, RangeMethod
from molre_edge.calibration.speed import compare_speed
from molre_edge.calibration.store import GRAPH, cached, check_place, keep, key_of
from molre_edge.errors import CalibrationError, ParityFailedError, ScanError
from molre_edge.export.graph import graph_facts
from molre_edge.parity import ParityLimits
from molre_edge.reports.calibration_page import render
from molre_edge.scans import FoundScans, ScanSource

if TYPE_CHECKING:
    import onnx

__all__ = ["CalibrationResult", "Progress", "calibrate"]


_AUC = {"mean_auc_drop", "finding_auc_drop"}


class Progress(Protocol):
    """Who wants to know how a calibration goes on. All methods may do nothing."""

    def step(self, name: str, parts: int | None = None) -> None:
        """A step begins, with so many parts."""

    def part(self, what: str = "") -> None:
        """One part is done."""

    def tell(self, text: str) -> None:
        """Something to know, such as how long it is expected to take."""

    def warn(self, text: str) -> None:
        """Something that must not be missed."""


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """What a calibration made.

    Attributes:
        folder: of the bundle.
        digest: of the bundle as it is now.
        report: see docs/calibration.md.
        problems: scans that could not be used.
        unchanged: the bundle held the result already, from the same inputs.
        unread: of an unchanged result, how many scans of these inputs could not be used when it was made; they are not
            read again, so they are not among the problems.
    """

    folder: Path
    digest: str
    report: Mapping[str, Any]
    problems: tuple[Problem, ...]
    unchanged: bool
    unread: int = 0


def calibrate(
    bundle: Bundle,
    found: FoundScans,
    settings: CalibrationSettings,
    gate: ParityLimits,
    progress: Progress,
    *,
    labels: LabelsOf = lambda source: None,
    threads: int | None = None,
) -> CalibrationResult:
    """Make the int8 graph of a bundle and put it there, with a report; or leave the bundle as it was.

    Args:
        bundle: opened; with a float32 graph.
        found: the scans.
        settings: what is asked for.
        gate: the budget.
        progress: is told.
        labels: of a scan, float64 [findings] with NaN where unknown; None where it has none.
        threads: CPU threads; None takes the cores that this process may use.

    Raises:
        CalibrationError: too few scans, no layer to quantise, or the bundle was altered meanwhile.
        ParityFailedError: no set of layers keeps the gate. The message names the worst findings and layers.
        BundleError: the bundle has no float32 graph, or is altered.
    """
    if len(found.scans) > MOST_LOOKED_AT:
        progress.warn(f"of {len(found.scans)} scans, {MOST_LOOKED_AT} are looked at, those with labels first")
    check_place(bundle)
    problems = [Problem(bad.path, bad.code, bad.reason) for bad in found.rejected]
    sources, contents = _hashed(candidates(found, labels), problems, progress)
    key = key_of(bundle, contents, [labels(source) for source in sources], settings, gate)
    report = cached(bundle, key)
    if report is not None:
        _warn_of(problems, progress)
        unread = _unread(report, contents)
        if unread:
            progress.warn(f"{unread} of these scans could not be used when the result was made")
        return CalibrationResult(bundle.folder, bundle.digest, report, tuple(problems), True, unread)

    progress.step("reading the scans", len(sources))
    samples, bad = look(sources, contents, bundle.grid, labels=labels, on_scan=progress.part)
    problems += bad
    _warn_of(problems, progress)
    split = choose(samples, settings, bundle.grid.slices)
    seen_slices = len(split.calibration) * bundle.grid.slices
    if seen_slices < settings.slices:
        progress.warn(
            f"only {seen_slices} slices of {len(split.calibration)} scans for the ranges; {settings.slices} are "
            f"advised, and what they don't show is clipped"
        )
    if settings.validation is not None and len(split.validation) < settings.validation:
        progress.warn(f"{len(split.validation)} scans are kept for judging, not {settings.validation}: half at most")
    progress.step("answers of the float32 graph")
    others = (*split.calibration, *split.unused)
    bench = Bench(bundle, split.validation, gate, settings.headroom, others=others, threads=threads)
    _check_judged(bench, split, progress)
    layers = find_layers(bench.graph, bench.traces, conv3d=settings.conv3d)
    open_layers = _open(layers, bundle)
    methods = tuple(RangeMethod) if settings.method is None else (settings.method,)
    runs, judged = most_runs(open_layers, len(methods)), most_judged(open_layers)
    seconds = bench.expected_seconds(len(split.calibration), runs - judged, judged)
    progress.tell(
        f"{len(open_layers)} layers may be quantised; the search runs {runs} graphs at most and judges {judged} of "
        f"them, then the best on all {len(samples)} scans: {_duration(seconds)} or so. A set that fails there is made "
        f"smaller, in {most_confirmed(open_layers) - 1} more judgements at most"
    )
    progress.step("ranges", len(split.calibration))
    seen = collect(
        bench.graph,
        sorted({layer.activation for layer in open_layers}),
        bench.reader.read(split.calibration),
        slices=bundle.grid.slices,
        threads=threads,
        on_scan=progress.part,
    )
    layers = tuple(_with_scale(layer, seen) for layer in layers)
    open_layers = _open(layers, bundle)
    limits = {method: _normal(thresholds(seen, method)) for method in methods}
    progress.step("search", runs + 1)
    last: tuple[onnx.ModelProto, Judgement] | None = None

    def holds(chosen: Sequence[Layer], method: RangeMethod) -> bool:
        nonlocal last
        graph, judgement = bench.confirm(chosen, limits[method])
        if judgement.passed:
            last = graph, judgement
        else:
            progress.tell(f"{len(chosen)} layers are too many: {explain(judgement)}")
        return judgement.passed

    outcome = search(
        open_layers,
        methods,
        lambda chosen, method: bench.strain(chosen, limits[method]),
        lambda chosen, method: bench.judge(chosen, limits[method]).passed,
        holds,
        lambda trial: progress.part(trial.what),
    )
    if last is None:
        raise ParityFailedError(_nothing_fits(bench, outcome))
    graph, judgement = last
    progress.step("time beside float16")
    raw = graph.SerializeToString()
    half = bench.half()
    speed = compare_speed(half, raw, bench.volumes[0][None], threads=threads)
    report = describe_calibration(
        key=key,
        bundle=bundle,
        settings=settings,
        gate=gate,
        split=split,
        problems=problems,
        layers=layers,
        outcome=outcome,
        limits=limits[outcome.method],
        judgement=judgement,
        attentions=bench.attentions,
        sizes={"fp16": len(half), "int8": len(raw)},
        speed=speed,
        mode=bench.mode,
    )
    if Bundle.open(bundle.folder).digest != bundle.digest:
        raise CalibrationError(f"{bundle.folder}: was altered while it was calibrated; calibrate again")
    digest = keep(
        bundle,
        raw,
        graph_facts(graph, GRAPH),
        report,
        render(report),
        section=report["summary"] | {"key": key},
        parity=judgement.of_golden(gate),
        notes=report["notes"],
    )
    return CalibrationResult(bundle.folder, digest, report, tuple(problems), False)


def _hashed(
    sources: Sequence[ScanSource], problems: list[Problem], progress: Progress
) -> tuple[list[ScanSource], list[str]]:
    """The scans in an order that depends on their content alone."""
    progress.step("hashing the scans", len(sources))
    known: list[tuple[str, ScanSource]] = []
    for source in sources:
        try:
            known.append((content_of(source), source))
        except ScanError as error:
            problems.append(Problem(source.path, error.code, str(error)))
        progress.part()
    known.sort(key=lambda pair: pair[0])
    return [source for _, source in known], [content for content, _ in known]


def _unread(report: Mapping[str, Any], contents: Sequence[str]) -> int:
    """How many of the scans that a report was made from it could not use; what has no content is not in its key."""
    used = sum(report["data"][f"{part}_scans"] for part in ("calibration", "validation", "unused"))
    return len(set(contents)) - int(used)


def _open(layers: Sequence[Layer], bundle: Bundle) -> list[Layer]:
    """Those that may be quantised."""
    found = [layer for layer in layers if not layer.barred]
    if not found:
        why = "; ".join(sorted({layer.barred for layer in layers}))
        raise CalibrationError(f"{bundle.folder}: its graph has no layer that INT8 could serve ({why})")
    return found


def _with_scale(layer: Layer, seen: Mapping[str, Seen]) -> Layer:
    """Bar a layer whose values are too small for a float16 scale."""
    if layer.barred or seen[layer.activation].largest / 127 >= LEAST_SCALE:
        return layer
    return replace(
        layer, barred=f"its values stay below {LEAST_SCALE * 127:.2g}: the scale is no normal float16 number"
    )


def _normal(limits: Mapping[str, float]) -> dict[str, float]:
    """Thresholds whose scale is a normal float16 number; of these layers the largest values allow it."""
    return {name: max(limit, LEAST_SCALE * 127) for name, limit in limits.items()}


def _check_judged(bench: Bench, split: Split, progress: Progress) -> None:
    """Refuse a gate by which nothing could fail here, and say so where labels don't suffice for an AUC."""
    verdict = bench.perfect()
    missing = {check.name: f"{check.name} {check.text}" for check in verdict.not_judged if check.limit is not None}
    if not verdict.passed:
        raise CalibrationError(
            f"nothing that the gate '{bench.gate.name}' limits can be judged on these scans "
            f"({'; '.join(missing.values())}); set other limits with --gates, or give --labels"
        )
    if any(sample.labels is not None for sample in split.validation) and missing.keys() & _AUC:
        progress.warn(f"the labels can't be used: {'; '.join(missing[name] for name in sorted(missing.keys() & _AUC))}")


def _warn_of(problems: Sequence[Problem], progress: Progress) -> None:
    for problem in problems:
        progress.warn(f"{problem.path.name} can't be used: {problem.reason}")


def _nothing_fits(bench: Bench, outcome: Found) -> str:
    least = outcome.ranked[0]
    worst = outcome.ranked[-1]
    return (
        f"no layer can be INT8 within the gate '{bench.gate.name}', so there is no int8 graph and the bundle is as it "
        f"was. Even {least.name} alone: {explain(bench.last)}. Most harmed by {worst.name}. Keep --engine fp16, or "
        f"set a gate that fits your use with --gates"
    )


def _duration(seconds: float) -> str:
    return f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
