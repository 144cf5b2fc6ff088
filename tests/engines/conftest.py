"""Volumes for the tiny bundle's model, and devices that need no GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.engines.cuda.device import DeviceError, DeviceMemoryError, contiguous
from molre_edge.engines.cuda.driver import Gpu


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="session")
def golden(bundle: Bundle) -> GoldenSet:
    return bundle.golden()


@pytest.fixture(scope="session")
def volumes(golden: GoldenSet) -> npt.NDArray[np.float16]:
    """Three volumes, HU."""
    return golden.volumes


class HostDevice:
    """A device in host memory whose streams do nothing before they are waited for, as late as a GPU may.

    `memory` bytes can be taken; `log` is what was queued and done, in order.
    """

    def __init__(self, memory: int = 1 << 30, *, graphs: bool = True) -> None:
        self.backend, self.gpu = "host", Gpu("Host", (8, 6), memory)
        self.memory, self.used, self.graphs, self.depth = memory, 0, graphs, 0
        self.arrays: dict[int, npt.NDArray[np.uint8]] = {}
        self.alive: list[object] = []
        self.log: list[str] = []
        self.captures, self.closed = 0, False
        self._recording: list[Callable[[], None]] | None = None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        assert not self.closed, "closed"
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def take(self, nbytes: int) -> None:
        assert self.depth, "not active"
        if self.used + nbytes > self.memory:
            raise DeviceMemoryError("out of memory")
        self.used += nbytes

    def alloc(self, nbytes: int) -> HostBuffer:
        return HostBuffer(self, nbytes)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> HostPinned:
        return HostPinned(self, shape, dtype)

    def stream(self) -> HostStream:
        return HostStream(self)

    def event(self) -> HostEvent:
        return HostEvent(self)

    def queue(self, stream: HostStream, work: Callable[[], None]) -> None:
        assert self.depth, "not active"
        (stream.work if self._recording is None else self._recording).append(work)

    def h2d(self, buffer: HostBuffer, array: npt.NDArray[Any], stream: HostStream) -> None:
        source, target = contiguous(array, buffer), buffer.data
        self.queue(stream, lambda: target[: source.nbytes].__setitem__(..., source.view(np.uint8).reshape(-1)))

    def d2h(self, array: npt.NDArray[Any], buffer: HostBuffer, stream: HostStream) -> None:
        target, source = contiguous(array, buffer).view(np.uint8).reshape(-1), buffer.data
        self.queue(stream, lambda: target.__setitem__(..., source[: target.nbytes]))

    def capture(self, stream: HostStream, work: Callable[[], None]) -> HostGraph:
        if not self.graphs:
            raise DeviceError("this work can't be captured")
        self._recording = recorded = []
        try:
            work()
        finally:
            self._recording = None
        self.captures += 1
        return HostGraph(self, recorded)

    def free_memory(self) -> int:
        return self.memory - self.used

    def close(self) -> None:
        assert not self.depth and not self.alive, f"still there: {self.alive}"
        self.closed = True


class HostThing:
    def __init__(self, device: HostDevice) -> None:
        assert device.depth, "not active"
        self.device = device
        device.alive.append(self)

    def close(self) -> None:
        assert self.device.depth, "not active"
        self.device.alive.remove(self)


class HostBuffer(HostThing):
    def __init__(self, device: HostDevice, nbytes: int) -> None:
        device.take(nbytes)
        super().__init__(device)
        self.data = np.full(nbytes, 0xCD, np.uint8)
        self.address, self.nbytes = self.data.ctypes.data, nbytes
        device.arrays[self.address] = self.data

    def close(self) -> None:
        super().close()
        self.device.used -= self.nbytes
        del self.device.arrays[self.address]


class HostPinned(HostThing):
    def __init__(self, device: HostDevice, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        super().__init__(device)
        self.array: npt.NDArray[Any] = np.empty(shape, dtype)


class HostStream(HostThing):
    def __init__(self, device: HostDevice) -> None:
        super().__init__(device)
        self.work: list[Callable[[], None]] = []
        self.handle = id(self)

    def synchronize(self) -> None:
        assert self.device.depth, "not active"
        assert self in self.device.alive, "closed"
        work, self.work = self.work, []
        for one in work:
            one()

    def close(self) -> None:
        super().close()
        assert not self.work, "closed with work in it"


class HostEvent(HostThing):
    def __init__(self, device: HostDevice) -> None:
        super().__init__(device)
        self.at = float("nan")

    def record(self, stream: HostStream) -> None:
        self.device.queue(stream, lambda: setattr(self, "at", time.perf_counter()))

    def ms_since(self, earlier: HostEvent) -> float:
        return 1e3 * (self.at - earlier.at)


class HostGraph(HostThing):
    def __init__(self, device: HostDevice, work: list[Callable[[], None]]) -> None:
        super().__init__(device)
        self.work, self.launches = work, 0

    def launch(self, stream: HostStream) -> None:
        self.launches += 1
        for one in self.work:
            self.device.queue(stream, one)


@pytest.fixture
def host_device() -> type[HostDevice]:
    """The class: tests make devices of the memory they need."""
    return HostDevice
