"""The device layer on a real GPU: its contract, copies beside a plain kernel, a graph of it."""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from report import CanNotRunError, Report
from steps import Step

from molre_edge.engines.cuda.batch_loop import SlotLoop
from molre_edge.engines.cuda.device import BACKENDS, Device, DeviceError, Stream, open_device
from molre_edge.engines.cuda.driver import error_text, load_libcuda
from molre_edge.engines.device_check import DEVICE_CHECKS
from molre_edge.errors import EngineError
from molre_edge.specs import TensorSpec

PTX = b"""
.version 6.3
.target sm_75
.address_size 64
.visible .entry count_up(.param .u64 in, .param .u64 out, .param .u32 size, .param .u32 turns)
{
    .reg .pred %p<3>;
    .reg .f32 %f<2>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [in];
    ld.param.u64 %rd2, [out];
    ld.param.u32 %r1, [size];
    ld.param.u32 %r2, [turns];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r6, %r1;
    @%p1 bra END;
    cvta.to.global.u64 %rd1, %rd1;
    cvta.to.global.u64 %rd2, %rd2;
    ld.global.f32 %f1, [%rd1];
    mov.u32 %r7, 0;
LOOP:
    setp.ge.u32 %p2, %r7, %r2;
    @%p2 bra DONE;
    add.rn.f32 %f1, %f1, 0f3F800000;
    add.u32 %r7, %r7, 1;
    bra LOOP;
DONE:
    mul.wide.u32 %rd3, %r6, 4;
    add.s64 %rd4, %rd2, %rd3;
    st.global.f32 [%rd4], %f1;
END:
    ret;
}
\0"""
"""out[i] = in[0] + turns, by as many additions; exact below 2^24."""

VOLUMES = 24
COPIED, ROUNDS = 8 << 20, 20
_THREADS = 128


class CountUp:
    """A network that is one kernel: every output is the first value of the input, plus `turns`."""

    input = TensorSpec("volume", "float32", (None, 16, 512, 512))
    outputs = (TensorSpec("logits", "float32", (None, 75)), TensorSpec("embedding", "float32", (None, 768)))

    def __init__(self, turns: int) -> None:
        """Load the kernel into the current context."""
        self.turns, self._cu = turns, load_libcuda()
        self._module, self._kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(self._module), PTX)
        self._call("cuModuleGetFunction", ctypes.byref(self._kernel), self._module, b"count_up")

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._cu, name)(*arguments):
            raise DeviceError(f"{name}: {error_text(self._cu, code)}")

    def bind(self, device: Device, size: int, addresses: Mapping[str, int], stream: Stream) -> Any:
        """One launch an output."""
        network = self

        class Bound:
            def enqueue(self, stream: Stream) -> None:
                for spec in network.outputs:
                    count = size * int(spec.shape[1] or 0)
                    values = (
                        ctypes.c_uint64(addresses["volume"]),
                        ctypes.c_uint64(addresses[spec.name]),
                        ctypes.c_uint32(count),
                        ctypes.c_uint32(network.turns),
                    )
                    pointers = (ctypes.c_void_p * 4)(*(ctypes.addressof(value) for value in values))
                    blocks = -(-count // _THREADS)
                    grid = (ctypes.c_uint(n) for n in (blocks, 1, 1, _THREADS, 1, 1, 0))
                    handle = ctypes.c_void_p(stream.handle)
                    network._call("cuLaunchKernel", network._kernel, *grid, handle, pointers, None)

            def why_no_graph(self, stream: Stream) -> str | None:
                return None

            def close(self) -> None:
                pass

        return Bound()

    def close(self) -> None:
        """Unload the kernel."""
        self._call("cuModuleUnload", self._module)


def contract(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """The contract, on both backends."""
    for backend in BACKENDS:
        for check in DEVICE_CHECKS:
            report.check(f"{backend}: {check.__name__.replace('_', ' ')}", lambda b=backend, c=check: _kept(b, c))


def copies(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """Copies beside a kernel, on both backends."""
    for backend in BACKENDS:
        report.check(f"{backend}: copies beside a kernel, and its graph", lambda b=backend: overlap(b))


def bandwidth(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """What the copies of a batch cost, on both backends."""
    for backend in BACKENDS:
        report.check(f"{backend}: what copies cost", lambda b=backend: copy_rates(b))


def backend_open(backend: str | None) -> Device:
    """A device.

    Raises:
        CanNotRunError: the backend is not installed.
    """
    try:
        return open_device(backend)
    except EngineError as error:
        if "can be loaded" in str(error):
            raise CanNotRunError(str(error)) from error
        raise


def _kept(backend: str, check: Any) -> dict[str, Any]:
    device = backend_open(backend)
    check(device)
    device.close()
    return {"backend": device.backend}


def overlap(backend: str) -> dict[str, Any]:
    """Times of the same volumes one by one and as a stream, with and without a graph; their answers are checked."""
    device = backend_open(backend)
    volumes = [np.full((1, 16, 512, 512), number, np.float16) for number in range(VOLUMES)]
    figures: dict[str, Any] = {"backend": device.backend}
    with device.active():
        network = CountUp(1)
    network.turns = _turns(device, network, volumes[0])
    for graphs in (False, True):
        loop = SlotLoop(device, network, smallest=1, largest=1, graphs=graphs)
        list(loop.stream(volumes[:4]))
        start = time.perf_counter()
        single = [loop.run(volume) for volume in volumes]
        middle = time.perf_counter()
        stream = list(loop.stream(volumes))
        end = time.perf_counter()
        for results in (single, stream):
            for number, result in enumerate(results):
                if not (result.outputs.logits == number + network.turns).all():
                    got = result.outputs.logits[0, :3]
                    raise AssertionError(f"volume {number}: {got}, expected {number + network.turns}")
        how = "with graph" if graphs else "without graph"
        phases = {
            name: round(float(np.median([result.milliseconds[name] for result in single])), 3)
            for name in single[0].milliseconds
        }
        one, streamed = (1e3 * seconds / VOLUMES for seconds in (middle - start, end - middle))
        figures[how] = {
            "one by one, ms": round(one, 3),
            "as a stream, ms": round(streamed, 3),
            "ratio": round(streamed / one, 3),
            "phases, ms": phases,
            "captured": loop.facts()["prepared"].get("1"),
        }
        loop.close()
    with device.active():
        network.close()
    device.close()
    return figures


def copy_rates(backend: str) -> dict[str, Any]:
    """GB/s of filling page-locked memory from ordinary memory, and of copies from it to the GPU and back."""
    device = backend_open(backend)
    figures: dict[str, Any] = {"backend": device.backend, "MB": COPIED / 1e6}
    with device.active():
        host, stream = device.pinned((COPIED,), np.uint8), device.stream()
        buffer, marks = device.alloc(COPIED), [device.event() for _ in range(3)]
        plain = np.random.default_rng(0).integers(0, 256, COPIED, np.uint8)
        filled, there, back = [], [], []
        for turn in range(-2, ROUNDS):
            start = time.perf_counter()
            host.array[...] = plain
            seconds = time.perf_counter() - start
            marks[0].record(stream)
            device.h2d(buffer, host.array, stream)
            marks[1].record(stream)
            device.d2h(host.array, buffer, stream)
            marks[2].record(stream)
            stream.synchronize()
            if turn >= 0:
                filled.append(seconds)
                there.append(1e-3 * marks[1].ms_since(marks[0]))
                back.append(1e-3 * marks[2].ms_since(marks[1]))
        same = np.array_equal(host.array, plain)
        start = time.perf_counter()
        copied = plain.copy()
        seconds = time.perf_counter() - start
        for thing in (*marks, buffer, stream, host):
            thing.close()
    device.close()
    if not same or copied[0] != plain[0]:
        raise AssertionError("what came back is not what went")
    for name, values in (("fill", filled), ("to the GPU", there), ("from the GPU", back), ("plain copy", [seconds])):
        figures[f"{name}, GB/s"] = round(COPIED / 1e9 / float(np.median(values)), 2)
    return figures


def _turns(device: Device, network: CountUp, volume: Any) -> int:
    """So many turns that the kernel takes about as long as the copies."""
    loop = SlotLoop(device, network, smallest=1, largest=1, graphs=False)
    network.turns = 1 << 18
    loop.run(volume)
    times = loop.run(volume).milliseconds
    loop.close()
    scale = (times["to_device"] + times["from_device"]) / max(times["compute"], 1e-3)
    return int(min(max(network.turns * scale, 1 << 10), 1 << 23))


DEVICE_STEPS = (
    Step("device", "contract", 90, contract),
    Step("device", "overlap", 90, copies),
    Step("device", "bandwidth", 60, bandwidth),
)
