"""OpenVINO: the same graph on Intel's kernels, for boxes with an Intel or AMD processor and no GPU.

Source: OpenVINO's documentation, "Precision Control" and "Performance Hints" of the CPU device.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import PREFIX, Tensors
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.runner import RunResult, are_inputs, check_volume, fitting_adapter, no_adapter, one_line
from molre_edge.errors import EngineError, MissingDependencyError
from molre_edge.machine import usable_cores
from molre_edge.parity import Outputs
from molre_edge.parity.outputs import OUTPUT_NAMES
from molre_edge.specs import VOLUME, Precision, TensorSpec

__all__ = ["OpenVinoRunner"]

_COMPUTE = "f32"
"""What it computes in, whatever the graph stores. By itself it takes bfloat16 where the processor has it, which no
parity limit was made for."""


_ENDS = (VOLUME, *OUTPUT_NAMES)
"""Names of a graph's inputs and outputs, trained tensors aside."""


class OpenVinoRunner:
    """Runs one graph with OpenVINO on the CPU.

    Attributes:
        name: ``openvino:<precision>``.
        precision: of the graph.
    """

    def __init__(
        self, graph: bytes, precision: Precision, *, threads: int | None = None, adapter: Tensors | None = None
    ) -> None:
        """Take a graph; nothing is loaded before the block is entered.

        Args:
            graph: a serialised ONNX model, already checked against its hash.
            precision: its precision, for the name.
            threads: of the inference; None takes the cores that this process may use.
            adapter: the trained tensors of a graph that takes them as inputs; :meth:`use_adapter` may give them later.
        """
        self.name = f"openvino:{precision}"
        self.precision = precision
        self._graph = graph
        self._threads = threads or usable_cores()
        self._request: Any = None
        self._adapter, self._has_adapter = adapter, False

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, precision: Precision, *, threads: int | None = None, adapter: Tensors | None = None
    ) -> OpenVinoRunner:
        """The runner of a bundle's graph, its hash checked.

        Raises:
            BundleError: no such graph, or an altered one.
        """
        return cls(bundle.read(bundle.graph(precision).file), precision, threads=threads, adapter=adapter)

    def __enter__(self) -> OpenVinoRunner:
        """Load the graph.

        Raises:
            EngineError: OpenVINO can't load it, it is not one of ours, or the runner was used before.
            MissingDependencyError: OpenVINO is not installed.
        """
        if not self._graph:
            raise EngineError(f"{self.name} was closed and can't be used again. Create a new runner")
        try:
            import openvino
        except ImportError as error:
            raise MissingDependencyError("Running a graph with OpenVINO", "openvino", "openvino") from error
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _COMPUTE,
            "INFERENCE_NUM_THREADS": self._threads,
        }
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(self._graph, b""), "CPU", settings)
        except Exception as error:  # its errors are RuntimeErrors, and others of pybind11
            raise EngineError(
                f"OpenVINO {openvino.__version__} can't load the {self.precision} graph: {one_line(error)}. Use "
                f"onnxruntime:{self.precision}, or another version of OpenVINO"
            ) from error
        names = {_name(port) for port in compiled.outputs}
        if not {"logits", "embedding"} <= names or not are_inputs([_name(port) for port in compiled.inputs]):
            raise EngineError(
                f"{self.name}: the graph's outputs are {', '.join(sorted(names))}. Expected "
                "those of a bundle: export the checkpoint again"
            )
        self._graph = b""  # the compiled model has its own copy
        self._request = compiled.create_infer_request()
        if self._adapter is not None:
            self.use_adapter(self._adapter)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the model."""
        self._request, self._has_adapter = None, False

    @property
    def input_spec(self) -> TensorSpec:
        """The volume as the graph takes it."""
        return _spec(self._loaded().model_inputs[0])

    @property
    def adapter_specs(self) -> tuple[TensorSpec, ...]:
        """The trained tensors that the graph takes as inputs; none where they are constants."""
        return tuple(_spec(port) for port in self._loaded().model_inputs[1:])

    def use_adapter(self, tensors: Tensors) -> None:
        """Answer by these trained tensors from the next batch on; they are copied.

        Raises:
            AdapterError: they do not fit the graph, or its trained tensors are constants.
            EngineError: not in a 'with' block.
        """
        import openvino

        fitting = fitting_adapter(tensors, self.adapter_specs, self.name)
        for name, value in fitting.items():
            self._request.set_tensor(name, openvino.Tensor(value))  # a copy
        self._adapter, self._has_adapter = None, True

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""
        return tuple(_spec(value) for value in self._loaded().model_outputs)

    @property
    def facts(self) -> dict[str, Any]:
        """Runtime, device and mode."""
        import openvino

        compiled = self._loaded().get_compiled_model()
        return {
            "runtime": "OpenVINO",
            "version": openvino.__version__.split("-")[0],
            "device": "CPU",
            "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
            "computes_in": compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
        }

    def run(self, volume: npt.NDArray[np.float16]) -> RunResult:
        """Answer a batch; float16 HU [batch, slices, rows, cols].

        Raises:
            EngineError: not in a 'with' block, not such a batch, or OpenVINO failed on it (out of memory, say).
        """
        request, spec = self._loaded(), self.input_spec
        check_volume(volume, spec)
        if not self._has_adapter and self.adapter_specs:
            raise no_adapter(self.adapter_specs, self.name)
        start = time.perf_counter()
        feed = np.ascontiguousarray(volume, dtype=spec.dtype)
        fed = time.perf_counter()
        try:
            values = request.infer({VOLUME: feed})
        except Exception as error:  # its errors are RuntimeErrors, and others of pybind11
            raise EngineError(
                f"{self.name} failed on a batch of {len(volume)}: {one_line(error)}. If memory ran out, use "
                f"smaller batches"
            ) from error
        done = time.perf_counter()
        by_name = {_name(port): np.asarray(value, dtype=np.float32) for port, value in values.items()}
        outputs = Outputs.of(by_name)
        end = time.perf_counter()
        phases = {"to_device": fed - start, "compute": done - fed, "from_device": end - done}
        return RunResult(outputs, {name: 1e3 * seconds for name, seconds in phases.items()})

    def _loaded(self) -> Any:
        if self._request is None:
            raise EngineError(f"{self.name} is not ready: use it in a 'with' block")
        return self._request


def _spec(port: Any) -> TensorSpec:
    shape = tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape)
    return TensorSpec(_name(port), np.dtype(port.element_type.to_dtype()).name, shape)


def _name(port: Any) -> str:
    """A port's name in the graph; where a node between two names does nothing, OpenVINO gives a port both."""
    names: list[str] = [name for name in port.names if name in _ENDS or name.startswith(PREFIX)]
    return min(names, default=str(port.any_name))
