"""All that differs between TensorRT (10.3 to 11.x) and TensorRT-RTX when an engine is built.

The rest of the code uses only names that both have, and looks flags up by name: their integers differ between versions.
"""

from __future__ import annotations

import importlib
import platform
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from molre_edge.errors import EngineError, MissingDependencyError

if TYPE_CHECKING:
    from molre_edge.engines.tensorrt.timing_cache import RuntimeCache
    from molre_edge.engines.tensorrt.types import Builder, IBuilderConfig, ICudaEngine, IExecutionContext, Library

__all__ = ["BuildOptions", "Target", "TensorRT", "load_tensorrt", "version_is_known", "version_numbers"]

MAX_BATCH = 256
MIN_WORKSPACE_MIB = 16
OPTIMIZATION_LEVELS = range(6)


class Target(str, Enum):
    """Where an engine is to run, and so which library builds it."""

    RTX = "rtx"
    """TensorRT-RTX: portable to GPUs of several compute capabilities; built on any x86-64 machine, with no GPU."""
    HERE = "here"
    """TensorRT: for the GPU of the machine that builds it."""

    def __str__(self) -> str:
        """The word used on the command line and in file names."""
        return self.value


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build.

    Attributes:
        target: where the engine is to run.
        batch: smallest, usual and largest number of volumes; the engine is tuned for the usual one.
        workspace_mib: most scratch memory of a layer on the GPU, in MiB; None leaves it to the library.
        optimization_level: 0 (quick build) to 5 (long search); None is the library's default.
        compute_capabilities: such as ``sm86``; none is the library's default list. TensorRT-RTX only.
        timing_cache: keep the builder's measurements in the bundle for the next build. None does where it is possible.
            TensorRT only, as is the next.
        version_compatible: newer versions of the library may run the engine; such an engine holds code for the host.
    """

    target: Target = Target.RTX
    batch: tuple[int, int, int] = (1, 1, 4)
    workspace_mib: int | None = None
    optimization_level: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    timing_cache: bool | None = None
    version_compatible: bool = False

    def __post_init__(self) -> None:
        """Refuse by name what is out of range and what the target's library can't do."""
        low, usual, high = self.batch
        if not 1 <= low <= usual <= high <= MAX_BATCH:
            raise EngineError(
                f"--batch {low} {usual} {high}: expected 1 <= smallest <= usual <= largest <= {MAX_BATCH} volumes"
            )
        if self.workspace_mib is not None and self.workspace_mib < MIN_WORKSPACE_MIB:
            raise EngineError(f"--workspace {self.workspace_mib}: expected at least {MIN_WORKSPACE_MIB} MiB")
        if self.optimization_level is not None and self.optimization_level not in OPTIMIZATION_LEVELS:
            raise EngineError(f"--optimization-level {self.optimization_level}: expected 0 to 5")
        if self.compute_capabilities and self.target is Target.HERE:
            raise EngineError(
                "--compute-capability: TensorRT builds for the GPU of this machine only; leave the option out, or "
                "build with --target rtx"
            )
        if self.target is Target.RTX:
            self._refuse_for_rtx()

    def _refuse_for_rtx(self) -> None:
        for option, asked, why in (
            ("--timing-cache", self.timing_cache, "TensorRT-RTX measures nothing when it builds, so it has none"),
            ("--version-compatible", self.version_compatible, "TensorRT-RTX has no such engines without a GPU"),
        ):
            if asked:
                raise EngineError(f"{option}: {why}; leave the option out, or build with --target here")

    @property
    def keeps_timing_cache(self) -> bool:
        """Whether measurements are kept in the bundle."""
        return self.target is Target.HERE and self.timing_cache is not False


@dataclass(frozen=True)
class TensorRT:
    """One of the two libraries, imported.

    Attributes:
        module: ``tensorrt`` or ``tensorrt_rtx``.
        name: ``TensorRT`` or ``TensorRT-RTX``.
        version: as the library tells it.
    """

    module: Library
    name: str
    version: str

    def new_network(self, builder: Builder) -> Any:
        """An empty, strongly typed network: the only kind in TensorRT 11 and RTX, on request in 10."""
        return builder.create_network(1 << int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))

    def set_options(self, config: Any, options: BuildOptions) -> None:
        """Bring options into a builder's configuration.

        Raises:
            EngineError: a compute capability that this version does not know.
        """
        trt = self.module
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the layer log has names only
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and not float32
        if options.workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        flags: Any = trt.BuilderFlag
        if hasattr(flags, "REQUIRE_USER_ALLOCATION"):  # TensorRT-RTX: an engine that takes memory makes no CUDA graph
            config.set_flag(flags.REQUIRE_USER_ALLOCATION)
        if options.compute_capabilities:
            wanted = [self._capability(word) for word in options.compute_capabilities]
            config.num_compute_capabilities = len(wanted)
            for place, capability in enumerate(wanted):
                config.set_compute_capability(capability, place)

    def set_timing_cache(self, config: IBuilderConfig, measured: bytes) -> bool:
        """Let the builder begin with earlier measurements, or with none. Whether it took them.

        Measurements of another GPU or version are refused; then, too, there is a cache for the new ones.
        """
        for content in [measured, b""] if measured else [b""]:
            cache = config.create_timing_cache(content)  # None where it can't be read
            if cache is not None and config.set_timing_cache(cache, False):
                return bool(content)
        return False

    def new_context(self, engine: ICudaEngine, cache: RuntimeCache | None = None) -> IExecutionContext | None:
        """An execution context whose scratch memory the caller gives; None on failure. `cache` is TensorRT-RTX's alone.

        TensorRT-RTX compiles kernels for a shape beside the work by default: a graph captured meanwhile would hold the
        slow ones for good. So it is told to wait for them.
        """
        trt: Any = self.module  # the names that TensorRT-RTX alone has among them
        by_us = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            return engine.create_execution_context(by_us)
        rtx: Any = engine
        config = rtx.create_runtime_config()
        config.set_execution_context_allocation_strategy(by_us)
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        if cache is not None:
            cache.join(config)
        return engine.create_execution_context(config)

    def _capability(self, word: str) -> Any:
        rtx: Any = self.module
        known = {name.lower(): one for name, one in rtx.ComputeCapability.__members__.items()}
        known = {name: one for name, one in known.items() if name.startswith("sm")}  # not NONE and CURRENT
        if word.lower() not in known:
            raise EngineError(
                f"--compute-capability {word}: {self.name} {self.version} builds for {', '.join(known)}. Other GPUs "
                f"need an engine of TensorRT: --target here, on the machine itself"
            )
        return known[word.lower()]


@dataclass(frozen=True)
class _Library:
    module: str
    name: str
    extra: str
    first: tuple[int, int]
    below: int  # major version


_LIBRARIES = {
    Target.RTX: _Library("tensorrt_rtx", "TensorRT-RTX", "rtx", (1, 7), 2),
    Target.HERE: _Library("tensorrt", "TensorRT", "tensorrt", (10, 3), 12),
}


def load_tensorrt(target: Target, *, feature: str | None = None) -> TensorRT:
    """Import the library that builds and runs engines of a target.

    Args:
        target: of the engine.
        feature: what needs it, as the start of a sentence.

    Raises:
        MissingDependencyError: it is not installed.
        EngineError: it is installed and can't be loaded, or is of a version that this project does not know.
    """
    library = _LIBRARIES[target]
    try:
        module = importlib.import_module(library.module)
    except ModuleNotFoundError as error:
        feature = feature or f"Building an engine for '{target}'"
        if target is Target.HERE and platform.machine() == "aarch64":
            raise EngineError(
                f"{feature} needs {library.module}, which comes with JetPack and not from a package index: sudo apt "
                f"install python3-libnvinfer, and an environment with --system-site-packages (docs/guides/jetson.md)"
            ) from error
        raise MissingDependencyError(feature, library.module, library.extra) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"{library.name} is installed and can't be loaded ({error}); install it again: "
            f"pip install --force-reinstall 'molre-edge[{library.extra}]'"
        ) from error
    version = str(module.__version__)
    if not version_is_known(target, version):
        first = ".".join(map(str, library.first))
        raise EngineError(
            f"{library.name} {version}: expected {first} or newer, below {library.below}; install such a version, on a "
            f"Jetson with its JetPack"
        )
    return TensorRT(module, library.name, version)


def version_is_known(target: Target, version: str) -> bool:
    """Whether this project knows a version of a target's library."""
    library = _LIBRARIES[target]
    return library.first <= version_numbers(version)[:2] < (library.below, 0)


def version_numbers(version: str) -> tuple[int, ...]:
    """A version to compare with others: ``10.16.1.11`` as (10, 16, 1, 11)."""
    return tuple(int(number) for number in re.findall(r"\d+", version))
