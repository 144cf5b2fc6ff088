"""Engines on a real GPU: built, run, compared with the golden answers, timed with and without adapters."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from report import CanNotRunError, FailedError, Report

from molre_edge.benchmarking.measure import PLAIN, Candidate, measure, summarise
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import EngineFile, list_engines, read_engine
from molre_edge.engines.cuda.device import open_device
from molre_edge.engines.cuda.driver import probe_driver
from molre_edge.engines.tensorrt.api import BuildOptions, Target, load_tensorrt
from molre_edge.engines.tensorrt.build import build_tensorrt as build_engine
from molre_edge.engines.tensorrt.fit import RTX_CAPABILITIES, BuiltFor, why_not_gpu
from molre_edge.engines.tensorrt.network import TensorRTNetwork
from molre_edge.engines.tensorrt.runner import TensorRTRunner
from molre_edge.errors import EngineError, MissingDependencyError
from molre_edge.parity import DEFAULT_LIMITS, Outputs, compare, judge
from molre_edge.specs import Precision

BATCHES = (1, 4)
PRECISIONS = (Precision.FP32, Precision.FP16)


def engine_checks(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """All checks of engines."""
    bundles: dict[str, Bundle] = {}
    report.check("a bundle with adapters, exported", lambda: export_into(bundles, "molre", options, folder))
    report.check("the plain backbone, exported", lambda: export_into(bundles, "none", options, folder))
    for target in Target:
        for precision in PRECISIONS:
            name = f"{target}-{precision}"
            report.check(f"{name}: build", lambda t=target, p=precision: build(bundles, t, p))
            report.check(f"{name}: golden answers", lambda n=name, p=precision: golden(_of(bundles, "molre"), n, p))
            report.check(f"{name}: adapters' cost", lambda n=name: overhead(bundles, n, options.rounds))
    report.check("TensorRT-RTX on a GPU that its list lacks", lambda: outside(_of(bundles, "molre"), report))


def export_into(bundles: dict[str, Bundle], adapter: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Draw a model, export it, and open its bundle."""
    try:
        from molre_edge.demo import draw_model
        from molre_edge.export.exporter import export_bundle
        from molre_edge.export.golden import synthetic_volumes
        from molre_edge.model.backbones.registry import backbone_entry
        from molre_edge.model.checkpoint import load_checkpoint, save_checkpoint
        from molre_edge.model.defaults import default_config
    except ImportError as error:
        raise CanNotRunError(f"the export needs the extra 'export' ({error})") from error
    entry = backbone_entry(options.backbone)
    grid = replace(entry.grid, slices=options.slices) if entry.dimensions == 2 else entry.grid
    volumes = synthetic_volumes(grid, 4)
    path = folder / f"{adapter}.pt"
    save_checkpoint(draw_model(default_config(options.backbone, grid=grid, adapter=adapter), volumes), path)
    result = export_bundle(load_checkpoint(path), folder / adapter, volumes, golden_origin="synthetic")
    bundles[adapter] = Bundle.open(folder / adapter)
    return {str(precision): parity.verdict.summary for precision, parity in result.parity.items()}


def build(bundles: dict[str, Bundle], target: Target, precision: Precision) -> dict[str, Any]:
    """Engines of both bundles, for this GPU."""
    figures: dict[str, Any] = {}
    for adapter in ("molre", "none"):
        options = BuildOptions(target=target, batch=(1, 4, 4))
        try:
            facts = build_engine(_of(bundles, adapter), precision, options).facts
        except MissingDependencyError as error:
            raise CanNotRunError(str(error)) from error
        figures[adapter] = {
            "seconds": facts["build_seconds"],
            "MB": round(facts["bytes"] / 1e6, 1),
            "weights": facts["layers"]["matrix_weights"],
            "fused attentions": facts["layers"]["fused_attention"],
            "read from": facts["layers"]["read_from"],
            "library": " ".join(facts["runtime"].values()),
        }
    return figures


def golden(bundle: Bundle, name: str, precision: Precision) -> dict[str, Any]:
    """The runner's answers beside the golden ones, one by one, as a stream, and in one batch."""
    golden = bundle.golden()
    with runner_of(bundle, name) as runner:
        alone = [runner.run(golden.volumes[i : i + 1]).outputs for i in range(len(golden.volumes))]
        streamed = [r.outputs for r in runner.run_stream(golden.volumes[i : i + 1] for i in range(len(golden.volumes)))]
        whole = runner.run(golden.volumes).outputs
        facts = runner.facts
    answers = {"alone": Outputs.stack(alone), "streamed": Outputs.stack(streamed), "batch": whole}
    more = {"prepared": facts["prepared"], "notes": facts["notes"], "device": facts["device"]}
    return judged(answers, bundle, golden.outputs, precision, more)


def overhead(bundles: dict[str, Bundle], name: str, rounds: int) -> dict[str, Any]:
    """Time of the engine with adapters over that without, interleaved: ``to_first``, median and quartiles."""
    pairs = [
        Candidate(f"{PLAIN}engine", lambda: runner_of(_of(bundles, "none"), name)),
        Candidate("with", lambda: runner_of(_of(bundles, "molre"), name)),
    ]
    return timed(pairs, _of(bundles, "molre").golden().volumes, rounds)


def timed(candidates: Sequence[Candidate], volumes: Any, rounds: int) -> dict[str, Any]:
    """Figures of runners that take turns.

    Raises:
        FailedError: not all of them are ready.
    """
    measured = measure(candidates, volumes, batches=BATCHES, rounds=rounds)
    told = {f"{row.name}, batch {row.batch}": asdict(row) for row in summarise(measured.arms)}
    wanted = ("median_ms", "p99_ms", "compute_ms", "scans_per_second", "to_first")
    figures: dict[str, Any] = {name: {key: _short(row[key]) for key in wanted} for name, row in told.items()}
    if measured.absent:
        raise FailedError("; ".join(f"{name} is not ready: {why}" for name, why in measured.absent.items()), figures)
    return figures


def outside(bundle: Bundle, report: Report) -> dict[str, Any]:
    """Whether the library really refuses: the check of ours is passed by."""
    gpu = report.probe.gpus[0]
    if gpu.sm in RTX_CAPABILITIES:
        raise CanNotRunError(f"the {gpu} is on the list")
    engine = _engine(bundle, "rtx-fp16")
    plan, device = read_engine(bundle, engine), open_device()
    try:
        with device.active():
            network = TensorRTNetwork(load_tensorrt(Target.RTX), plan)
            network.close()
        return {"answer": f"it takes an engine on the {gpu}"}
    except EngineError as error:
        return {"answer": f"it refuses on the {gpu}: {error}"}
    finally:
        device.close()


def runner_of(bundle: Bundle, name: str) -> TensorRTRunner:
    """The runner of an engine of the bundle."""
    return TensorRTRunner.from_bundle(bundle, fitting(bundle, name))


def fitting(bundle: Bundle, name: str) -> EngineFile:
    """An engine of the bundle, which must run here.

    Raises:
        CanNotRunError: there is none, or it is a portable one and not for this GPU.
    """
    engine = _engine(bundle, name)
    if (reason := why_not_gpu(BuiltFor.of(engine), probe_driver().gpus[0])) is not None:
        raise CanNotRunError(f"{name}: {reason}")
    return engine


def judged(
    answers: Mapping[str, Outputs], bundle: Bundle, wanted: Outputs, precision: Precision, more: Mapping[str, Any]
) -> dict[str, Any]:
    """Answers to the golden volumes beside the wanted ones, held against the gate of a precision.

    Raises:
        FailedError: they don't keep it.
    """
    figures: dict[str, Any] = {}
    reasons = []
    for how, outputs in answers.items():
        numbers = compare(wanted, outputs, findings=bundle.findings, thresholds=bundle.thresholds)
        verdict = judge(numbers, DEFAULT_LIMITS[precision])
        figures[how] = {**differences(outputs, wanted), "verdict": verdict.summary}
        if not verdict.passed:
            reasons.append(f"{how}: {'; '.join(check.text for check in verdict.failed) or verdict.summary}")
    figures |= more
    if reasons:
        raise FailedError(f"outside the {precision} gate: {', '.join(reasons)}", figures)
    return figures


def differences(got: Outputs, wanted: Outputs) -> dict[str, float | str]:
    """Largest distance of a probability and of a gate, and the smallest cosine of embeddings; NaN as text, for JSON."""
    a, b = got.embedding.astype(np.float64), wanted.embedding.astype(np.float64)
    cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30)
    figures = {
        "max dp": float(np.abs(got.probabilities - wanted.probabilities).max()),
        "min cosine": float(cosine.min()),
    }
    if got.gates is not None and wanted.gates is not None:
        figures["max gate L1"] = float(np.abs(got.gates - wanted.gates).sum(-1).max())
    return {name: float(f"{value:.6g}") if np.isfinite(value) else str(value) for name, value in figures.items()}


def _engine(bundle: Bundle, name: str) -> EngineFile:
    found = [engine for engine in list_engines(bundle) if engine.path.stem == name]
    if not found:
        raise CanNotRunError(f"there is no engine {name}; see its build")
    return found[0]


def _of(bundles: dict[str, Bundle], adapter: str) -> Bundle:
    if adapter not in bundles:
        raise CanNotRunError("there is no bundle; see its export")
    return bundles[adapter]


def _short(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_short(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
