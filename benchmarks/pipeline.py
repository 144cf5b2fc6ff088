"""End-to-end throughput of `infer` against the bare engine, and its memory over many scans.

    python benchmarks/pipeline.py WORK --bundle BUNDLE --scans 40 --rounds 3 --readers 0 1 2 --threads 1
    python benchmarks/pipeline.py WORK --bundle BUNDLE --scans 1000 --rounds 1 --readers 1 --memory

Each round measures, one after the other: the bare engine (a prepared volume, again and again, for as long as it takes
to answer `--scans`), threads that read ahead in this process, and the run as the command does it, with each number of
readers. Ratios are of one round; their median and range are reported, since times on shared cores drift. Scans are
links to a few synthetic heads, so reading comes from the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.choice import choose_engine
from molre_edge.engines.runner import Runner
from molre_edge.machine import usable_cores
from molre_edge.parity import DEFAULT_LIMITS
from molre_edge.runs.context import RunContext
from molre_edge.runs.reference import Reference
from molre_edge.runs.run import run_scans
from molre_edge.runs.store import RunStore, Task
from molre_edge.scans import ScanSource, find_scans
from molre_edge.scans.workers.prepare import Prepared, prepare
from molre_edge.specs import Precision
from molre_edge.synthetic import make_head, write_dicom_series


def make_scans(folder: Path, count: int, shape: tuple[int, int, int]) -> None:
    """`count` studies of CT slices; beyond the first four, the same pixels under other UIDs."""
    import pydicom
    from pydicom.uid import generate_uid

    for number in range(min(count, 4)):
        if not (folder / f"scan-{number:05d}").exists():
            write_dicom_series(make_head(number, shape=shape), folder / f"scan-{number:05d}")
    for number in range(4, count):
        target = folder / f"scan-{number:05d}"
        if target.exists():
            continue
        target.mkdir()
        study, series = generate_uid(), generate_uid()
        for path in sorted((folder / f"scan-{number % 4:05d}").iterdir()):
            dataset = pydicom.dcmread(path)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.save_as(target / path.name)


def bare(runner: Runner, volume: Any, count: int) -> float:
    """Seconds a scan of the engine alone."""
    start = time.perf_counter()
    for _ in range(count):
        runner.run(volume)
    return (time.perf_counter() - start) / count


def with_threads(runner: Runner, sources: tuple[ScanSource, ...], bundle: Bundle, count: int) -> float:
    """Seconds a scan when threads of this process read ahead: what the processes were weighed against."""
    with ThreadPoolExecutor(count) as pool:
        start = time.perf_counter()
        begun = deque(pool.submit(prepare, source, bundle.grid) for source in sources[: count + 1])
        for source in (*sources[count + 1 :], *[None] * min(len(sources), count + 1)):
            found = begun.popleft().result()
            if source is not None:
                begun.append(pool.submit(prepare, source, bundle.grid))
            assert isinstance(found, Prepared)
            runner.run(found.volume[None])
        return (time.perf_counter() - start) / len(sources)


def whole_run(runner: Runner, scans: Path, bundle: Bundle, out: Path, readers: int) -> float:
    """Seconds a scan of the run's loop, from its first answer on: the mean of `interval` without the first."""
    store = RunStore.create(out, Task(bundle.digest, runner.name, "none", Task.hide(scans), False))
    context = RunContext(
        scans=scans,
        bundle=bundle,
        runner=runner,
        reference=Reference("none", "not asked for"),
        limits=DEFAULT_LIMITS[runner.precision],
        readers=readers,
    )
    result = run_scans(store, context)
    assert not result.rejected, result.rejected
    lines = (result.folder / "findings.jsonl").read_text().splitlines()
    intervals = [json.loads(line)["milliseconds"]["interval"] for line in lines]
    return statistics.mean(intervals[1:]) / 1e3


class Memory:
    """Samples the resident memory of this process twice a second."""

    def __init__(self) -> None:
        """Start."""
        self.mib: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._end.wait(0.5):
            self.mib.append(int(Path("/proc/self/statm").read_text().split()[1]) * page / 2**20)

    def quarters(self) -> list[float]:
        """The highest of each quarter of the time."""
        self._end.set()
        step = max(len(self.mib) // 4, 1)
        return [round(max(self.mib[i * step : (i + 1) * step]), 1) for i in range(4) if self.mib[i * step :]]


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=None, help="of the engine")
    parser.add_argument("--precision", type=Precision, default=Precision.FP32)
    parser.add_argument("--shape", type=int, nargs=3, default=(32, 512, 512))
    parser.add_argument("--memory", action="store_true", help="sample memory during the last run")
    options = parser.parse_args()
    scans = options.work / f"scans-{options.scans}-{'x'.join(map(str, options.shape))}"
    make_scans(scans, options.scans, tuple(options.shape))
    bundle = Bundle.open(options.bundle).select()
    sources = find_scans(scans).scans
    seconds: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    memory = None
    with choose_engine(f"onnxruntime:{options.precision}", bundle, threads=options.threads).runner as runner:
        found = prepare(sources[0], bundle.grid)
        assert isinstance(found, Prepared)
        bare(runner, found.volume[None], 3)
        for number in range(options.rounds):
            times = {"bare engine": bare(runner, found.volume[None], options.scans)}
            if not options.memory:
                times["1 thread reads ahead"] = with_threads(runner, sources, bundle, 1)
            for readers in options.readers:
                out = options.work / f"run-{os.getpid()}-{number}-{readers}"
                memory = Memory() if options.memory else None
                times[f"run, {readers} readers"] = whole_run(runner, scans, bundle, out, readers)
            times["bare engine, again"] = bare(runner, found.volume[None], options.scans)
            engine = (times["bare engine"] + times["bare engine, again"]) / 2
            for name, value in times.items():
                seconds.setdefault(name, []).append(value)
                ratios.setdefault(name, []).append(engine / value)
        facts = runner.facts
    result = {
        "cores": usable_cores(),
        "scans": options.scans,
        "shape": list(options.shape),
        "engine": facts,
        "read and geometry alone, ms": [round(found.read_ms), round(found.geometry_ms)],
        "ms a scan": {name: [round(1e3 * value, 1) for value in values] for name, values in seconds.items()},
        "throughput over the bare engine's": {
            name: {"median": round(statistics.median(values), 3), "all": [round(value, 3) for value in values]}
            for name, values in ratios.items()
        },
    }
    if memory is not None:
        result["highest MiB of each quarter"] = memory.quarters()
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
