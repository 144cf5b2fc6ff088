"""ONNX Runtime: the runner that works everywhere, and the judge of every graph before an engine is built from it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.runner import RunResult, are_inputs, check_volume, fitting_adapter, no_adapter, one_line
from molre_edge.errors import EngineError, MissingDependencyError, MolreEdgeError
from molre_edge.machine import usable_cores
from molre_edge.parity import Outputs
from molre_edge.specs import VOLUME, Precision, TensorSpec

__all__ = ["OnnxRuntimeRunner"]

_EXACT_INT8 = "session.x64quantprecision"


class OnnxRuntimeRunner:
    """Runs one graph with ONNX Runtime on the CPU, or on an NVIDIA GPU where the installed build has CUDA.

    Attributes:
        name: ``onnxruntime:<precision>``.
        precision: of the graph.
    """

    def __init__(
        self,
        graph: bytes,
        precision: Precision,
        *,
        threads: int | None = None,
        optimise: bool = True,
        cpu_only: bool = False,
        adapter: Tensors | None = None,
    ) -> None:
        """Take a graph; nothing is loaded before the block is entered.

        Args:
            graph: a serialised ONNX model, already checked against its hash.
            precision: its precision, for the name.
            threads: intra-operator threads; None takes the cores that this process may use.
            cpu_only: leave a GPU alone, even where ONNX Runtime could use it.
            optimise: False runs the graph node by node as it is written (export's rounding check needs that).
            adapter: the trained tensors of a graph that takes them as inputs; :meth:`use_adapter` may give them later.
        """
        self.name = f"onnxruntime:{precision}"
        self.precision = precision
        self._graph, self._optimise = graph, optimise
        self._wanted = ("CPUExecutionProvider",) if cpu_only else ("CUDAExecutionProvider", "CPUExecutionProvider")
        self._threads = threads or usable_cores()
        self._session: Any = None
        self._adapter, self._trained = adapter, dict[str, Any]()  # given at first; values on the device

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, precision: Precision, *, threads: int | None = None, adapter: Tensors | None = None
    ) -> OnnxRuntimeRunner:
        """The runner of a bundle's graph, its hash checked.

        Raises:
            BundleError: no such graph, or an altered one.
        """
        return cls(bundle.read(bundle.graph(precision).file), precision, threads=threads, adapter=adapter)

    def __enter__(self) -> OnnxRuntimeRunner:
        """Load the graph.

        Raises:
            EngineError: ONNX Runtime can't load it, it is not one of ours, or the runner was used before.
            MissingDependencyError: ONNX Runtime is not installed.
        """
        if not self._graph:
            raise EngineError(f"{self.name} was closed and can't be used again. Create a new runner")
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingDependencyError("Running a graph", "onnxruntime", "export") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised; they need not be printed as well
        if self.precision is Precision.INT8:  # without VNNI, the faster kernels of an x86 CPU saturate
            options.add_session_config_entry(_EXACT_INT8, "1")
        if not self._optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = self._open_session(ort, options)
        except MolreEdgeError:  # a runtime of this kind can't be used here
            raise
        except Exception as error:  # ONNX Runtime's errors have no common base
            if "pthread_create" in str(error):
                raise EngineError(
                    f"ONNX Runtime can't start its {self._threads} threads: allow this user, service or container "
                    f"more of them (ulimit -u, TasksMax=, --pids-limit), or use fewer with --threads"
                ) from error
            raise EngineError(
                f"ONNX Runtime {ort.__version__} can't load the {self.precision} graph: {one_line(error)}. Install the "
                f"version named in the bundle's manifest, or export the checkpoint again"
            ) from error
        names = {value.name for value in session.get_outputs()}
        if not {"logits", "embedding"} <= names or not are_inputs([value.name for value in session.get_inputs()]):
            raise EngineError(
                f"{self.name}: the graph's outputs are {', '.join(sorted(names))}. Expected "
                "those of a bundle: export the checkpoint again"
            )
        self._graph = b""  # the session has its own copy
        self._session = session
        if self._adapter is not None:
            self.use_adapter(self._adapter)
        return self

    def _open_session(self, ort: Any, options: Any) -> Any:
        """A session of the graph, on the first of the wanted providers that the installed build has."""
        providers = [name for name in self._wanted if name in ort.get_available_providers()]
        return ort.InferenceSession(self._graph, options, providers=providers)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the session."""
        self._session = None
        self._trained = {}

    @property
    def input_spec(self) -> TensorSpec:
        """The volume as the graph takes it."""
        return _spec(self._loaded().get_inputs()[0])

    @property
    def adapter_specs(self) -> tuple[TensorSpec, ...]:
        """The trained tensors that the graph takes as inputs; none where they are constants."""
        return tuple(_spec(value) for value in self._loaded().get_inputs()[1:])

    def use_adapter(self, tensors: Tensors) -> None:
        """Answer by these trained tensors from the next batch on; they are copied, to the GPU if that computes.

        Raises:
            AdapterError: they do not fit the graph, or its trained tensors are constants.
            EngineError: not in a 'with' block.
        """
        import onnxruntime as ort

        fitting = fitting_adapter(tensors, self.adapter_specs, self.name)
        device = "cuda" if self._loaded().get_providers()[0].startswith("CUDA") else "cpu"
        self._trained = {name: ort.OrtValue.ortvalue_from_numpy(value, device, 0) for name, value in fitting.items()}
        self._adapter = None

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""
        return tuple(_spec(value) for value in self._loaded().get_outputs())

    @property
    def facts(self) -> dict[str, Any]:
        """Runtime, device and mode."""
        import onnxruntime as ort

        return {
            "runtime": "ONNX Runtime",
            "version": ort.__version__,
            "device": self._loaded().get_providers()[0].removesuffix("ExecutionProvider"),
            "threads": self._threads,
            "graph_optimisation": self._optimise,
            **({"int8_kernels": f"exact ({_EXACT_INT8})"} if self.precision is Precision.INT8 else {}),
        }

    def run(self, volume: npt.NDArray[np.float16]) -> RunResult:
        """Answer a batch; float16 HU [batch, slices, rows, cols].

        Raises:
            EngineError: not in a 'with' block, not such a batch, or ONNX Runtime failed on it (out of memory, say).
        """
        session, spec = self._loaded(), self.input_spec
        check_volume(volume, spec)
        if not self._trained and self.adapter_specs:
            raise no_adapter(self.adapter_specs, self.name)
        start = time.perf_counter()
        feed = np.ascontiguousarray(volume, dtype=spec.dtype)
        fed = time.perf_counter()
        names = [value.name for value in session.get_outputs()]
        try:
            values = self._answer(feed, names)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise EngineError(
                f"{self.name} failed on a batch of {len(volume)}: {one_line(error)}. If memory ran out, use "
                f"smaller batches"
            ) from error
        done = time.perf_counter()
        by_name = {name: np.asarray(value, dtype=np.float32) for name, value in zip(names, values, strict=True)}
        outputs = Outputs.of(by_name)
        end = time.perf_counter()
        phases = {"to_device": fed - start, "compute": done - fed, "from_device": end - done}
        return RunResult(outputs, {name: 1e3 * seconds for name, seconds in phases.items()})

    def _answer(self, volume: npt.NDArray[Any], names: list[str]) -> list[Any]:
        if not self._trained:
            answers: list[Any] = self._session.run(names, {VOLUME: volume})
            return answers
        import onnxruntime as ort

        feed = {VOLUME: ort.OrtValue.ortvalue_from_numpy(volume), **self._trained}
        return [value.numpy() for value in self._session.run_with_ort_values(names, feed)]

    def _loaded(self) -> Any:
        if self._session is None:
            raise EngineError(f"{self.name} is not ready: use it in a 'with' block")
        return self._session


_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}


def _spec(value: Any) -> TensorSpec:
    shape = tuple(axis if isinstance(axis, int) else None for axis in value.shape)
    return TensorSpec(value.name, _DTYPES.get(value.type, value.type), shape)
