"""Whether a bundle's engine fits a machine: asked before anything heavy is loaded, and told in a sentence."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import EngineFile
from molre_edge.engines.cuda.device import why_no_backend
from molre_edge.engines.cuda.driver import DriverProbe, Gpu
from molre_edge.engines.tensorrt.api import Target, load_tensorrt, version_numbers
from molre_edge.errors import BundleError, MolreEdgeError
from molre_edge.specs import Precision

__all__ = ["RTX_CAPABILITIES", "RTX_DEFAULT", "BuiltFor", "here", "why_not_gpu", "why_not_here", "why_not_version"]

RTX_CAPABILITIES = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""All that TensorRT-RTX 1.7 can build for."""
RTX_DEFAULT = ("sm80", "sm86", "sm89", "sm120", "sm121")
"""What TensorRT-RTX 1.7 builds for when nothing is asked for; and all newer ones."""
_RTX_DEFAULT_FROM = (12, 0)


@dataclass(frozen=True)
class BuiltFor:
    """What an engine's JSON says that it was built for.

    Attributes:
        target: which library it needs.
        precision: what it is named for.
        version: of the library that built it.
        capabilities: compute capabilities; None is TensorRT-RTX's default list.
        built_on: operating system and processor, such as ``Linux x86_64``.
        version_compatible: whether newer versions of the library may run it.
    """

    target: Target
    precision: Precision
    version: str
    capabilities: frozenset[tuple[int, int]] | None
    built_on: str
    version_compatible: bool

    @classmethod
    def of(cls, engine: EngineFile) -> BuiltFor:
        """Read it.

        Raises:
            BundleError: the JSON lacks something, or says what no build writes.
        """
        try:
            facts: Mapping[str, Any] = engine.facts
            words = facts["target"]["compute_capabilities"]
            return cls(
                Target(facts["target"]["name"]),
                Precision(facts["precision"]),
                str(facts["runtime"]["version"]),
                frozenset(map(_capability, words)) if isinstance(words, list) else None,
                str(facts["target"]["built_on"]),
                bool(facts["options"].get("version_compatible", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"{engine.path.with_suffix('.json')}: does not name the engine's target "
                f"({str(error)[:200]}); "
                f"build it again with 'molre-edge build'"
            ) from error


def _capability(word: str) -> tuple[int, int]:
    found = re.fullmatch(r"sm(\d+)(\d)", word)
    if found is None:
        raise ValueError(f"compute capability {word!r}")
    return int(found[1]), int(found[2])


def why_not_here(engine: EngineFile, bundle: Bundle, probe: DriverProbe) -> str | None:
    """Why an engine can't run on this machine; None where it can. Its own hash is compared when it is read.

    The library is imported only where driver and GPU are right, and so it would be used.

    Raises:
        BundleError: the engine's JSON does not say what it was built for.
    """
    built = BuiltFor.of(engine)
    if bundle.manifest["files"].get(engine.graph) != engine.graph_sha256:
        return f"it was built from another {engine.graph} than this bundle's; build it again"
    if probe.problem is not None:
        return probe.problem
    if (reason := why_not_gpu(built, probe.gpus[0])) is not None:
        return reason
    try:
        tensorrt = load_tensorrt(built.target, feature="Running it")
    except MolreEdgeError as error:
        return str(error)
    return why_not_version(built, tensorrt.name, tensorrt.version) or why_no_backend(probe)


def why_not_gpu(built: BuiltFor, gpu: Gpu) -> str | None:
    """Why an engine was not built for a GPU; None where it was."""
    mine = gpu.compute_capability
    if built.capabilities is None:
        fits = gpu.sm in RTX_DEFAULT or mine >= _RTX_DEFAULT_FROM
        names = "sm80, sm86, sm89, sm120 and newer"
    else:
        fits = mine in built.capabilities
        names = ", ".join("sm{}{}".format(*pair) for pair in sorted(built.capabilities)) or "no GPU that its JSON names"
    if not fits:
        return f"it was built for {names}, and the GPU here is {gpu}; {_again(built.target, gpu)}"
    if built.target is Target.HERE and built.built_on != here():
        return f"it was built on {built.built_on}, and this is {here()}; build it again here"
    return None


def why_not_version(built: BuiltFor, name: str, version: str) -> str | None:
    """Why an engine does not fit a version of its library; None where it does."""
    if version == built.version:
        return None
    if built.version_compatible and version_numbers(version) >= version_numbers(built.version):
        return None
    return f"it was built by {name} {built.version}, and {version} is installed; build it again"


def here() -> str:
    """Operating system and processor, as an engine's JSON names them."""
    return f"{platform.system()} {platform.machine()}"


def _again(target: Target, gpu: Gpu) -> str:
    if target is Target.RTX and gpu.sm not in RTX_CAPABILITIES and gpu.compute_capability < _RTX_DEFAULT_FROM:
        return "TensorRT-RTX has nothing for this GPU: build one with --target here on this machine"
    if target is Target.RTX:
        return f"build it again with --compute-capability {gpu.sm}, or with --target here on this machine"
    return "build it again on this machine"
