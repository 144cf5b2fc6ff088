"""The batch loop, on a device in host memory that does nothing before it is waited for."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from molre_edge.engines.cuda.batch_loop import SLOTS, SlotLoop
from molre_edge.engines.cuda.device import DeviceError, DeviceMemoryError
from molre_edge.engines.runner import RunResult, run_stream
from molre_edge.specs import TensorSpec

Volume = npt.NDArray[np.float16]
GRID = (2, 3, 4)
VOLUME_BYTES = 24 * 2


class Means:
    """A network: logits are the mean of a volume and its first value; it keeps the batches that it saw."""

    input = TensorSpec("volume", "float16", (None, *GRID))
    outputs = (TensorSpec("logits", "float32", (None, 2)), TensorSpec("embedding", "float32", (None, 3)))

    def __init__(self, scratch: int = 0, why_no_graph: str | None = None) -> None:
        self.scratch, self.seen, self.bound, self.why = scratch, [], 0, why_no_graph

    def bind(self, device: Any, size: int, addresses: Mapping[str, int], stream: Any) -> Any:
        network, memory = self, device.alloc(self.scratch * size) if self.scratch else None

        class Bound:
            def enqueue(self, stream: Any) -> None:
                def work() -> None:
                    arrays = {}
                    for spec in (network.input, *network.outputs):
                        shape = (size, *spec.shape[1:])
                        count = int(np.prod(shape)) * np.dtype(spec.dtype).itemsize
                        raw = (ctypes.c_char * count).from_address(addresses[spec.name])
                        arrays[spec.name] = np.frombuffer(raw, spec.dtype).reshape(shape)
                    volume = arrays["volume"]
                    network.seen.append(volume.copy())
                    flat = volume.reshape(size, -1).astype(np.float32)
                    arrays["logits"][:] = np.stack([flat.mean(1), flat[:, 0]], axis=1)
                    arrays["embedding"][:] = flat[:, :3]

                device.queue(stream, work)

            def why_no_graph(self, stream: Any) -> str | None:
                assert stream.handle
                return network.why

            def close(self) -> None:
                network.bound -= 1
                if memory is not None:
                    memory.close()

        self.bound += 1
        return Bound()


def batches(*sizes: int) -> list[Volume]:
    """Volumes of whole numbers that float16 holds, all different."""
    numbers = itertools.count(1)
    return [np.stack([np.full(GRID, next(numbers), np.float16) for _ in range(size)]) for size in sizes]


def logits_of(volume: Volume) -> list[list[float]]:
    flat = volume.reshape(len(volume), -1).astype(np.float32)
    return [[float(one.mean()), float(one[0])] for one in flat]


def right(results: Iterator[RunResult] | list[RunResult], volumes: list[Volume]) -> bool:
    return [result.outputs.logits.tolist() for result in results] == [logits_of(volume) for volume in volumes]


def loop_on(device: Any, network: Means | None = None, **options: Any) -> SlotLoop:
    return SlotLoop(device, network or Means(), **{"smallest": 1, "largest": 4, **options})


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize(
    "sizes", [(1,), (4,), (1, 1, 1), (4, 4, 4, 4, 2), (2, 4, 1, 3), (9,), (1, 9, 2), (4, 5, 4), (3, 3, 3, 17, 1)]
)
def test_every_batch_gets_its_own_answers_in_order(sizes: tuple[int, ...], graphs: bool, host_device: Any) -> None:
    device, volumes = host_device(), batches(*sizes)
    loop = loop_on(device, graphs=graphs)
    assert right(loop.stream(volumes), volumes)
    assert right([loop.run(volume) for volume in volumes], volumes)
    loop.close()
    device.close()  # which finds what was not freed


def test_a_last_smaller_batch_is_padded_with_its_last_volume_and_needs_no_new_graph(host_device: Any) -> None:
    device, network = host_device(), Means()
    volumes = batches(4, 4, 3)
    loop = loop_on(device, network)
    assert right(loop.stream(volumes), volumes)
    assert [len(seen) for seen in network.seen] == [4] * len(network.seen)
    assert np.array_equal(network.seen[-1][3], volumes[-1][2])
    assert device.captures == SLOTS
    assert loop.facts()["prepared"] == {"4": "CUDA graph"}


def test_a_graph_is_captured_once_for_a_size_and_launched_for_each_batch(host_device: Any) -> None:
    device, network = host_device(), Means()
    loop = loop_on(device, network)
    for volume in batches(*[2] * 10):
        loop.run(volume)
    assert device.captures == 1  # one batch at a time needs one slot
    (graph,) = (thing for thing in device.alive if type(thing).__name__ == "HostGraph")
    assert graph.launches == 10


def test_work_that_can_not_be_captured_is_queued_each_time_and_that_is_told(
    host_device: Any, caplog: pytest.LogCaptureFixture
) -> None:
    volumes = batches(2, 2, 2)
    loop = loop_on(host_device(graphs=False))
    assert right(loop.stream(volumes), volumes)
    (note,) = loop.notes
    assert note == "no CUDA graph for batches of 2: this work can't be captured"
    assert note in caplog.text
    assert loop.facts()["prepared"] == {"2": "this work can't be captured"}


def test_work_of_which_the_library_says_so_is_not_even_captured(host_device: Any) -> None:
    device, volumes = host_device(), batches(2, 2, 2)
    loop = loop_on(device, Means(why_no_graph="it waits while it runs"))
    assert right(loop.stream(volumes), volumes)
    assert device.captures == 0
    assert loop.notes == ["no CUDA graph for batches of 2: it waits while it runs"]
    assert loop.facts()["prepared"] == {"2": "it waits while it runs"}


def test_a_batch_above_the_limit_is_cut_and_its_times_are_added(host_device: Any) -> None:
    network, (volume,) = Means(), batches(10)
    result = loop_on(host_device(), network).run(volume)
    assert right([result], [volume])
    assert [len(seen) for seen in network.seen if seen.any()] == [4, 4, 4]
    assert set(result.milliseconds) == {"to_device", "compute", "from_device"}
    assert all(value > 0 for value in result.milliseconds.values())


def test_a_batch_below_the_engine_s_smallest_is_padded(host_device: Any) -> None:
    network, (volume,) = Means(), batches(1)
    assert right([loop_on(host_device(), network, smallest=3).run(volume)], [volume])
    assert {len(seen) for seen in network.seen} == {3}


def test_out_of_memory_halves_the_batch_goes_on_and_says_so(host_device: Any, caplog: pytest.LogCaptureFixture) -> None:
    # scratch of 1000 bytes a volume: 4 and 2 don't fit twice, and 4 not at all
    device, volumes = host_device(memory=3000), batches(4, 4, 3)
    loop = loop_on(device, Means(scratch=1000))
    assert right(loop.stream(volumes), volumes)
    assert loop.limit == 2
    assert loop.notes[0] == "a batch of 4 does not fit in the GPU's memory (out of memory): batches of 2 are used"
    assert "a second batch of 2 does not fit" in loop.notes[1] and len(loop.notes) == 2
    assert loop.notes[0] in caplog.text
    assert right([loop.run(volumes[0])], volumes[:1])
    loop.close()
    device.close()
    assert device.used == 0


def test_where_the_smallest_batch_does_not_fit_that_is_the_answer_and_nothing_is_left(host_device: Any) -> None:
    device = host_device(memory=1500)
    loop = loop_on(device, Means(scratch=1000), smallest=2)
    with pytest.raises(DeviceMemoryError, match="a batch of 2, the smallest that the engine takes, does not fit"):
        loop.run(batches(4)[0])
    loop.close()
    device.close()


def test_the_next_batch_is_read_and_queued_before_the_last_is_waited_for(host_device: Any) -> None:
    device, network, order = host_device(), Means(), []

    def volumes() -> Iterator[Volume]:
        for number, volume in enumerate(batches(1, 1, 1, 1)):
            order.append(f"read {number}")
            yield volume

    for number, _ in enumerate(loop_on(device, network).stream(volumes())):
        order.append(f"answered {number}")
    assert order.index("read 2") < order.index("answered 0")
    assert order.index("read 3") < order.index("answered 1")
    assert order.index("answered 0") < order.index("read 3")  # and no more than two are on their way


def test_who_stops_early_leaves_no_work_behind(host_device: Any) -> None:
    device = host_device()
    loop = loop_on(device)
    answers = loop.stream(batches(2, 2, 2, 2))
    next(answers)
    answers.close()
    assert not any(thing.work for thing in device.alive if type(thing).__name__ == "HostStream")
    loop.close()  # the streams of the tests refuse to be closed with work in them
    device.close()


def test_a_stream_may_be_dropped_after_all_was_closed(host_device: Any) -> None:
    device = host_device()
    loop = loop_on(device)
    answers = loop.stream(batches(2, 2, 2, 2))
    next(answers)
    loop.close()
    device.close()
    answers.close()  # the device of the tests refuses all work after it was closed


def test_an_error_of_the_source_comes_out_and_leaves_no_work_behind(host_device: Any) -> None:
    def volumes() -> Iterator[Volume]:
        yield from batches(2)
        raise ValueError("a scan that can't be read")

    device = host_device()
    loop = loop_on(device)
    with pytest.raises(ValueError, match="can't be read"):
        list(loop.stream(volumes()))
    assert right([loop.run(*batches(2))], batches(2))
    loop.close()
    device.close()


def test_a_network_that_can_not_be_bound_leaves_nothing(host_device: Any) -> None:
    class Broken(Means):
        def bind(self, *_: Any) -> Any:
            raise DeviceError("no")

    device = host_device()
    with pytest.raises(DeviceError, match="no"):
        loop_on(device, Broken()).run(*batches(1))
    device.close()


def test_runners_without_a_stream_of_their_own_answer_one_by_one() -> None:
    class Plain:
        def run(self, volume: Volume) -> int:
            return len(volume)

    class Streaming(Plain):
        def run_stream(self, volumes: Any) -> Iterator[int]:
            return (10 * len(volume) for volume in volumes)

    assert list(run_stream(Plain(), batches(1, 3))) == [1, 3]  # type: ignore[arg-type]
    assert list(run_stream(Streaming(), batches(1, 3))) == [10, 30]  # type: ignore[arg-type]
