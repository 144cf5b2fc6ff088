"""The batch loop of a GPU: pinned memory, copies beside compute in two slots, a CUDA graph for each batch size.

It knows the device's interface and no TensorRT, so that it runs on the CPU in tests.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from molre_edge.engines.cuda.device import Buffer, Device, DeviceError, DeviceMemoryError, Event, Graph, Pinned, Stream
from molre_edge.engines.runner import RunResult
from molre_edge.parity import Outputs
from molre_edge.specs import TensorSpec

__all__ = ["SLOTS", "Bound", "Network", "Slot", "SlotLoop"]

SLOTS = 2
"""While one slot computes, the other copies. A third rarely helps."""

_LOG = logging.getLogger(__name__)

Volume = npt.NDArray[np.float16]


class Bound(Protocol):
    """A network whose shapes and addresses are set."""

    def enqueue(self, stream: Stream) -> None:
        """Queue one pass. Raises :class:`DeviceError`."""

    def why_no_graph(self, stream: Stream) -> str | None:
        """Why a pass on the stream can't be captured as a graph; None where it may be tried."""

    def close(self) -> None:
        """Free it."""


class Network(Protocol):
    """A network on the device, without a batch size yet."""

    input: TensorSpec
    outputs: tuple[TensorSpec, ...]

    def bind(self, device: Device, size: int, addresses: Mapping[str, int], stream: Stream) -> Bound:
        """An execution for a batch of `size`, by the addresses of its tensors. Raises :class:`DeviceMemoryError`."""


class Slot:
    """All that one batch on its way needs: memory on both sides, a stream, an execution, a graph.

    The graph holds the network alone. Copies stay outside of it, so that events between them tell the phases apart.
    """

    def __init__(
        self,
        device: Device,
        network: Network,
        size: int,
        *,
        graph: bool,
        shared: Mapping[str, int] | None = None,
    ) -> None:
        """Take memory for batches of `size` and run one of zeros: no later one then meets anything for the first time.

        Args:
            device: active.
            network: to run.
            size: volumes in a batch.
            graph: replay it as a CUDA graph.
            shared: addresses of the inputs that all slots share, such as an adapter's.

        Raises:
            DeviceMemoryError: the memory is not there; nothing is kept.
            DeviceError: the network can't be run.
        """
        self.size = size
        self._closed = False
        self.graph: Graph | None = None
        self.why_no_graph: str | None = None if graph else "switched off"
        self._device, self._network, self._filled, self._fill_ms = device, network, 0, 0.0
        with contextlib.ExitStack() as stack:
            specs = (network.input, *network.outputs)
            self._host: dict[str, Pinned] = {
                s.name: _kept(stack, device.pinned(_shape(s, size), s.dtype)) for s in specs
            }
            self._there: dict[str, Buffer] = {
                name: _kept(stack, device.alloc(pinned.array.nbytes)) for name, pinned in self._host.items()
            }
            self._stream: Stream = _kept(stack, device.stream())
            self._marks: list[Event] = [_kept(stack, device.event()) for _ in range(4)]
            addresses = {**(shared or {}), **{name: buffer.address for name, buffer in self._there.items()}}
            self._bound: Bound = _kept(stack, network.bind(device, size, addresses, self._stream))
            self._host[network.input.name].array[...] = 0
            stack.callback(_settle, self._stream)  # before anything is freed, also where what follows fails
            self._queue()
            self._stream.synchronize()
            if graph:
                self.why_no_graph = self._bound.why_no_graph(self._stream)
            if graph and self.why_no_graph is None:
                try:
                    self.graph = _kept(stack, device.capture(self._stream, self._enqueue))
                except DeviceError as error:
                    self.why_no_graph = str(error)
            self._stack = stack.pop_all()

    def submit(self, volume: Volume) -> None:
        """Queue a batch of at most `size`; the places left over are filled with its last volume."""
        start = time.perf_counter()
        target, count = self._host[self._network.input.name].array, len(volume)
        target[:count] = volume
        target[count:] = target[count - 1]
        self._filled, self._fill_ms = count, 1e3 * (time.perf_counter() - start)
        self._queue()

    def collect(self) -> RunResult:
        """Wait for the batch and take its answers, without the padding."""
        self._stream.synchronize()
        start = time.perf_counter()
        host = {spec.name: self._host[spec.name].array for spec in self._network.outputs}
        answers = {name: np.array(array[: self._filled], dtype=np.float32) for name, array in host.items()}
        outputs = Outputs.of(answers)
        fed, ran, done = (later.ms_since(mark) for mark, later in zip(self._marks, self._marks[1:], strict=False))
        emptied = 1e3 * (time.perf_counter() - start)
        return RunResult(outputs, {"to_device": self._fill_ms + fed, "compute": ran, "from_device": done + emptied})

    def wait(self) -> None:
        """Wait for whatever is queued; nothing is once it is closed, and the device may be closed too."""
        if not self._closed:
            with self._device.active():
                self._stream.synchronize()

    def close(self) -> None:
        """Free all, after what is queued."""
        self._closed = True
        self._stack.close()

    def _queue(self) -> None:
        source = self._network.input.name
        self._marks[0].record(self._stream)
        self._device.h2d(self._there[source], self._host[source].array, self._stream)
        self._marks[1].record(self._stream)
        if self.graph is not None:
            self.graph.launch(self._stream)
        else:
            self._enqueue()
        self._marks[2].record(self._stream)
        for spec in self._network.outputs:
            self._device.d2h(self._host[spec.name].array, self._there[spec.name], self._stream)
        self._marks[3].record(self._stream)

    def _enqueue(self) -> None:
        self._bound.enqueue(self._stream)


class SlotLoop:
    """Runs batches of any size through slots.

    A batch takes the smallest prepared size that holds it, else a size of its own is prepared: so the last, smaller
    batch of many is padded and the graph stays. Larger ones than the limit are cut. Where memory does not suffice for
    a size, the limit is halved.

    Attributes:
        limit: largest number of volumes at once.
        notes: what did not go as wished, such as a halved batch.
    """

    def __init__(
        self,
        device: Device,
        network: Network,
        *,
        smallest: int,
        largest: int,
        graphs: bool = True,
        shared: Mapping[str, int] | None = None,
    ) -> None:
        """Prepare nothing yet; `shared` are addresses of inputs that all slots share."""
        self.limit, self.notes = largest, list[str]()
        self._device, self._network, self._smallest, self._graphs = device, network, smallest, graphs
        self._shared = shared
        self._slots: dict[int, list[Slot]] = {}
        self._single: set[int] = set()  # sizes whose second slot did not fit

    def run(self, volume: Volume) -> RunResult:
        """Answer one batch. The times of one that was cut are the sums of its parts'."""
        (result,) = self.stream([volume])
        return result

    def stream(self, volumes: Iterable[Volume]) -> Iterator[RunResult]:
        """Answer batch after batch, in their order; while one is computed, the next is read and copied."""
        busy: deque[Slot] = deque()
        owed: deque[int] = deque()  # parts of each batch that is not answered yet
        parts: list[RunResult] = []
        try:
            for volume in volumes:
                pieces = self._cut(volume)
                owed.append(len(pieces))
                for piece in pieces:
                    if len(busy) == SLOTS:
                        parts.append(self._collect(busy))
                    slot = self._free_slot(piece, busy)
                    while slot is None:
                        parts.append(self._collect(busy))
                        slot = self._free_slot(piece, busy)
                    busy.append(slot)
                    with self._device.active():
                        slot.submit(piece)
                while owed and len(parts) >= owed[0]:
                    yield _joined(parts, owed.popleft())
            while owed:
                while len(parts) < owed[0]:
                    parts.append(self._collect(busy))
                yield _joined(parts, owed.popleft())
        finally:  # who stops early must not leave work that writes into freed memory
            for slot in busy:
                slot.wait()

    def settle(self) -> None:
        """Wait for all that is queued."""
        for slots in self._slots.values():
            for slot in slots:
                slot.wait()

    def facts(self) -> dict[str, Any]:
        """Sizes that are prepared, whether each has a graph, and notes."""
        told = {size: slots[0].why_no_graph or "CUDA graph" for size, slots in sorted(self._slots.items())}
        return {
            "batch_limit": self.limit,
            "prepared": {str(size): how for size, how in told.items()},
            "notes": self.notes,
        }

    def close(self) -> None:
        """Free all slots."""
        with self._device.active():
            for slots in self._slots.values():
                for slot in slots:
                    slot.close()
        self._slots = {}

    def _collect(self, busy: deque[Slot]) -> RunResult:
        with self._device.active():
            return busy.popleft().collect()

    def _cut(self, volume: Volume) -> list[Volume]:
        """The batch in pieces of at most the limit, for each of which a slot is prepared."""
        while True:
            most = min(self.limit, len(volume))
            size = self._size_for(most)
            if size in self._slots or self._prepared(size):
                return [volume[at : at + self.limit] for at in range(0, len(volume), self.limit)]

    def _prepared(self, size: int) -> bool:
        """Whether the first slot of a size could be made; if not, the limit is a smaller one now."""
        try:
            self._add_slot(size)
            return True
        except DeviceMemoryError as error:
            if size <= self._smallest:
                raise DeviceMemoryError(
                    f"a batch of {size}, the smallest that the engine takes, does not fit in the GPU's memory "
                    f"({error}). Free memory of other programs, or build an engine for smaller batches"
                ) from error
            self.limit = max(self._smallest, size // 2)
            self._note(
                f"a batch of {size} does not fit in the GPU's memory ({error}): batches of {self.limit} are used"
            )
            return False

    def _free_slot(self, piece: Volume, busy: deque[Slot]) -> Slot | None:
        """A slot that holds the piece and is not busy; None where one must be waited for."""
        size = self._size_for(len(piece))
        slots = self._slots.get(size, [])
        free = [slot for slot in slots if slot not in busy]
        if free:
            return free[0]
        if busy and (len(slots) == SLOTS or size in self._single):
            return None
        try:
            return self._add_slot(size)
        except DeviceMemoryError as error:
            if not busy:
                raise
            self._single.add(size)
            self._note(
                f"a second batch of {size} does not fit in the GPU's memory ({error}): copies and compute alternate"
            )
            return None

    def _size_for(self, count: int) -> int:
        holds = [size for size in self._slots if count <= size <= self.limit]
        return min(holds, default=max(count, self._smallest))

    def _add_slot(self, size: int) -> Slot:
        with self._device.active():
            slot = Slot(self._device, self._network, size, graph=self._graphs, shared=self._shared)
        self._slots.setdefault(size, []).append(slot)
        if slot.why_no_graph and self._graphs and len(self._slots[size]) == 1:
            self._note(f"no CUDA graph for batches of {size}: {slot.why_no_graph}")
        return slot

    def _note(self, text: str) -> None:
        self.notes.append(text)
        _LOG.warning("%s", text)


def _joined(parts: list[RunResult], count: int) -> RunResult:
    """The first `count` of the parts as one; they are taken from the list."""
    mine = parts[:count]
    del parts[:count]
    milliseconds = {phase: sum(part.milliseconds[phase] for part in mine) for phase in mine[0].milliseconds}
    return RunResult(Outputs.stack([part.outputs for part in mine]), milliseconds)


def _settle(stream: Stream) -> None:
    with contextlib.suppress(DeviceError):  # it was told already, or concerns work that nobody waits for
        stream.synchronize()


def _shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    return tuple(size if side is None else side for side in spec.shape)


def _kept(stack: contextlib.ExitStack, thing: Any) -> Any:
    """The thing, closed with the stack."""
    stack.callback(thing.close)
    return thing
