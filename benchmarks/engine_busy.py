"""How busy a run keeps an engine that is a little slower than its readers, and where the rest of the time goes.

    python benchmarks/engine_busy.py WORK --bundle BUNDLE --scans 40 --readers 1 --rounds 3

The engine is simulated, since its speed has to follow the readers': it sleeps, so it takes no core from them, and
answers with zeros. In each round the readers alone are timed first (seconds a volume, all of them together), then runs
as the command makes them, whose engine takes `--slower` times as long for a volume: one that answers a volume before it
takes the next (as ONNX Runtime does), and one with two slots (as TensorRT's runner). Busy is the engine's time over the
time from its first volume to its last answer. The readers are timed again afterwards: on shared cores their speed
drifts, and a run can't keep an engine busy that has become faster than its readers.

Of an engine that takes one volume at a time, it is also said where the rest of the time went: to the sleeping thread,
which a busy core wakes late, so that the engine takes longer than it should (no engine on the same cores loses that,
since it computes instead of sleeping); and to the run, from an answer to the next volume, with the median.

`--steady` has each reader sleep instead of read, for as long as a real scan took, and hand over the same volume. Then
the readers' speed does not drift, and what is left is the run's own: handing over volumes, storing answers, the loop.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pipeline import make_scans

from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.engines.runner import RunResult
from molre_edge.machine import usable_cores
from molre_edge.parity import DEFAULT_LIMITS, Outputs
from molre_edge.runs.context import RunContext
from molre_edge.runs.reference import Reference
from molre_edge.runs.run import run_scans
from molre_edge.runs.store import RunStore, Task
from molre_edge.scans import ScanSource, find_scans
from molre_edge.scans.workers import start as starting
from molre_edge.scans.workers.pool import Readers
from molre_edge.specs import Grid, Precision, TensorSpec

STEADY = """
import time
from molre_edge.scans.workers import worker
from molre_edge.scans.workers.prepare import prepare

kept = []

def steady(source, grid):
    start = time.perf_counter()
    if not kept:
        kept.append(prepare(source, grid))
        return kept[0]
    time.sleep(max(0.0, SECONDS - (time.perf_counter() - start)))
    return kept[0]

worker.prepare = steady
"""


class Engine:
    """A simulated engine: busy for a fixed time a volume, on a device of its own.

    Attributes:
        seconds: for a volume.
        busy: seconds in all.
        start, end: of the first volume's work and of the last one's.
        late: seconds that answers came late, since the thread that slept was woken late.
        between: seconds from each answer to the next volume.
    """

    precision = Precision.FP32
    output_specs: tuple[TensorSpec, ...] = ()

    def __init__(self, bundle: Bundle, grid: Grid, seconds: float) -> None:
        """Take the answers' shape from a bundle."""
        self.name = "simulated:fp32"
        self.seconds, self.busy, self.start, self.end = seconds, 0.0, 0.0, 0.0
        self.late, self.between = 0.0, list[float]()
        self.input_spec = TensorSpec("volume", "float32", (None, *grid.shape))
        self._outputs = Outputs(np.zeros((1, len(bundle.findings)), np.float32), np.zeros((1, 8), np.float32))
        self._warm, self._answered = False, 0.0

    @property
    def facts(self) -> dict[str, Any]:
        """None that matter."""
        return {"runtime": "none", "version": "0", "device": "simulated"}

    def run(self, volume: npt.NDArray[np.float16]) -> RunResult:
        """Sleep, but not in the warm-up."""
        if not self._warm:
            self._warm = True
            return self._result()
        if self.start:
            self.between.append(time.perf_counter() - self._answered)
        self._wait(until := self._queue())
        self._answered = time.perf_counter()
        self.late += self._answered - until
        return self._result()

    def _queue(self) -> float:
        """Give the device a volume now; when it will be done."""
        begin = max(time.perf_counter(), self.end)
        self.start = self.start or begin
        self.busy += self.seconds
        self.end = begin + self.seconds
        return self.end

    def _wait(self, until: float) -> None:
        time.sleep(max(0.0, until - time.perf_counter()))

    def _result(self) -> RunResult:
        return RunResult(self._outputs, {"to_device": 0.0, "compute": 1e3 * self.seconds, "from_device": 0.0})

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to free."""


class TwoSlots(Engine):
    """The same with two slots: a volume is queued while the one before is computed."""

    def run_stream(self, volumes: Iterable[npt.NDArray[np.float16]]) -> Iterator[RunResult]:
        """As :meth:`molre_edge.engines.cuda.batch_loop.SlotLoop.stream` goes about it."""
        queued: deque[float] = deque()
        for _ in volumes:
            if len(queued) == 2:
                self._wait(queued.popleft())
                queued.append(self._queue())
                yield self._result()
            else:
                queued.append(self._queue())
        while queued:
            self._wait(queued.popleft())
            yield self._result()


class OnGrid(Bundle):
    """A bundle as if its model read another grid; the golden volumes stay."""

    def golden(self) -> GoldenSet:
        """Those of the bundle."""
        return Bundle.open(self.folder).golden()


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    work: Path
    bundle: Bundle
    scans: Path
    sources: tuple[ScanSource, ...]
    readers: int
    slower: float


def alone(plan: Plan) -> float:
    """Seconds a volume of the readers with nobody behind them, their start left out."""
    with Readers(plan.bundle.grid, plan.readers) as ahead:
        results = ahead.read(plan.sources)
        for _ in range(2 * plan.readers):
            next(results)
        start, count = time.perf_counter(), 0
        for read in results:
            assert not isinstance(read, Exception), read
            count += 1
        return (time.perf_counter() - start) / count


def busy(plan: Plan, kind: type[Engine], seconds: float) -> dict[str, Any]:
    """A run with a simulated engine: how busy it was, and what a scan cost."""
    out = plan.work / "run"
    shutil.rmtree(out, ignore_errors=True)
    engine = kind(plan.bundle, plan.bundle.grid, seconds)
    context = RunContext(
        scans=plan.scans,
        bundle=plan.bundle,
        runner=engine,
        reference=Reference("none", "not asked for"),
        limits=DEFAULT_LIMITS[Precision.FP32],
        readers=plan.readers,
    )
    task = Task(plan.bundle.digest, engine.name, "none", Task.hide(plan.scans), False)
    result = run_scans(RunStore.create(out, task), context)
    assert len(result.scans) == len(plan.sources) and not result.rejected
    whole = engine.end - engine.start
    figures = {"busy": round(engine.busy / whole, 4)}
    if engine.between:
        figures["woken late"] = round(engine.late / whole, 4)
        figures["from answer to volume"] = round(sum(engine.between) / whole, 4)
        figures["from answer to volume, median ms"] = round(1e3 * statistics.median(engine.between), 2)
    return figures


@contextmanager
def steadily(seconds: float) -> Iterator[None]:
    """Within the block, readers that are started sleep so long for a scan after their first one."""
    code = STEADY.replace("SECONDS", repr(seconds))

    class Changed:
        PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

        @staticmethod
        def Popen(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
            """Start a reader that sleeps."""
            changed = words[-1].replace("\nserve(", f"\n{code}\nserve(", 1)
            assert changed != words[-1] or "finder" in changed, "the readers would not sleep"
            return subprocess.Popen([*words[:-1], changed], **options)

    starting.subprocess = Changed  # type: ignore[attr-defined, assignment]
    try:
        yield
    finally:
        starting.subprocess = subprocess  # type: ignore[attr-defined]


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--shape", type=int, nargs=3, default=(40, 512, 512))
    parser.add_argument("--grid", type=int, nargs=3, default=(32, 224, 224), help="of the model that is simulated")
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slower", type=float, default=1.1, help="engine's time over the readers'")
    parser.add_argument("--steady", type=float, metavar="SECONDS", help="readers sleep so long instead of reading")
    options = parser.parse_args()
    scans = options.work / f"scans-{options.scans}-{'x'.join(map(str, options.shape))}"
    make_scans(scans, options.scans, tuple(options.shape))
    real = Bundle.open(options.bundle)
    grid = replace(real.grid, slices=options.grid[0], rows=options.grid[1], cols=options.grid[2])
    bundle = OnGrid(**{**vars(real), "grid": grid})
    plan = Plan(options.work, bundle, scans, find_scans(scans).scans, options.readers, options.slower)
    rounds = []
    with ExitStack() as stack:
        if options.steady is not None:
            stack.enter_context(steadily(options.steady))
        for _ in range(options.rounds):
            seconds = alone(plan)
            row: dict[str, Any] = {"readers alone, ms a volume": round(1e3 * seconds, 1)}
            for name, kind in (("one at a time", Engine), ("two slots", TwoSlots)):
                row[name] = busy(plan, kind, plan.slower * seconds)
            row["readers alone, again"] = round(1e3 * alone(plan), 1)
            rounds.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    names = ("one at a time", "two slots")
    result = {
        "cores": usable_cores(),
        "scans": options.scans,
        "readers": options.readers,
        "steady": options.steady,
        "rounds": rounds,
        "busy, median": {name: statistics.median(row[name]["busy"] for row in rounds) for name in names},
    }
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
