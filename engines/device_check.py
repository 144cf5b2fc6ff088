"""Checks whether a device keeps the contract of :mod:`molre_edge.engines.cuda.device`."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from molre_edge.engines.cuda.device import Device, DeviceError, DeviceMemoryError

__all__ = ["DEVICE_CHECKS"]

_TOO_MUCH = 1 << 50


def copies_come_back_as_they_went(device: Device) -> None:
    """Host to device and back, through pinned memory, for an array of another size than the buffer's granularity."""
    with device.active():
        source, target = device.pinned((3, 1001), np.float16), device.pinned((3, 1001), np.float16)
        source.array[...] = np.arange(3003).reshape(3, 1001)
        target.array[...] = 0
        buffer, stream = device.alloc(source.array.nbytes), device.stream()
        device.h2d(buffer, source.array, stream)
        device.d2h(target.array, buffer, stream)
        stream.synchronize()
        same = np.array_equal(source.array, target.array)
        for thing in (buffer, stream, source, target):
            thing.close()
    _expect(same, "what was copied there and back is not what went")


def a_part_of_a_buffer_can_be_copied(device: Device) -> None:
    """A smaller array than the buffer leaves the rest of it alone."""
    with device.active():
        whole, part = device.pinned((8,), np.float32), device.pinned((3,), np.float32)
        buffer, stream = device.alloc(whole.array.nbytes), device.stream()
        whole.array[...], part.array[...] = 7, 1
        device.h2d(buffer, whole.array, stream)
        device.h2d(buffer, part.array, stream)
        device.d2h(whole.array, buffer, stream)
        stream.synchronize()
        found = whole.array.tolist()
        for thing in (buffer, stream, whole, part):
            thing.close()
    _expect(found == [1, 1, 1, 7, 7, 7, 7, 7], f"found {found}")


def a_copy_that_would_go_wrong_in_silence_is_refused(device: Device) -> None:
    """Arrays that are not contiguous, or larger than the buffer."""
    with device.active():
        buffer, stream = device.alloc(16), device.stream()
        refused = 0
        for array in (np.zeros((4, 4), np.float32)[:, :1], np.zeros(5, np.float32)):
            try:
                device.h2d(buffer, array, stream)
            except ValueError:
                refused += 1
        stream.synchronize()
        buffer.close()
        stream.close()
    _expect(refused == 2, f"{2 - refused} of 2 wrong copies were taken")


def events_take_the_time(device: Device) -> None:
    """Milliseconds between two marks are finite and not negative, and grow with the work between them."""
    one, twenty = [], []
    with device.active():
        host, stream = device.pinned((1 << 22,), np.uint8), device.stream()
        buffer, marks = device.alloc(host.array.nbytes), [device.event() for _ in range(3)]
        for _ in range(5):  # others may be at work too: the shortest counts
            marks[0].record(stream)
            device.h2d(buffer, host.array, stream)
            marks[1].record(stream)
            for _ in range(20):
                device.h2d(buffer, host.array, stream)
            marks[2].record(stream)
            stream.synchronize()
            one.append(marks[1].ms_since(marks[0]))
            twenty.append(marks[2].ms_since(marks[1]))
        for mark in marks:
            mark.close()
        for thing in (buffer, stream, host):
            thing.close()
    _expect(0 <= min(one) < min(twenty) < 60_000, f"one copy took {min(one)} ms, twenty took {min(twenty)} ms")


def a_graph_runs_when_it_is_launched_and_not_before(device: Device) -> None:
    """Captured copies don't run; each launch runs them on what the memory holds then."""
    with device.active():
        source, target = device.pinned((5,), np.int32), device.pinned((5,), np.int32)
        buffer, stream = device.alloc(source.array.nbytes), device.stream()
        source.array[...], target.array[...] = 1, 0

        def work() -> None:
            device.h2d(buffer, source.array, stream)
            device.d2h(target.array, buffer, stream)

        graph = device.capture(stream, work)
        stream.synchronize()
        found = [int(target.array[0])]
        for value in (2, 3):
            source.array[...] = value
            graph.launch(stream)
            stream.synchronize()
            found.append(int(target.array[-1]))
        for thing in (graph, buffer, stream, source, target):
            thing.close()
    _expect(found == [0, 2, 3], f"expected 0 before the launches, then 2 and 3; got {found}")


def a_failure_within_a_capture_leaves_the_stream_usable(device: Device) -> None:
    """The error of the captured work comes out, and the stream takes work again."""

    def work() -> None:
        raise DeviceError("on purpose")

    with device.active():
        stream, host = device.stream(), device.pinned((2,), np.int32)
        buffer = device.alloc(host.array.nbytes)
        told = ""
        try:
            device.capture(stream, work)
        except DeviceError as error:
            told = str(error)
        device.h2d(buffer, host.array, stream)
        stream.synchronize()
        for thing in (buffer, stream, host):
            thing.close()
    _expect(told == "on purpose", f"the error was {told!r}")


def too_much_memory_is_refused_by_name(device: Device) -> None:
    """A petabyte is :class:`DeviceMemoryError`, and the device works afterwards."""
    with device.active():
        try:
            device.alloc(_TOO_MUCH).close()
            refused = False
        except DeviceMemoryError:
            refused = True
        device.alloc(1024).close()
    _expect(refused, "a petabyte was given")


def memory_comes_back_when_it_is_closed(device: Device) -> None:
    """Free memory is the same before and after sixteen times 64 MiB, taken one after the other."""
    with device.active():
        device.alloc(64 << 20).close()
        before = device.free_memory()
        for _ in range(16):
            device.alloc(64 << 20).close()
        lost = before - device.free_memory()
    _expect(lost < (64 << 20), f"{lost >> 20} MiB did not come back")


def another_thread_can_use_it(device: Device) -> None:
    """What one thread made, another uses and closes, within its own ``active``."""
    with device.active():
        stream, host = device.stream(), device.pinned((4,), np.float32)
        buffer = device.alloc(host.array.nbytes)
    errors: list[BaseException] = []

    def other() -> None:
        try:
            with device.active():
                host.array[...] = 5
                device.h2d(buffer, host.array, stream)
                stream.synchronize()
                buffer.close()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    with device.active():
        stream.close()
        host.close()
    _expect(not errors, f"{errors}")


def blocks_can_be_nested(device: Device) -> None:
    """``active`` within ``active`` leaves the outer one in force."""
    with device.active():
        with device.active():
            device.alloc(16).close()
        device.alloc(16).close()


DEVICE_CHECKS: tuple[Callable[[Device], None], ...] = (
    copies_come_back_as_they_went,
    a_part_of_a_buffer_can_be_copied,
    a_copy_that_would_go_wrong_in_silence_is_refused,
    events_take_the_time,
    a_graph_runs_when_it_is_launched_and_not_before,
    a_failure_within_a_capture_leaves_the_stream_usable,
    too_much_memory_is_refused_by_name,
    memory_comes_back_when_it_is_closed,
    another_thread_can_use_it,
    blocks_can_be_nested,
)
"""Each raises AssertionError with what it found, or an error of the device."""


def _expect(right: bool, told: str) -> None:
    if not right:
        raise AssertionError(told)
