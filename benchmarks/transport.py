"""What it costs to hand a volume from one process to another: through a pipe, or through shared memory.

    python benchmarks/transport.py --mib 3.0625 --count 300 --rounds 5

The writer copies a volume it holds, as a reader does with a resampled one; the receiver gets an array of its own. Four
ways in turn in each round: the pipe as it is, a pipe of 1 MiB (Linux's largest without privileges), a file in memory
(memfd) that both map, copied out, and the same without the copy. Milliseconds a volume: wall time, and the CPU time of
the receiving process, in which the engine's loop runs.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import mmap
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

WRITER = """
import mmap, os, sys
import numpy as np
size, shared = int(sys.argv[1]), int(sys.argv[2])
values = np.full(size // 2, 1.5, dtype="<f2")
out = os.fdopen(os.dup(1), "wb")
mapped = None if shared < 0 else np.frombuffer(mmap.mmap(shared, size), "<f2")
while sys.stdin.buffer.read(1):
    if mapped is None:
        out.write(values.data.cast("B"))
    else:
        mapped[:] = values
        out.write(b"x")
    out.flush()
"""


def measure(way: str, size: int, count: int) -> tuple[float, float]:
    """Milliseconds a volume: wall time, and this process's CPU time."""
    shared = os.memfd_create("volume") if way.startswith("shared") else -1
    if shared >= 0:
        os.ftruncate(shared, size)
    words = [sys.executable, "-c", WRITER, str(size), str(shared)]
    keep = (shared,) if shared >= 0 else ()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=keep) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        if way == "pipe of 1 MiB":
            fcntl.fcntl(writer.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)
        view = memoryview(mmap.mmap(shared, size)) if shared >= 0 else memoryview(b"")
        ask, take = writer.stdin, writer.stdout
        ways: dict[str, Callable[[], bytes | memoryview]] = {
            "pipe": lambda: take.read(size),
            "pipe of 1 MiB": lambda: take.read(size),
            "shared, copied": lambda: bytes(view) if take.read(1) else b"",
            "shared, in place": lambda: view if take.read(1) else b"",
        }
        for number in range(count + 5):
            if number == 5:
                wall, cpu = time.perf_counter(), time.process_time()
            ask.write(b"x")
            ask.flush()
            values = np.frombuffer(ways[way](), "<f2")
            assert values[-1] == 1.5
        spent = 1e3 * (time.perf_counter() - wall) / count, 1e3 * (time.process_time() - cpu) / count
        ask.close()
    return spent


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=float, default=2 * 32 * 224 * 224 / 2**20, help="of a volume")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = 2 * round(options.mib * 2**19)
    ways = ("pipe", "pipe of 1 MiB", "shared, copied", "shared, in place")
    every: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            every[way].append(measure(way, size, options.count))
    table = {
        way: {name: round(statistics.median(row[i] for row in rows), 2) for i, name in enumerate(("wall", "cpu"))}
        for way, rows in every.items()
    }
    json.dump({"mib": options.mib, "milliseconds a volume, medians": table}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
