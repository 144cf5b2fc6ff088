"""The verb ``build_engine``: a bundle's graph to a TensorRT engine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import Bundle, hold_bundle
from molre_edge.engines.tensorrt.api import BuildOptions, Target
from molre_edge.engines.tensorrt.build import build_tensorrt
from molre_edge.errors import ConfigError
from molre_edge.files import StrPath
from molre_edge.progress import SILENT, Progress
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DEFAULT_BUNDLE, Precision

__all__ = ["BuiltEngine", "build_engine"]


@dataclass(frozen=True, eq=False)
class BuiltEngine:
    """The result of a build.

    Attributes:
        path: the engine, in the bundle's folder ``engines``.
        sha256: SHA-256 of the engine.
        facts: the JSON file beside the engine: target, options, and the layers as built;
            docs/reference/tensorrt.md describes it.
        warnings: known problems of this TensorRT version with this graph.
        seconds: duration of the whole call.
    """

    path: Path
    sha256: str
    facts: Mapping[str, Any]
    warnings: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge build --json`` prints it."""
        return {"engine": str(self.path), **self.facts}


def build_engine(
    bundle: Bundle | StrPath = DEFAULT_BUNDLE,
    precision: Precision | str = Precision.FP16,
    *,
    target: str = "rtx",
    batch: tuple[int, int, int] = (1, 1, 4),
    workspace_mib: int | None = None,
    optimization_level: int | None = None,
    compute_capabilities: Sequence[str] = (),
    timing_cache: bool | None = None,
    version_compatible: bool = False,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    progress: Progress = SILENT,
) -> BuiltEngine:
    """Build a TensorRT engine from a bundle's graph, and report the precision of its layers as built.

    The engine is written to the bundle's folder ``engines``, where ``infer`` finds it. If the build fails, the bundle
    is unchanged.

    Args:
        bundle: the bundle's folder, or an open bundle.
        precision: the graph to build from: ``fp32``, ``fp16``, ``int8`` or ``fp8``.
        target: ``rtx`` for a portable engine, built without a GPU; ``here`` for this machine's GPU.
        batch: the smallest, usual and largest number of volumes per call.
        workspace_mib: the most scratch memory on the GPU, in MiB; None for the library's default.
        optimization_level: 0 (quick) to 5 (thorough); None for the library's default.
        compute_capabilities: such as ``sm86``; only for the target ``rtx``.
        timing_cache: keep the builder's measurements in the bundle; None for the target's default.
        version_compatible: allow newer versions of TensorRT to run the engine; only for the target ``here``.
        expect_digest: refuse a bundle with another digest.
        trust: public keys (``.pub`` files of minisign), one of which must have signed the bundle's release; None for
            those that are configured on this machine.
        progress: receives progress events.

    Raises:
        ConfigError: `precision` or `target` is unknown.
        MissingDependencyError: the library that builds for the target is not installed.
        BundleError: the bundle can't be opened, has another digest, has no such graph, or is altered.
        InUseError: another process writes the bundle.
        EngineError: an option does not fit, the graph can't be read or built, the engine does not have its precision,
            or it can't be written.
    """
    start = time.perf_counter()
    try:
        wanted, kind = Precision(precision), Target(target)
    except ValueError as error:
        raise ConfigError(
            f"{error}; expected a precision of {', '.join(Precision)} and a target of {', '.join(Target)}"
        ) from error
    options = BuildOptions(
        target=kind,
        batch=batch,
        workspace_mib=workspace_mib,
        optimization_level=optimization_level,
        compute_capabilities=tuple(compute_capabilities),
        timing_cache=timing_cache,
        version_compatible=version_compatible,
    )
    opened = Bundle.of(bundle, expect_digest=expect_digest, trust=trust_of(trust))
    with hold_bundle(opened, "molre-edge build"):
        engine = build_tensorrt(opened, wanted, options, progress=progress)
    seconds = round(time.perf_counter() - start, 3)
    return BuiltEngine(engine.path, engine.sha256, engine.facts, tuple(engine.facts["warnings"]), seconds)
