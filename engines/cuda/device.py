"""One GPU behind one small interface: memory, streams, events, copies and graphs.

Two backends fill it: pycuda, and cuda-python where pycuda can't be installed. Both use the GPU's primary context, which
PyTorch and TensorRT use too, so that all can live in one process. The current context belongs to a thread: everything
but the construction happens within ``with device.active()``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import metadata
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from molre_edge.engines.cuda.driver import DriverProbe, Gpu, probe_driver
from molre_edge.errors import EngineError

__all__ = [
    "BACKENDS",
    "Buffer",
    "Device",
    "DeviceError",
    "DeviceMemoryError",
    "Event",
    "Graph",
    "Pinned",
    "Stream",
    "newer_than_driver",
    "open_device",
    "why_no_backend",
]

BACKENDS = {"pycuda": "pycuda_device", "cuda-python": "cuda_python_device"}
"""Backend, in the order in which they are tried, and its module in this package."""

_INSTALLED = {"pycuda": ("pycuda", "pycuda.driver"), "cuda-python": ("cuda-bindings", "cuda.bindings.driver")}
"""Backend -> its distribution, and the module that loads the driver."""

OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY in cuda.h."""


class DeviceError(EngineError):
    """The driver refused something; the message has its words."""


class DeviceMemoryError(DeviceError):
    """Memory of the GPU, or memory that can be page-locked, ran out."""


class Buffer(Protocol):
    """Memory of the device."""

    address: int
    nbytes: int

    def close(self) -> None:
        """Free it."""


class Pinned(Protocol):
    """Page-locked host memory: only with it do copies run beside the host and beside kernels."""

    array: npt.NDArray[Any]

    def close(self) -> None:
        """Free it; the array must not be used any more."""


class Stream(Protocol):
    """A queue of work, non-blocking towards the legacy stream."""

    handle: int

    def synchronize(self) -> None:
        """Wait until all of its work is done. Errors of earlier work are raised here."""

    def close(self) -> None:
        """Free it."""


class Event(Protocol):
    """A mark in a stream."""

    def record(self, stream: Any) -> None:
        """Mark the work queued so far."""

    def ms_since(self, earlier: Any) -> float:
        """Milliseconds between two marks that were reached."""

    def close(self) -> None:
        """Free it."""


class Graph(Protocol):
    """Work that was captured once and is launched again as a whole."""

    def launch(self, stream: Stream) -> None:
        """Queue it; the addresses are those of the capture."""

    def close(self) -> None:
        """Free it."""


class Device(Protocol):
    """A GPU.

    Attributes:
        backend: such as ``pycuda 2026.1``.
        gpu: what the driver says of it.
    """

    backend: str
    gpu: Gpu

    def active(self) -> AbstractContextManager[None]:
        """Its context is the current one of this thread within the block."""

    def alloc(self, nbytes: int) -> Buffer:
        """Device memory of at least one byte. Raises :class:`DeviceMemoryError`."""

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Pinned:
        """A page-locked array, its content undefined. Raises :class:`DeviceMemoryError`."""

    def stream(self) -> Stream:
        """A new stream."""

    def event(self) -> Event:
        """A new event that takes the time."""

    def h2d(self, buffer: Buffer, array: npt.NDArray[Any], stream: Stream) -> None:
        """Queue a copy of a whole contiguous array to the buffer's start."""

    def d2h(self, array: npt.NDArray[Any], buffer: Buffer, stream: Stream) -> None:
        """Queue a copy from the buffer's start that fills the array."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Record what `work` queues on the stream, without running it. Raises :class:`DeviceError`."""

    def free_memory(self) -> int:
        """Bytes of the GPU's memory that are free."""

    def close(self) -> None:
        """Let the context go. What was made of it must be closed before."""


def open_device(backend: str | None = None) -> Device:
    """The first GPU that this process may use, by pycuda, else by cuda-python.

    Args:
        backend: one of :data:`BACKENDS`; None takes the first that can be loaded.

    Raises:
        EngineError: no driver, no GPU, or neither backend can be loaded; the message says how to mend that.
    """
    probe = probe_driver()
    if probe.problem is not None:
        raise EngineError(
            f"{probe.problem}. A TensorRT engine needs an NVIDIA GPU and its driver; 'molre-edge doctor' shows what "
            "is missing"
        )
    reasons = []
    for name in [backend] if backend else BACKENDS:
        try:
            module = importlib.import_module(f"molre_edge.engines.cuda.{BACKENDS[name]}")
            device: Device = module.open_device(probe.gpus[0])
            return device
        except (ImportError, OSError, RuntimeError) as error:  # not installed, or built for another driver
            reasons.append(f"{name}: {error}")
    raise EngineError(
        f"running a TensorRT engine needs pycuda or cuda-python, and neither can be loaded ({'; '.join(reasons)}): "
        f"pip install 'molre-edge[tensorrt]', or where pycuda can't be built, pip install 'molre-edge[cuda]'"
    )


def newer_than_driver(cuda_bindings: str, probe: DriverProbe) -> str | None:
    """Why a version of cuda-bindings can't serve with a driver, as a sentence; None where it can.

    Its first number must not be above that of the driver's CUDA.
    """
    if probe.cuda is None or int(cuda_bindings.split(".")[0]) <= int(probe.cuda.split(".")[0]):
        return None
    return f"{cuda_bindings} is newer than the driver's CUDA {probe.cuda}"


def why_no_backend(probe: DriverProbe) -> str | None:
    """Why the GPU can't be reached from Python; None where a backend is installed and can be loaded.

    A backend is imported only to find that out: to be called where there is a driver and it would be used.
    """
    reasons = []
    for backend, (distribution, module) in _INSTALLED.items():
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
        reason = newer_than_driver(version, probe) if distribution == "cuda-bindings" else None
        if reason is None:
            try:
                importlib.import_module(module)
                return None
            except (ImportError, OSError, RuntimeError) as error:
                reason = f"{version} can't be loaded ({error})"
        reasons.append(f"{backend} {reason}")
    if reasons:
        major = (probe.cuda or "13").split(".")[0]
        return f"{', and '.join(reasons)}: pip install 'cuda-bindings=={major}.*'"
    return (
        "neither pycuda nor cuda-python is installed: pip install pycuda, or where it can't be built, "
        "pip install 'molre-edge[cuda]'"
    )


def contiguous(array: npt.NDArray[Any], buffer: Buffer) -> npt.NDArray[Any]:
    """The array, after checking what an asynchronous copy would get wrong in silence."""
    if not array.flags.c_contiguous or array.nbytes > buffer.nbytes:
        raise ValueError(f"a copy of {array.nbytes} bytes, contiguous: {array.flags.c_contiguous}, to {buffer.nbytes}")
    return array


def as_array(address: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array over memory that somebody else owns."""
    import ctypes

    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    memory = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
    array: npt.NDArray[Any] = np.frombuffer(memory, dtype=kind).reshape(shape)
    return array
