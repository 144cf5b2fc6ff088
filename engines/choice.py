"""Chooses the runner that a word such as ``fp16`` means on this machine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import EngineFile, list_engines
from molre_edge.engines.adapted import AdaptedRunner, fitted_for
from molre_edge.engines.cuda.driver import DriverProbe, probe_driver
from molre_edge.engines.onnxruntime_rtx_runner import OnnxRuntimeRtxRunner
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.openvino_runner import OpenVinoRunner
from molre_edge.engines.runner import Runner
from molre_edge.engines.tensorrt.fit import BuiltFor, why_not_here
from molre_edge.engines.tensorrt.known_problems import known_problem
from molre_edge.engines.tensorrt.runner import RUNTIMES, TensorRTRunner
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import BundleError, EngineError, SigningError
from molre_edge.specs import Precision, parse_engine

__all__ = ["EngineChoice", "choose_engine", "parse_engine", "ready_engines"]


@dataclass(frozen=True)
class EngineChoice:
    """A runner that is not entered yet, and why it was chosen."""

    runner: Runner
    why: str


def choose_engine(
    word: str,
    bundle: Bundle,
    *,
    checkpoint: Path | None = None,
    backbone_weights: Path | None = None,
    threads: int | None = None,
) -> EngineChoice:
    """The runner that a word means.

    A precision alone chooses a TensorRT engine of the bundle that fits this machine, else ONNX Runtime.

    Args:
        word: see :func:`parse_engine`.
        bundle: an open bundle, with an adapter chosen if its graphs take one (:meth:`Bundle.select`).
        checkpoint: the PyTorch model's file, for ``torch``.
        backbone_weights: the Hugging Face folder, if the checkpoint does not contain the backbone's weights.
        threads: CPU threads of ONNX Runtime and OpenVINO.

    Raises:
        UsageError: an unknown word.
        EngineError: ``torch`` has no checkpoint, or a TensorRT engine was forced and can't run.
        BundleError: the bundle has no graph of that precision.
        AdapterError: the graphs take adapters, and none was chosen, or it does not fit.
    """
    choice = _choose(word, bundle, checkpoint, backbone_weights, threads)
    if bundle.fit is None or choice.runner.name.startswith("torch"):
        return choice
    return replace(choice, runner=AdaptedRunner(choice.runner, fitted_for(bundle, choice.runner)))


def _choose(
    word: str, bundle: Bundle, checkpoint: Path | None, backbone_weights: Path | None, threads: int | None
) -> EngineChoice:
    runtime, precision = parse_engine(word)
    if runtime == "torch":
        if checkpoint is None:
            raise EngineError(
                "--engine torch needs the checkpoint that the bundle was exported from. Put it beside the bundle, or "
                "name it with --reference"
            )
        return EngineChoice(TorchRunner.from_checkpoint(checkpoint, backbone_weights=backbone_weights), "asked for")
    if runtime == "onnxruntime":
        return EngineChoice(OnnxRuntimeRunner.from_bundle(bundle, precision, threads=threads), "asked for")
    if runtime == "onnxruntime-rtx":
        return EngineChoice(OnnxRuntimeRtxRunner.from_bundle(bundle, precision, threads=threads), "asked for")
    if runtime == "openvino":
        return EngineChoice(OpenVinoRunner.from_bundle(bundle, precision, threads=threads), "asked for")
    bundle.graph(precision)
    found = _find_tensorrt(bundle, precision, runtime, probe_driver())
    if isinstance(found, EngineChoice):
        return found
    if runtime is not None:
        raise EngineError(f"--engine {word}: {found}")
    runner = OnnxRuntimeRunner.from_bundle(bundle, precision, threads=threads)
    return EngineChoice(runner, f"ONNX Runtime on the {precision} graph: {found}")


def ready_engines(bundle: Bundle) -> list[str]:
    """A word for each runner that a precision alone may choose here: the graphs on ONNX Runtime, and engines that fit.

    Engines that can't be read are left out: 'verify' and 'inspect' report them.
    """
    words = [f"onnxruntime:{precision}" for precision in bundle.graphs]
    probe = probe_driver()
    with contextlib.suppress(BundleError):
        for engine in list_engines(bundle):
            with contextlib.suppress(BundleError, EngineError, SigningError):
                built = BuiltFor.of(engine)
                if why_not_here(engine, bundle, probe) is None:
                    words.append(f"{RUNTIMES[str(built.target)]}:{built.precision}")
    return list(dict.fromkeys(words))


def _find_tensorrt(bundle: Bundle, precision: Precision, runtime: str | None, probe: DriverProbe) -> EngineChoice | str:
    """The first engine that fits, or why none does. Engines built for this GPU come before portable ones."""
    reasons = []
    try:
        engines = [engine for engine in list_engines(bundle) if BuiltFor.of(engine).precision is precision]
    except BundleError as error:
        return str(error)
    for engine in sorted(engines, key=lambda engine: list(RUNTIMES).index(str(BuiltFor.of(engine).target))):
        if runtime is not None and RUNTIMES[str(BuiltFor.of(engine).target)] != runtime:
            continue
        try:
            reason = why_not_here(engine, bundle, probe)
            if reason is None:
                runner = TensorRTRunner.from_bundle(bundle, engine)
                return EngineChoice(runner, _why(engine, bundle, probe, forced=runtime is not None))
        except (BundleError, EngineError, SigningError) as error:
            reason = str(error)
        reasons.append(f"{engine.path.name} can't run here: {reason}")
    if reasons:
        return "; ".join(reasons)
    if runtime is None and probe.problem:
        return probe.problem  # no engine could run
    kind = f"{runtime} {precision}" if runtime else f"TensorRT {precision}"
    target = "here" if runtime == "tensorrt" else "rtx"
    driver = f", and {probe.problem}" if probe.problem else ""
    return (
        f"the bundle has no {kind} engine ('molre-edge build --engine {precision} --target {target}' makes one){driver}"
    )


def _why(engine: EngineFile, bundle: Bundle, probe: DriverProbe, *, forced: bool) -> str:
    asked, built = "asked for; " if forced else "", BuiltFor.of(engine)
    library = str(engine.facts["runtime"].get("name"))
    problem = known_problem(bundle, built.precision, library, built.version, [probe.gpus[0].sm])
    warning = f"; but {problem}" if problem else ""
    return f"{asked}{engine.path.name} fits the {probe.gpus[0]} of this machine{warning}"
