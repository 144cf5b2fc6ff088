"""What a benchmark measures: the runners of a bundle, and the volumes that they answer."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.benchmarking.measure import PLAIN, Candidate
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import list_engines
from molre_edge.engines.choice import choose_engine, parse_engine
from molre_edge.engines.onnxruntime_rtx_runner import PLUG_IN
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.tensorrt.fit import BuiltFor
from molre_edge.engines.tensorrt.runner import RUNTIMES
from molre_edge.errors import BundleError, RunError, ScanError
from molre_edge.progress import Progress
from molre_edge.runs.reference import find_checkpoint
from molre_edge.scans.workers.finder import find_apart
from molre_edge.scans.workers.prepare import prepare
from molre_edge.specs import Precision

__all__ = ["all_engines", "find_candidates", "find_volumes"]

_MIN_VOLUMES = 8
"""Read at least so many scans, if there are so many, so that rounds do not repeat one volume."""
_OPTIONAL = {"onnxruntime-rtx": PLUG_IN, "openvino": "openvino"}
"""Runtimes that run the bundle's graphs if their module is installed."""


def all_engines(bundle: Bundle) -> list[str]:
    """A word for each runner of the bundle: its graphs on ONNX Runtime and what is installed beside it; its engines."""
    runtimes = ["onnxruntime", *(name for name, module in _OPTIONAL.items() if importlib.util.find_spec(module))]
    words = [f"{runtime}:{precision}" for runtime in runtimes for precision in bundle.graphs]
    try:
        built = [BuiltFor.of(engine) for engine in list_engines(bundle)]
    except BundleError:  # 'verify' and 'inspect' report it
        built = []
    return list(dict.fromkeys([*words, *(f"{RUNTIMES[str(each.target)]}:{each.precision}" for each in built)]))


def find_candidates(
    bundle: Bundle,
    words: Sequence[str] | None,
    *,
    plain: Path | None,
    backbone_weights: Path | None,
    threads: int | None,
    progress: Progress,
) -> list[Candidate]:
    """The runners to measure.

    Args:
        bundle: an open bundle.
        words: the engines that the user named; None for all that the bundle offers.
        plain: the bundle's checkpoint, to export the model without its adapters; None to leave that out.
        backbone_weights: the Hugging Face folder, for a checkpoint without them.
        threads: CPU threads of ONNX Runtime and OpenVINO.
        progress: receives progress events.

    Raises:
        EngineError: a word names no engine.
        MissingDependencyError: `plain` is given, and torch or another library of the extra ``export`` is missing.
    """
    wanted = {word: parse_engine(word) for word in words or all_engines(bundle)}
    candidates = []
    for word, (runtime, _) in wanted.items():
        checkpoint = plain or find_checkpoint(bundle) if runtime == "torch" else None
        choose = partial(
            choose_engine, word, bundle, checkpoint=checkpoint, backbone_weights=backbone_weights, threads=threads
        )
        candidates.append(Candidate(word, lambda choose=choose: choose().runner, named=words is not None))  # type: ignore[misc]
    if plain is not None:
        from molre_edge.export.plain import plain_graphs

        progress.step("exporting the model without its adapters")
        precisions = {precision for _, precision in wanted.values()} & {Precision.FP32, Precision.FP16}
        for precision, graph in plain_graphs(plain, precisions, backbone_weights=backbone_weights).items():
            name = f"{PLAIN}{precision}"
            candidates.append(
                Candidate(name, partial(OnnxRuntimeRunner, graph, precision, threads=threads), named=True)
            )
    return candidates


def find_volumes(
    bundle: Bundle, scans: Path | None, most: int, progress: Progress
) -> tuple[npt.NDArray[np.float16], str]:
    """The volumes to run, and a description of them.

    Args:
        bundle: an open bundle.
        scans: a file or folder of scans; None for the golden volumes.
        most: the largest batch.
        progress: receives a warning for each scan that is unusable.

    Returns:
        float16 HU [n, slices, rows, cols], and words such as ``8 scans``.

    Raises:
        RunError: no scan is usable.
    """
    if scans is None:
        volumes = bundle.golden().volumes
        return volumes, f"{len(volumes)} golden volumes"
    read: list[npt.NDArray[np.float16]] = []
    for number, source in enumerate(find_apart(scans).scans, start=1):
        prepared = prepare(source, bundle.grid)
        if isinstance(prepared, ScanError):
            progress.warn(f"scan-{number:04d} can't be used: {prepared}")
        else:
            read.append(prepared.volume)
        if len(read) >= max(most, _MIN_VOLUMES):
            break
    if not read:
        raise RunError(f"{scans}: no scan is usable; 'molre-edge inspect' lists the reasons")
    return np.stack(read), f"{len(read)} scans"
