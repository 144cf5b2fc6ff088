"""The device by pycuda, the default backend.

Never ``pycuda.autoinit``: it makes a context of its own, in which the handles of PyTorch and TensorRT mean nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy.typing as npt

from molre_edge.engines.cuda.device import Buffer, DeviceError, DeviceMemoryError, Stream, contiguous
from molre_edge.engines.cuda.driver import Gpu, load_libcuda
from molre_edge.engines.cuda.graph import CudaGraph, capture

__all__ = ["open_device"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class _Buffer:
    def __init__(self, device: _Device, nbytes: int) -> None:
        self.nbytes = nbytes
        with device.told():
            self._memory: Any = device.cuda.mem_alloc(max(nbytes, 1))
        self.address = int(self._memory)

    def close(self) -> None:
        self._memory.free()


class _Pinned:
    def __init__(self, device: _Device, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        with device.told():
            self.array: Any = device.cuda.pagelocked_empty(shape, dtype)

    def close(self) -> None:
        self.array.base.free()


class _Stream:
    def __init__(self, device: _Device) -> None:
        self._device = device
        with device.told():
            self.stream: Any = device.cuda.Stream(_NON_BLOCKING)
        self.handle = int(self.stream.handle)

    def synchronize(self) -> None:
        with self._device.told():
            self.stream.synchronize()

    def close(self) -> None:
        self.stream = None  # freed by its destructor, for which the context is to be current


class _Event:
    def __init__(self, device: _Device) -> None:
        self._device = device
        with device.told():
            self._event: Any = device.cuda.Event()

    def record(self, stream: _Stream) -> None:
        with self._device.told():
            self._event.record(stream.stream)

    def ms_since(self, earlier: _Event) -> float:
        with self._device.told():
            return float(self._event.time_since(earlier._event))

    def close(self) -> None:
        self._event = None


class _Device:
    def __init__(self, gpu: Gpu) -> None:
        import pycuda.driver as cuda

        self.cuda: Any = cuda
        self.backend, self.gpu = f"pycuda {version('pycuda')}", gpu
        self._thread = threading.get_ident()
        with self.told():
            cuda.init()
            self._context: Any = cuda.Device(0).retain_primary_context()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn pycuda's errors into ours."""
        try:
            yield
        except self.cuda.MemoryError as error:
            raise DeviceMemoryError(str(error)) from error
        except self.cuda.Error as error:
            raise DeviceError(str(error)) from error

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self.cuda.Context.pop()

    def alloc(self, nbytes: int) -> _Buffer:
        return _Buffer(self, nbytes)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> _Pinned:
        return _Pinned(self, shape, dtype)

    def stream(self) -> _Stream:
        return _Stream(self)

    def event(self) -> _Event:
        return _Event(self)

    def h2d(self, buffer: Buffer, array: npt.NDArray[Any], stream: _Stream) -> None:
        with self.told():
            self.cuda.memcpy_htod_async(buffer.address, contiguous(array, buffer), stream.stream)

    def d2h(self, array: npt.NDArray[Any], buffer: Buffer, stream: _Stream) -> None:
        with self.told():
            self.cuda.memcpy_dtoh_async(contiguous(array, buffer), buffer.address, stream.stream)

    def capture(self, stream: Stream, work: Callable[[], None]) -> CudaGraph:
        return capture(stream, work)

    def free_memory(self) -> int:
        with self.told():
            free, _ = self.cuda.mem_get_info()
        return int(free)

    def close(self) -> None:
        # While the object is alive: its destructor takes a primary context for one of pycuda's own, and does not
        # release it. From its own thread pycuda pushes the context first and leaves it there: releasing pops nothing.
        self._context.detach()
        if threading.get_ident() == self._thread:
            load_libcuda().cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        self._context = None


def open_device(gpu: Gpu) -> _Device:
    """The first GPU.

    Raises:
        ImportError: pycuda is not installed, or can't load the driver's library.
        DeviceError: the driver refuses.
    """
    return _Device(gpu)
