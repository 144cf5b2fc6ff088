"""Builds an engine from a bundle's graph: parse, profile, configure, build, check what was built, write it.

Precision is in the graph; the builder is told nothing about it, and what it built is read afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import time
from datetime import datetime, timezone
from typing import Any

from molre_edge import __version__
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import EngineFile, write_engine
from molre_edge.engines.cuda.driver import probe_driver
from molre_edge.engines.tensorrt.api import BuildOptions, Target, TensorRT, load_tensorrt
from molre_edge.engines.tensorrt.inspector import inspect_layers
from molre_edge.engines.tensorrt.int8 import Quantised, check_int8
from molre_edge.engines.tensorrt.known_problems import is_unfused, known_problem
from molre_edge.engines.tensorrt.layers import BuiltLayer, LayerSummary, check_precision, read_layers, unread
from molre_edge.engines.tensorrt.progress import Watch, listed, watching
from molre_edge.engines.tensorrt.timing_cache import read_timing_cache, timing_cache_path, write_timing_cache
from molre_edge.errors import EngineError
from molre_edge.progress import SILENT, Progress
from molre_edge.specs import Precision, TensorSpec

__all__ = ["build_tensorrt"]


def build_tensorrt(
    bundle: Bundle, precision: Precision, options: BuildOptions, *, progress: Progress = SILENT
) -> EngineFile:
    """Build the engine of a graph and put it into the bundle as ``engines/<target>-<precision>.engine``.

    Args:
        bundle: an open bundle.
        precision: the graph's precision.
        options: how to build.
        progress: receives progress events. An exception from it ends the build.

    Raises:
        MissingDependencyError: the library that builds for the target is not installed.
        BundleError: the bundle has no such graph, or it was altered.
        EngineError: an option does not fit, the graph can't be parsed or built, the engine is not in its precision, or
            it can't be written. The bundle is then as before.
    """
    tensorrt = load_tensorrt(options.target)
    facts = bundle.graph(precision)
    quantised = Quantised.of(bundle) if precision is Precision.INT8 else None
    graph = bundle.read(facts.file)
    target = _target(options)
    problem = known_problem(bundle, precision, tensorrt.name, tensorrt.version, target["compute_capabilities"])
    cache = timing_cache_path(bundle.folder, "".join(target["compute_capabilities"]), tensorrt.version)
    measured = read_timing_cache(cache) if options.keeps_timing_cache else b""
    start = time.perf_counter()
    progress.step(f"building the {precision} engine")
    with watching(tensorrt.module, progress) as (watch, logger, monitor):
        plan, measurements, reused = _build(tensorrt, graph, facts.inputs[0], options, watch, logger, monitor, measured)
        seconds = time.perf_counter() - start
        layers, read_from = _layers(tensorrt, plan, options, watch, logger)
    if quantised is None:
        not_checked = check_precision(layers, precision, facts.adapter_inputs)
    else:
        not_checked = check_int8(layers, quantised, lambda: _fused_in_fp16(bundle, tensorrt, options, progress))
    built = write_engine(
        bundle,
        f"{options.target}-{precision}",
        memoryview(plan),
        {
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "tool": {"molre-edge": __version__},
            "runtime": {"name": tensorrt.name, "version": tensorrt.version},
            "target": target,
            "precision": str(precision),
            "profile": {
                name: dict(zip(("min", "opt", "max"), map(list, shapes), strict=True))
                for name, shapes in _profile(facts.inputs[0], options).items()
            },
            "options": {
                "workspace_mib": options.workspace_mib,
                "optimization_level": options.optimization_level,
                "timing_cache": {"file": cache.name, "reused": reused} if measurements else None,
                "version_compatible": options.version_compatible,
            },
            "warnings": [told for told in (problem, not_checked, _still_fused(bundle, layers)) if told],
            "graph": {"file": facts.file, "sha256": hashlib.sha256(graph).hexdigest()},
            "layers": {**LayerSummary.of(layers).to_dict(), "read_from": read_from},
            "build_seconds": round(seconds, 2),
        },
    )
    if measurements:
        with contextlib.suppress(OSError):  # the engine is there, and the next build measures again
            write_timing_cache(cache, measurements)
    return built


def _layers(
    tensorrt: TensorRT, plan: Any, options: BuildOptions, watch: Watch, logger: Any
) -> tuple[tuple[BuiltLayer, ...], str]:
    """The layers as built, and their source: the inspector if there is a GPU, unless the log tells more."""
    reports = [(read_layers(watch.layers[0] if watch.layers else ""), "the builder's layer log")]
    if options.target is Target.HERE:
        inspected = inspect_layers(tensorrt, bytes(plan), logger, host_code=options.version_compatible)
        reports.insert(0, (inspected, "the engine inspector"))
    # the first of those that have any matrix product and hide the fewest layers
    return min(reports, key=lambda one: (not any(layer.is_matrix for layer in one[0]), not one[0], unread(one[0])))


def _still_fused(bundle: Bundle, layers: tuple[BuiltLayer, ...]) -> str | None:
    """A warning where an engine fuses attentions that its graph should have kept apart."""
    fused = LayerSummary.of(layers).fused_attention
    if not fused or not is_unfused(bundle):
        return None
    return f"the graph's attention is unfused, and the engine fuses {fused} attentions all the same"


def _fused_in_fp16(bundle: Bundle, tensorrt: TensorRT, options: BuildOptions, progress: Progress) -> int | None:
    """How many attentions the same builder fuses in the float16 graph; None where there is no such graph."""
    if Precision.FP16 not in bundle.graphs:
        return None
    facts = bundle.graph(Precision.FP16)
    progress.step("building the fp16 engine to compare attentions with")
    with watching(tensorrt.module, progress) as (watch, logger, monitor):
        graph = bundle.read(facts.file)
        plan, _, _ = _build(tensorrt, graph, facts.inputs[0], options, watch, logger, monitor, b"")
        layers, _ = _layers(tensorrt, plan, options, watch, logger)
    summary = LayerSummary.of(layers)
    return summary.fused_attention if summary.by_type else None


def _target(options: BuildOptions) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": str(options.target),
        "compute_capabilities": list(options.compute_capabilities) or "the library's default",
        "built_on": f"{platform.system()} {platform.machine()}",
    }
    if options.target is Target.HERE:  # TensorRT builds on the first GPU that the process may use
        gpus = probe_driver().gpus
        told["gpu"] = gpus[0].name if gpus else "unknown"
        told["compute_capabilities"] = [gpu.sm for gpu in gpus[:1]]
    return told


def _build(
    tensorrt: TensorRT,
    graph: bytes,
    volume: TensorSpec,
    options: BuildOptions,
    watch: Watch,
    logger: Any,
    monitor: Any,
    measured: bytes,
) -> tuple[Any, bytes, bool]:
    """Build, and give the serialised engine, a buffer of the library's, and what became of measurements.

    Those that are to be kept come second; whether it began with those of earlier builds comes last.
    """
    builder = _new_builder(tensorrt, logger, watch)
    network = tensorrt.new_network(builder)
    _parse(tensorrt, network, graph, logger)
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    tensorrt.set_options(config, options)
    reused = options.keeps_timing_cache and tensorrt.set_timing_cache(config, measured)
    profile = builder.create_optimization_profile()
    for name, shapes in _profile(volume, options).items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)  # None on failure; it never raises
    if watch.stopped is not None:
        raise watch.stopped
    if plan is None:
        raise EngineError(f"{tensorrt.name} could not build the engine:{listed(watch.problems)}")
    cache = config.get_timing_cache() if options.keeps_timing_cache else None
    return plan, b"" if cache is None else bytes(cache.serialize()), reused


def _new_builder(tensorrt: TensorRT, logger: Any, watch: Watch) -> Any:
    try:
        return tensorrt.module.Builder(logger)
    except (TypeError, RuntimeError) as error:  # how the bindings tell that no builder was made
        raise EngineError(
            f"{tensorrt.name} could not start; for --target here it needs an NVIDIA GPU and its driver:"
            f"{listed(watch.problems or [str(error)])}"
        ) from error


def _parse(tensorrt: TensorRT, network: Any, graph: bytes, logger: Any) -> None:
    parser = tensorrt.module.OnnxParser(network, logger)
    if parser.parse(graph):
        return
    errors = [parser.get_error(place) for place in range(parser.num_errors)]
    told = [f"{e.node_operator() or 'graph'} {e.node_name()}: {e.desc()}" for e in errors]
    raise EngineError(f"{tensorrt.name} {tensorrt.version} can't read the graph:{listed(told)}")


def _profile(volume: TensorSpec, options: BuildOptions) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Smallest, usual and largest shape of the input; only the batch varies."""
    sides = [side for side in volume.shape[1:] if side is not None]
    return {volume.name: tuple((batch, *sides) for batch in options.batch)}
