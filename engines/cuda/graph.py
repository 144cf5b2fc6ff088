"""CUDA graphs through the driver's own library: pycuda has none, and a stream's handle is the same number everywhere.

Names and arguments are those of cuda.h, CUDA 13.0 (``cuGraphInstantiateWithFlags`` is in drivers from CUDA 11.4 on).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from molre_edge.engines.cuda.device import OUT_OF_MEMORY, DeviceError, DeviceMemoryError, Stream
from molre_edge.engines.cuda.driver import error_text, load_libcuda

__all__ = ["CudaGraph", "capture"]

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads, such as PyTorch's, may go on meanwhile


class CudaGraph:
    """A graph, ready to launch."""

    def __init__(self, cu: Any, executable: int) -> None:
        """Own the executable graph."""
        self._cu, self._executable = cu, executable

    def launch(self, stream: Stream) -> None:
        """Queue it on a stream."""
        _check(self._cu, "cuGraphLaunch", self._cu.cuGraphLaunch(ctypes.c_void_p(self._executable), _handle(stream)))

    def close(self) -> None:
        """Free it."""
        self._cu.cuGraphExecDestroy(ctypes.c_void_p(self._executable))


def capture(stream: Stream, work: Callable[[], None]) -> CudaGraph:
    """Record what `work` queues on a stream; the stream's context is the current one.

    Raises:
        DeviceError: the work can't be captured; the stream is usable again.
    """
    cu = load_libcuda()
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    _check(cu, "cuStreamBeginCapture", cu.cuStreamBeginCapture_v2(_handle(stream), _THREAD_LOCAL))
    try:
        work()
    except BaseException:
        cu.cuStreamEndCapture(_handle(stream), ctypes.byref(graph))
        if graph.value:
            cu.cuGraphDestroy(graph)
        raise
    _check(cu, "cuStreamEndCapture", cu.cuStreamEndCapture(_handle(stream), ctypes.byref(graph)))
    try:
        code = cu.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        _check(cu, "cuGraphInstantiateWithFlags", code)
    finally:
        cu.cuGraphDestroy(graph)
    if executable.value is None:
        raise DeviceError("cuGraphInstantiateWithFlags gave no graph")
    return CudaGraph(cu, executable.value)


def _handle(stream: Stream) -> ctypes.c_void_p:
    return ctypes.c_void_p(stream.handle)


def _check(cu: Any, what: str, code: int) -> None:
    if code:
        kind = DeviceMemoryError if code == OUT_OF_MEMORY else DeviceError
        raise kind(f"{what}: {error_text(cu, code)}")
