"""An engine on the GPU: deserialised, its tensors read, bound to addresses. Over TensorRT and TensorRT-RTX alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from molre_edge.adapters.tensors import PREFIX
from molre_edge.engines.cuda.device import Buffer, Device, DeviceError, DeviceMemoryError, Stream
from molre_edge.engines.runner import are_inputs
from molre_edge.engines.tensorrt.api import TensorRT
from molre_edge.engines.tensorrt.progress import Watch, listed, listening
from molre_edge.errors import EngineError
from molre_edge.specs import VOLUME, TensorSpec

if TYPE_CHECKING:
    from molre_edge.engines.tensorrt.timing_cache import RuntimeCache
    from molre_edge.engines.tensorrt.types import ICudaEngine, IExecutionContext, Library, Runtime

__all__ = ["TensorRTNetwork"]

_DTYPES = {"FLOAT": "float32", "HALF": "float16"}
"""TensorRT's names of the datatypes that our graphs have at their ends."""
_NO_MEMORY = ("out of memory", "outofmemory", "could not be allocated")
"""How the library's log tells that the GPU's memory ran out."""


class TensorRTNetwork:
    """A deserialised engine; the device's context is the current one while it is made, used and closed.

    Attributes:
        input: the volume, its batch free.
        trained: the trained tensors that it takes as inputs, sorted by name; their shapes are static.
        outputs: logits, embedding, gates and attention, as the engine orders them.
        batch: smallest, usual and largest number of volumes.
    """

    def __init__(
        self, tensorrt: TensorRT, plan: bytes, *, host_code: bool = False, cache: RuntimeCache | None = None
    ) -> None:
        """Deserialise a plan whose hash was compared: a plan is code.

        Args:
            tensorrt: the library.
            plan: the engine's content.
            host_code: let it hold code for the host too, as version-compatible engines do.
            cache: keeps what TensorRT-RTX compiles for the GPU.

        Raises:
            DeviceMemoryError: the GPU's memory does not suffice.
            EngineError: the library refuses it, or it is not an engine of a bundle's graph.
        """
        self._trt, trt, self._cache = tensorrt, tensorrt.module, cache
        watch = Watch()
        with listening(trt, watch) as logger:
            self._runtime: Runtime | None = trt.Runtime(logger)
            if host_code:
                self._runtime.engine_host_code_allowed = True
            engine: ICudaEngine | None = self._runtime.deserialize_cuda_engine(plan)  # it never raises
        try:
            if engine is None:
                raise _refusal(watch, f"{tensorrt.name} {tensorrt.version} can't load the engine", EngineError)
            inputs, outputs = _specs_of(engine, trt)
            names = [spec.name for spec in inputs]
            if not are_inputs(names) or not {"logits", "embedding"} <= {spec.name for spec in outputs}:
                told = ", ".join(str(spec) for spec in (*inputs, *outputs))
                raise EngineError(
                    f"the engine's tensors are {told}. Expected those of a "
                    "bundle's graph: build the engine again with 'molre-edge build'"
                )
            self.input, self.trained, self.outputs = inputs[0], tuple(inputs[1:]), tuple(outputs)
            low, usual, high = engine.get_tensor_profile_shape(self.input.name, 0)
            self.batch = (int(low[0]), int(usual[0]), int(high[0]))
        except BaseException:  # its traceback holds this frame: they would outlive the device's context
            del engine
            self._runtime = None
            raise
        self._engine: ICudaEngine | None = engine

    def bind(self, device: Device, size: int, addresses: Mapping[str, int], stream: Stream) -> _Bound:
        """An execution context of its own for a batch of `size`: a graph holds good for one context and shape.

        Its scratch memory is ours, so that it is as large as this size needs and running out of it is told clearly.
        """
        trt = self._trt
        watch = Watch()
        with listening(trt.module, watch):
            context = None if self._engine is None else trt.new_context(self._engine, self._cache)
            if context is None:
                raise _refusal(watch, f"{trt.name} can't make an execution context")
            memory: Buffer | None = None
            try:
                try:
                    ready: bool = context.set_optimization_profile_async(0, stream.handle)
                except RuntimeError as error:
                    watch.hear(True, str(error))
                    ready = False
                stream.synchronize()
                sides = [side for side in self.input.shape[1:] if side is not None]
                ready = ready and context.set_input_shape(self.input.name, (size, *sides))
                for name, address in addresses.items():
                    ready = ready and context.set_tensor_address(name, address)
                lacking = context.infer_shapes() if ready else []
                if not ready or lacking:
                    raise _refusal(watch, f"{trt.name} does not take a batch of {size} {' '.join(lacking)}")
                scratch = int(context.update_device_memory_size_for_shapes())
                memory = device.alloc(scratch) if scratch else None
                if memory is not None:
                    context.set_device_memory(memory.address, memory.nbytes)
            except BaseException:  # its traceback holds this frame: the context would outlive its engine
                del context
                if memory is not None:
                    memory.close()
                raise
        return _Bound(trt, context, memory)

    def close(self) -> None:
        """Free it, after everything that was bound."""
        if self._cache is not None:
            self._cache.keep()
        self._engine = None
        self._runtime = None


def _specs_of(engine: ICudaEngine, trt: Library) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """An engine's inputs, the volume first and the others sorted, and its outputs."""
    inputs, outputs = list[TensorSpec](), list[TensorSpec]()
    for place in range(engine.num_io_tensors):
        name = engine.get_tensor_name(place)
        kind = engine.get_tensor_dtype(name).name
        sides = [int(side) for side in engine.get_tensor_shape(name)]
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        shape = tuple(sides) if is_input and name.startswith(PREFIX) else (None, *sides[1:])
        (inputs if is_input else outputs).append(TensorSpec(name, _DTYPES.get(kind, kind), shape))
    return sorted(inputs, key=lambda spec: (spec.name != VOLUME, spec.name)), outputs


class _Bound:
    def __init__(self, tensorrt: TensorRT, context: IExecutionContext, memory: Buffer | None) -> None:
        self._context: IExecutionContext | None = context
        self._trt, self._memory = tensorrt, memory

    def enqueue(self, stream: Stream) -> None:
        watch = Watch()
        with listening(self._trt.module, watch):
            done = self._context is not None and self._context.execute_async_v3(stream.handle)
        if not done:
            raise _refusal(watch, f"{self._trt.name} can't run the engine")

    def why_no_graph(self, stream: Stream) -> str | None:
        # TensorRT-RTX alone can be asked; what TensorRT can't capture fails as it is captured
        asks = getattr(self._context, "is_stream_capturable", None)
        if asks is None or asks(stream.handle):
            return None
        return f"{self._trt.name} can't capture this engine: it takes memory or waits while it runs"

    def close(self) -> None:
        self._context = None
        if self._memory is not None:
            self._memory.close()


def _refusal(watch: Watch, what: str, kind: type[EngineError] = DeviceError) -> EngineError:
    """The error for a None or False of the library's; the reason is in its log alone."""
    told = f"{what}:{listed(watch.problems)}"
    if any(words in told.lower() for words in _NO_MEMORY):
        return DeviceMemoryError(told)
    return kind(told)
