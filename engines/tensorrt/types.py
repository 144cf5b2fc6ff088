"""The names of TensorRT's Python bindings that this project uses, as types: neither library brings any.

mypy holds the code to these names, and a test holds the names to what the bindings of TensorRT 10.3, 10.13, 10.16, 11.4
and TensorRT-RTX 1.7 have. A class here is called as theirs; what one of the two libraries alone has is in a class that
says so in its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Shape = Sequence[int]


class ParserError(Protocol):
    def node_operator(self) -> str: ...
    def node_name(self) -> str: ...
    def desc(self) -> str: ...


class OnnxParser(Protocol):
    num_errors: int

    def parse(self, model: bytes) -> bool: ...
    def get_error(self, index: int) -> ParserError: ...


class IOptimizationProfile(Protocol):
    def set_shape(self, input: str, min: Shape, opt: Shape, max: Shape) -> None: ...


class ITimingCache(Protocol):
    def serialize(self) -> Any: ...


class IBuilderConfig(Protocol):
    profiling_verbosity: Any
    builder_optimization_level: int
    progress_monitor: Any

    def set_flag(self, flag: Any) -> None: ...
    def clear_flag(self, flag: Any) -> None: ...
    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...
    def get_timing_cache(self) -> ITimingCache | None: ...


class RtxIBuilderConfig(IBuilderConfig, Protocol):
    num_compute_capabilities: int

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool: ...


class Builder(Protocol):
    def create_network(self, flags: int) -> Any: ...
    def create_builder_config(self) -> Any: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network(self, network: Any, config: Any) -> Any: ...


class EngineInspector(Protocol):
    def get_engine_information(self, format: Any) -> str: ...


class IExecutionContext(Protocol):
    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: Shape) -> bool: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def infer_shapes(self) -> list[str]: ...
    def update_device_memory_size_for_shapes(self) -> int: ...
    def set_device_memory(self, memory: int, size: int) -> None: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class RtxIExecutionContext(IExecutionContext, Protocol):
    def is_stream_capturable(self, stream: int) -> bool: ...


class RtxIRuntimeCache(Protocol):
    def deserialize(self, blob: bytes) -> bool: ...
    def serialize(self) -> Any: ...


class RtxIRuntimeConfig(Protocol):
    dynamic_shapes_kernel_specialization_strategy: Any

    def create_runtime_cache(self) -> RtxIRuntimeCache: ...
    def set_runtime_cache(self, cache: RtxIRuntimeCache) -> bool: ...

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None: ...


class ICudaEngine(Protocol):
    num_io_tensors: int

    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_dtype(self, name: str) -> Any: ...
    def get_tensor_shape(self, name: str) -> Shape: ...
    def get_tensor_mode(self, name: str) -> Any: ...
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Shape]: ...
    def create_execution_context(self, how: Any) -> IExecutionContext | None: ...
    def create_engine_inspector(self) -> EngineInspector: ...


class RtxICudaEngine(ICudaEngine, Protocol):
    def create_runtime_config(self) -> RtxIRuntimeConfig: ...


class Runtime(Protocol):
    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any: ...


class BuilderFlag(Protocol):
    TF32: Any
    VERSION_COMPATIBLE: Any


class RtxBuilderFlag(BuilderFlag, Protocol):
    REQUIRE_USER_ALLOCATION: Any


class NetworkDefinitionCreationFlag(Protocol):
    STRONGLY_TYPED: Any


class MemoryPoolType(Protocol):
    WORKSPACE: Any


class ProfilingVerbosity(Protocol):
    DETAILED: Any


class LayerInformationFormat(Protocol):
    JSON: Any


class TensorIOMode(Protocol):
    INPUT: Any


class ExecutionContextAllocationStrategy(Protocol):
    USER_MANAGED: Any


class DataType(Protocol):
    FLOAT: Any
    HALF: Any


class RtxDynamicShapesKernelSpecializationStrategy(Protocol):
    EAGER: Any


class RtxComputeCapability(Protocol):
    SM75: Any
    SM80: Any
    SM86: Any
    SM89: Any
    SM120: Any
    __members__: dict[str, Any]


class ILogger(Protocol):
    INTERNAL_ERROR: Any
    ERROR: Any
    WARNING: Any


class IProgressMonitor(Protocol):
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...
    def step_complete(self, phase_name: str, step: int) -> bool: ...
    def phase_finish(self, phase_name: str) -> None: ...


# An attribute hides a class of its name within the class.
_Builder = Builder
_OnnxParser = OnnxParser
_Runtime = Runtime
_BuilderFlag = BuilderFlag
_NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
_MemoryPoolType = MemoryPoolType
_ProfilingVerbosity = ProfilingVerbosity
_LayerInformationFormat = LayerInformationFormat
_TensorIOMode = TensorIOMode
_Strategy = ExecutionContextAllocationStrategy


class Library(Protocol):
    """Both libraries' modules."""

    Builder: Callable[[Any], _Builder]
    OnnxParser: Callable[[Any, Any], _OnnxParser]
    Runtime: Callable[[Any], _Runtime]
    ILogger: Any
    IProgressMonitor: Any
    BuilderFlag: _BuilderFlag
    NetworkDefinitionCreationFlag: _NetworkDefinitionCreationFlag
    MemoryPoolType: _MemoryPoolType
    ProfilingVerbosity: _ProfilingVerbosity
    LayerInformationFormat: _LayerInformationFormat
    TensorIOMode: _TensorIOMode
    ExecutionContextAllocationStrategy: _Strategy


class RtxLibrary(Library, Protocol):
    """TensorRT-RTX's module."""

    ComputeCapability: RtxComputeCapability
    DynamicShapesKernelSpecializationStrategy: RtxDynamicShapesKernelSpecializationStrategy
