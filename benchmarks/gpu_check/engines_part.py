"""Engines on a real GPU: built, run, compared with the golden answers, timed with and without adapters."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from drawn import MOLRE, PLAIN_MODEL, checkpoint, volumes_of
from report import CanNotRunError, FailedError, Report
from steps import Step

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
from molre_edge.errors import EngineError
from molre_edge.parity import DEFAULT_LIMITS, Outputs, compare, judge
from molre_edge.specs import Precision

BATCHES = (1, 4)
PRECISIONS = (Precision.FP32, Precision.FP16)


def exports(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """Both bundles."""
    report.check("a bundle with adapters, exported", lambda: export_into(MOLRE, options, folder))
    report.check("the plain backbone, exported", lambda: export_into(PLAIN_MODEL, options, folder))


def engine_checks(target: Target, precision: Precision) -> Callable[[Report, argparse.Namespace, Path], None]:
    """All checks of the engines of a target and a precision."""

    def work(report: Report, options: argparse.Namespace, folder: Path) -> None:
        name = f"{target}-{precision}"
        report.check(f"{name}: build", lambda: build(folder, target, precision))
        report.check(f"{name}: golden answers", lambda: golden(_of(folder, MOLRE), name, precision))
        report.check(f"{name}: adapters' cost", lambda: overhead(folder, name, options.rounds))

    return work


def beside(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """Engines and PyTorch in turns, and TensorRT-RTX on a GPU that it does not name."""
    report.check("TensorRT-RTX on a GPU that its list lacks", lambda: outside(_of(folder, MOLRE), report))
    report.check("PyTorch and engines in turns", lambda: in_turns(folder, options))


def export_into(adapter: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Export a drawn model."""
    from molre_edge.export.exporter import export_bundle
    from molre_edge.model.checkpoint import load_checkpoint

    loaded, volumes = load_checkpoint(checkpoint(options, folder, adapter)), volumes_of(options, folder)
    result = export_bundle(loaded, folder / adapter, volumes, golden_origin="synthetic", adapters="constants")
    return {str(precision): parity.verdict.summary for precision, parity in result.parity.items()}


def in_turns(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Times of PyTorch in float16 and of every float16 engine that is there for this GPU."""
    from pytorch_part import AutocastRunner, need_gpu

    need_gpu()
    bundle, path = _of(folder, MOLRE), checkpoint(options, folder, MOLRE)
    candidates = [Candidate("eager", lambda: AutocastRunner(path))]
    for name in ("rtx-fp16", "here-fp16"):
        with contextlib.suppress(CanNotRunError):
            fitting(bundle, name)
            candidates.append(Candidate(name, lambda n=name: runner_of(bundle, n)))
    if len(candidates) == 1:
        raise CanNotRunError("no float16 engine for this GPU is there; see the builds")
    return timed(candidates, bundle.golden().volumes, options.rounds)


def build(folder: Path, target: Target, precision: Precision) -> dict[str, Any]:
    """Engines of both bundles, for this GPU."""
    figures: dict[str, Any] = {}
    for adapter in (MOLRE, PLAIN_MODEL):
        options = BuildOptions(target=target, batch=(1, 4, 4))
        facts = build_engine(_of(folder, adapter), precision, options).facts
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


def overhead(folder: Path, name: str, rounds: int) -> dict[str, Any]:
    """Time of the engine with adapters over that without, interleaved: ``to_first``, median and quartiles."""
    pairs = [
        Candidate(f"{PLAIN}engine", lambda: runner_of(_of(folder, PLAIN_MODEL), name)),
        Candidate("with", lambda: runner_of(_of(folder, MOLRE), name)),
    ]
    return timed(pairs, _of(folder, MOLRE).golden().volumes, rounds)


def timed(candidates: Sequence[Candidate], volumes: Any, rounds: int) -> dict[str, Any]:
    """Figures of runners that take turns.

    Raises:
        FailedError: not all of them are ready.
    """
    measured = measure(candidates, volumes, batches=BATCHES, rounds=rounds)
    told = {f"{row.name}, batch {row.batch}": asdict(row) for row in summarise(measured.arms)}
    wanted = ("median_ms", "p99_ms", "compute_ms", "scans_per_second", "to_first")
    figures: dict[str, Any] = {name: {key: short(row[key]) for key in wanted} for name, row in told.items()}
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
    answers: Mapping[str, Outputs], model: Any, wanted: Outputs, precision: Precision, more: Mapping[str, Any]
) -> dict[str, Any]:
    """Answers to the golden volumes beside the wanted ones, held against the gate of a precision.

    Args:
        answers: by how they were got.
        model: tells findings and thresholds: a bundle, or a model's configuration.
        wanted: float32 answers to the same volumes.
        precision: whose gate.
        more: further figures.

    Raises:
        FailedError: they don't keep it.
    """
    figures: dict[str, Any] = {}
    reasons = []
    for how, outputs in answers.items():
        numbers = compare(wanted, outputs, findings=model.findings, thresholds=np.asarray(model.thresholds))
        verdict = judge(numbers, DEFAULT_LIMITS[precision])
        figures[how] = {**differences(outputs, wanted), "verdict": verdict.summary}
        if not verdict.passed:
            reasons.append(f"{how}: {'; '.join(check.text for check in verdict.failed) or verdict.summary}")
    figures |= more
    if reasons:
        raise FailedError(f"outside the {precision} gate: {', '.join(reasons)}", figures)
    return figures


def differences(got: Outputs, wanted: Outputs) -> dict[str, float | str]:
    """Largest distance of a logit, a probability, a gate and attention, smallest cosine; NaN as text, for JSON."""
    a, b = got.embedding.astype(np.float64), wanted.embedding.astype(np.float64)
    cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30)
    figures = {
        "max dlogit": float(np.abs(got.logits.astype(np.float64) - wanted.logits).max()),
        "max dp": float(np.abs(got.probabilities - wanted.probabilities).max()),
        "min cosine": float(cosine.min()),
    }
    if got.gates is not None and wanted.gates is not None:
        figures["max gate L1"] = float(np.abs(got.gates - wanted.gates).sum(-1).max())
    if got.attention is not None and wanted.attention is not None:
        figures["max attention L1"] = float(np.abs(got.attention - wanted.attention).sum(-1).max())
    return {name: float(f"{value:.6g}") if np.isfinite(value) else str(value) for name, value in figures.items()}


def _engine(bundle: Bundle, name: str) -> EngineFile:
    found = [engine for engine in list_engines(bundle) if engine.path.stem == name]
    if not found:
        raise CanNotRunError(f"there is no engine {name}; see its build")
    return found[0]


def _of(folder: Path, adapter: str) -> Bundle:
    if not (folder / adapter).is_dir():
        raise CanNotRunError("there is no bundle; see its export")
    return Bundle.open(folder / adapter)


def short(value: Any) -> Any:
    """Floats with four digits."""
    if isinstance(value, tuple | list):
        return [short(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


ENGINE_STEPS = (
    Step("engines", "export", 400, exports),
    *(
        Step("engines", f"{target}-{precision}", 400, engine_checks(target, precision))
        for target in Target
        for precision in PRECISIONS
    ),
    Step("engines", "beside", 120, beside),
)
