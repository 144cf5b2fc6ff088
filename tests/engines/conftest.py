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


TRAINED = {
    "adapter.backbone.layer.A": (8, 4),
    "adapter.head.bias": (3,),
    "adapter.head.weight": (3, 8),
}
"""Trained tensors of :func:`graph_with_inputs`, and their shapes."""


def graph_with_inputs(half: bool) -> bytes:
    """A graph whose trained tensors are inputs: each slice's mean, a product with A, and a head.

    In half floats, A is one too; the head stays in float32.
    """
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    kinds = {name: kind if name.endswith(".A") else TensorProto.FLOAT for name in TRAINED}
    nodes = [
        helper.make_node("Cast", ["volume"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["single", "axes"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["x"], to=kind),
        helper.make_node("Transpose", ["adapter.backbone.layer.A"], ["weight"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "weight"], ["hidden"]),
        helper.make_node("Cast", ["hidden"], ["embedding"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["embedding", "adapter.head.weight", "adapter.head.bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info("volume", kind, ["batch", 4, 32, 32]),
            *(helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in TRAINED.items()),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 8]),
        ],
        [numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    raw: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()
    return raw


def answer_of(tensors: dict[str, npt.NDArray[np.float32]], volumes: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """The logits that :func:`graph_with_inputs` answers."""
    mean = volumes.astype(np.float64).mean(axis=(2, 3))
    hidden = mean @ tensors["adapter.backbone.layer.A"].T
    logits: npt.NDArray[np.float64] = hidden @ tensors["adapter.head.weight"].T + tensors["adapter.head.bias"]
    return logits


@pytest.fixture
def with_inputs() -> Callable[[bool], bytes]:
    """See :func:`graph_with_inputs`."""
    return graph_with_inputs


@pytest.fixture
def answered() -> Callable[..., npt.NDArray[np.float64]]:
    """See :func:`answer_of`."""
    return answer_of


@pytest.fixture
def adapters() -> tuple[dict[str, npt.NDArray[np.float32]], ...]:
    """Two adapters of that graph."""
    rng = np.random.default_rng(0)
    return tuple({name: rng.normal(size=shape).astype(np.float32) for name, shape in TRAINED.items()} for _ in range(2))


@pytest.fixture
def some_volumes() -> npt.NDArray[np.float16]:
    """Three volumes on that graph's grid, small numbers."""
    return np.random.default_rng(1).normal(size=(3, 4, 32, 32)).astype(np.float16)


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
