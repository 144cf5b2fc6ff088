"""The device by cuda-python's ``cuda.bindings``: for machines where pycuda can't be built."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.engines.cuda.device import (
    OUT_OF_MEMORY,
    Buffer,
    DeviceError,
    DeviceMemoryError,
    Stream,
    as_array,
    contiguous,
)
from molre_edge.engines.cuda.driver import Gpu
from molre_edge.engines.cuda.graph import CudaGraph, capture

__all__ = ["open_device"]


class _Driver:
    """``cuda.bindings.driver``, its error codes raised."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        self.module: Any = driver

    def call(self, name: str, *arguments: Any) -> Any:
        code, *values = getattr(self.module, name)(*arguments)
        if int(code):
            kind = DeviceMemoryError if int(code) == OUT_OF_MEMORY else DeviceError
            _, text = self.module.cuGetErrorString(code)
            raise kind(f"{name}: {code.name} ({int(code)}): {(text or b'no text').decode()}")
        return values[0] if values else None


class _Buffer:
    def __init__(self, cu: _Driver, nbytes: int) -> None:
        self._cu, self.nbytes = cu, nbytes
        self.address = int(cu.call("cuMemAlloc", max(nbytes, 1)))

    def close(self) -> None:
        self._cu.call("cuMemFree", self.address)


class _Pinned:
    def __init__(self, cu: _Driver, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._cu, self._address = cu, int(cu.call("cuMemHostAlloc", max(size, 1), 0))
        self.array = as_array(self._address, shape, dtype)

    def close(self) -> None:
        self._cu.call("cuMemFreeHost", self._address)


class _Stream:
    def __init__(self, cu: _Driver) -> None:
        self._cu = cu
        self.stream = cu.call("cuStreamCreate", int(cu.module.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self.handle = int(self.stream)

    def synchronize(self) -> None:
        self._cu.call("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        self._cu.call("cuStreamDestroy", self.stream)


class _Event:
    def __init__(self, cu: _Driver) -> None:
        self._cu, self._event = cu, cu.call("cuEventCreate", int(cu.module.CUevent_flags.CU_EVENT_DEFAULT))

    def record(self, stream: _Stream) -> None:
        self._cu.call("cuEventRecord", self._event, stream.stream)

    def ms_since(self, earlier: _Event) -> float:
        return float(self._cu.call("cuEventElapsedTime", earlier._event, self._event))

    def close(self) -> None:
        self._cu.call("cuEventDestroy", self._event)


class _Device:
    def __init__(self, gpu: Gpu) -> None:
        self._cu = _Driver()
        self.backend, self.gpu = f"cuda-python {version('cuda-bindings')}", gpu
        self._cu.call("cuInit", 0)
        self._device = self._cu.call("cuDeviceGet", 0)
        self._context = self._cu.call("cuDevicePrimaryCtxRetain", self._device)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        self._cu.call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._cu.call("cuCtxPopCurrent")

    def alloc(self, nbytes: int) -> _Buffer:
        return _Buffer(self._cu, nbytes)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> _Pinned:
        return _Pinned(self._cu, shape, dtype)

    def stream(self) -> _Stream:
        return _Stream(self._cu)

    def event(self) -> _Event:
        return _Event(self._cu)

    def h2d(self, buffer: Buffer, array: npt.NDArray[Any], stream: Stream) -> None:
        source = contiguous(array, buffer).ctypes.data
        self._cu.call("cuMemcpyHtoDAsync", buffer.address, source, array.nbytes, stream.handle)

    def d2h(self, array: npt.NDArray[Any], buffer: Buffer, stream: Stream) -> None:
        target = contiguous(array, buffer).ctypes.data
        self._cu.call("cuMemcpyDtoHAsync", target, buffer.address, array.nbytes, stream.handle)

    def capture(self, stream: Stream, work: Callable[[], None]) -> CudaGraph:
        return capture(stream, work)

    def free_memory(self) -> int:
        free, _ = self._cu.module.cuMemGetInfo()[1:]
        return int(free)

    def close(self) -> None:
        self._cu.call("cuDevicePrimaryCtxRelease", self._device)


def open_device(gpu: Gpu) -> _Device:
    """The first GPU.

    Raises:
        ImportError: cuda-python is not installed.
        DeviceError: the driver refuses.
    """
    return _Device(gpu)
