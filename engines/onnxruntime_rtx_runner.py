"""ONNX Runtime with NVIDIA's TensorRT-RTX plug-in: RTX GPUs without an engine file and without pycuda.

The plug-in is a library that ONNX Runtime loads (1.24 or newer). It compiles the bundle's graph when it is loaded, and
keeps what it compiled. All of the graph runs on the GPU or nothing: falling back to the CPU is switched off, and which
provider took each node is asked afterwards.

Sources: tensorrt_rtx_provider_options.h and README.txt in the plug-in's package; ONNX Runtime's "Plugin Execution
Provider Libraries" and its list of session options.
"""

from __future__ import annotations

import importlib
from types import TracebackType
from typing import Any

from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.cuda.driver import DriverProbe, Gpu, probe_driver
from molre_edge.engines.kernel_cache import KernelCache
from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
from molre_edge.engines.runner import one_line
from molre_edge.engines.tensorrt.api import version_numbers
from molre_edge.errors import EngineError, MissingDependencyError
from molre_edge.specs import Precision

__all__ = ["PLUG_IN", "PLUG_IN_PACKAGE", "OnnxRuntimeRtxRunner", "why_no_plug_in"]

PLUG_IN = "onnxruntime_ep_nv_tensorrt_rtx"
"""The plug-in's module."""
PLUG_IN_PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
"""Its package."""

_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_RECORD_PROVIDERS = "session.record_ep_graph_assignment_info"
_OLDEST_RUNTIME = (1, 24)
_OLDEST_CUDA = (13, 0)
_CAPABILITIES = {(8, 6), (8, 9)}
"""GPUs that the plug-in takes; and all from 12.0 on."""
_CAPABILITIES_FROM = (12, 0)


class OnnxRuntimeRtxRunner(OnnxRuntimeRunner):
    """Runs one graph on the first RTX GPU, all of it.

    Attributes:
        name: ``onnxruntime-rtx:<precision>``.
        precision: of the graph.
    """

    def __init__(
        self,
        graph: bytes,
        precision: Precision,
        *,
        bundle: Bundle,
        threads: int | None = None,
        adapter: Tensors | None = None,
    ) -> None:
        """Take a graph; nothing is loaded before the block is entered.

        Args:
            graph: a serialised ONNX model, already checked against its hash.
            precision: its precision, for the name.
            bundle: keeps what the plug-in compiles.
            threads: as of ONNX Runtime on the CPU; the GPU does not need them.
            adapter: the trained tensors of a graph that takes them as inputs; :meth:`use_adapter` may give them later.
        """
        super().__init__(graph, precision, threads=threads, adapter=adapter)
        self.name = f"onnxruntime-rtx:{precision}"
        self._bundle = bundle
        self._cache: KernelCache | None = None
        self._gpu = self._version = ""

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, precision: Precision, *, threads: int | None = None, adapter: Tensors | None = None
    ) -> OnnxRuntimeRtxRunner:
        """The runner of a bundle's graph, its hash checked.

        Raises:
            BundleError: no such graph, or an altered one.
        """
        graph = bundle.read(bundle.graph(precision).file)
        return cls(graph, precision, bundle=bundle, threads=threads, adapter=adapter)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the session, which writes what the plug-in compiled, and list that."""
        super().__exit__(kind, error, trace)
        if self._cache is not None:
            self._cache.close()

    @property
    def facts(self) -> dict[str, Any]:
        """Runtime, plug-in, GPU and mode."""
        common = super().facts
        return {
            "runtime": "ONNX Runtime with TensorRT-RTX",
            "version": common["version"],
            "plug_in": self._version,
            "device": self._gpu,
            "threads": common["threads"],
            "cpu_fallback": False,
        }

    def _open_session(self, ort: Any, options: Any) -> Any:
        """A session whose nodes are all on the GPU.

        Raises:
            EngineError: the plug-in can't be used on this machine, or does not take all of the graph.
            MissingDependencyError: it is not installed.
        """
        probe = probe_driver()
        reason = why_no_plug_in(ort.__version__, probe)
        if reason is not None:
            raise EngineError(f"{self.name}: {reason}. {_instead(self.precision)}")
        plug_in = _register(ort)
        provider, self._version, self._gpu = plug_in.get_ep_name(), plug_in.__version__, str(probe.gpus[0])
        devices = [device for device in ort.get_ep_devices() if device.ep_name == provider]
        if not devices:
            raise EngineError(
                f"{self.name}: the plug-in is loaded and finds no GPU that it can use, though the driver names "
                f"{probe.gpus[0]}. Update NVIDIA's driver (580 or newer). {_instead(self.precision)}"
            )
        options.add_session_config_entry(_NO_FALLBACK, "1")
        options.add_session_config_entry(_RECORD_PROVIDERS, "1")
        options.add_provider_for_devices(devices[:1], self._provider_options(probe.gpus[0]))
        # its Python class has a fallback of its own, at loading and at running, which only prints
        session = ort.InferenceSession(self._graph, options, enable_fallback=0)
        elsewhere = {part.ep_name for part in session.get_provider_graph_assignment_info()} - {provider}
        if elsewhere:
            raise EngineError(
                f"{self.name}: parts of the graph would run on {', '.join(sorted(elsewhere))}, though that was "
                f"switched off. Expected all of it on {provider}. {_instead(self.precision)}"
            )
        return session

    def _provider_options(self, gpu: Gpu) -> dict[str, str]:
        if self._bundle.trust:  # kernels are code, and a signed release does not cover what lies in its folder
            return {}
        self._cache = KernelCache(self._bundle.folder, self.precision, gpu.name, self._version)
        folder = self._cache.open()
        if folder is None:
            self._cache = None
            return {}
        return {"nv_runtime_cache_path": str(folder)}


def why_no_plug_in(runtime: str, probe: DriverProbe) -> str | None:
    """Why the plug-in can't run on this machine; None if it can. The plug-in itself is not loaded.

    Args:
        runtime: version of ONNX Runtime.
        probe: what the driver says.
    """
    if version_numbers(runtime)[:2] < _OLDEST_RUNTIME:
        return (
            f"ONNX Runtime {runtime} can't load plug-ins of this kind: pip install 'onnxruntime>=1.24', which needs "
            "Python 3.11 or newer"
        )
    if probe.problem is not None:
        return probe.problem
    gpu = probe.gpus[0]
    if gpu.compute_capability not in _CAPABILITIES and gpu.compute_capability < _CAPABILITIES_FROM:
        return f"the plug-in does not support the {gpu}; expected sm86, sm89, or sm120 and newer"
    if probe.cuda is not None and version_numbers(probe.cuda) < _OLDEST_CUDA:
        return f"the driver can run CUDA up to {probe.cuda}, and the plug-in needs 13.0: update NVIDIA's driver"
    return None


def _register(ort: Any) -> Any:
    """Load the plug-in into ONNX Runtime, once for the process; returns its module.

    Raises:
        EngineError: it can't be loaded.
        MissingDependencyError: it is not installed.
    """
    try:
        plug_in = importlib.import_module(PLUG_IN)
    except ImportError as error:
        raise MissingDependencyError("ONNX Runtime on an RTX GPU", PLUG_IN_PACKAGE, "ort-rtx") from error
    try:
        ort.register_execution_provider_library(plug_in.get_ep_name(), plug_in.get_library_path())
    except Exception as error:  # ONNX Runtime's errors have no common base
        if "already registered" not in str(error):
            raise EngineError(
                f"ONNX Runtime {ort.__version__} can't load the TensorRT-RTX plug-in: {one_line(error)}. Install both "
                f"again: pip install --force-reinstall 'molre-edge[ort-rtx]'"
            ) from error
    return plug_in


def _instead(precision: Precision) -> str:
    return f"Use onnxruntime:{precision} on this machine"
