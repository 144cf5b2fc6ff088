"""What a run itself costs for each study, at several sizes: time and memory must not grow with the number of studies.

    python benchmarks/large_runs.py WORK --bundle BUNDLE --sizes 1000 10000 100000 --out RESULTS.json
    python benchmarks/large_runs.py WORK --report 100000

Measured is everything but reading pixels and the engine, which cost the same for each study by nature: looking for
scans, ids, storing answers, results, resuming, and merging two shards. Studies are NIfTI files, links to one synthetic
head; each is stored with the answer that the engine really gave to that head. Each size runs in a process of its own,
whose peak memory is that of the size. CPU seconds are reported beside wall seconds, as cores may be shared.

``--report N`` writes a parity report over N volumes of 75 findings with drawn answers, a tenth of the scans refused and
a third with warnings, and says how large its files are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.choice import choose_engine
from molre_edge.findings import default_findings
from molre_edge.parity import DEFAULT_LIMITS, Outputs, compare, judge
from molre_edge.reports.parity_report import BundleFacts, EngineFacts, FailedScan, ReferenceFacts, Report
from molre_edge.reports.write import write_report
from molre_edge.runs.answers import Record
from molre_edge.runs.circumstances import Circumstances
from molre_edge.runs.conclude import write_results
from molre_edge.runs.context import RunContext
from molre_edge.runs.merge import merge_shards
from molre_edge.runs.reference import Reference
from molre_edge.runs.scan_ids import IdSecret
from molre_edge.runs.store import RunStore, Task
from molre_edge.scans import find_scans
from molre_edge.scans.workers.prepare import Prepared, prepare
from molre_edge.specs import Precision
from molre_edge.synthetic import make_head, write_nifti

PER_FOLDER = 1000
TASK = Task(bundle="b", engine="onnxruntime:fp32", reference="none", scans="s", all_series=False)


def make_studies(folder: Path, count: int) -> None:
    """`count` studies, a thousand a folder: links to one head of 12 slices of 96 x 96."""
    head = folder.parent / "head.nii.gz"
    if not head.exists():
        write_nifti(make_head(1, shape=(12, 96, 96)), head)
    for number in range(count):
        path = folder / f"{number // PER_FOLDER:04d}" / f"study-{number:07d}.nii.gz"
        if number % PER_FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            try:
                os.link(head, path)
            except OSError:  # file systems limit the links of a file
                head = Path(shutil.copyfile(head, folder.parent / f"head-{number}.nii.gz"))
                os.link(head, path)


class Phases:
    """Seconds by phase, and the peak memory when it ended."""

    def __init__(self) -> None:
        """Hold none."""
        self.rows: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure the block."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.rows[name] = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "peak_mib": peak,
        }


def measure(work: Path, bundle_folder: Path, count: int) -> dict[str, Any]:
    """One size: all phases, and the sizes of what is left."""
    bundle = Bundle.open(bundle_folder).select()
    scans, run = work / f"scans-{count}", work / f"run-{count}"
    make_studies(scans, count)
    phases = Phases()
    with choose_engine("onnxruntime:fp32", bundle).runner as runner:
        context = RunContext(
            scans=scans,
            bundle=bundle,
            runner=runner,
            reference=Reference("none", "this benchmark compares nothing"),
            limits=DEFAULT_LIMITS[Precision.FP32],
        )
        how = Circumstances.of(context)
        with phases("find"):
            found = find_scans(scans)
        read = prepare(found.scans[0], bundle.grid)
        assert isinstance(read, Prepared)
        result = runner.run(read.volume[None])
    answer = Record("", result.outputs, None, {**result.milliseconds, "read": read.read_ms}, facts=read.facts)

    store = RunStore.create(run, TASK)
    with phases("begin"):
        todo = store.enter(found, scans)
        store.begin()
    with phases("store"):
        for entry, _ in todo[: count // 2]:
            store.add(entry, replace(answer, scan=entry.scan), read.slices)
    store.close()
    with phases("resume"):
        store = RunStore.resume(run, TASK)
        todo = store.enter(found, scans)
        store.begin()
    assert len(todo) == count - count // 2
    with phases("store the rest"):
        for entry, _ in todo:
            store.add(entry, replace(answer, scan=entry.scan), read.slices)
    with phases("results"):
        assert len(write_results(store, how, golden=None, labels={}).scans) == count
    store.close()
    secret, shards = IdSecret.new(), [work / f"shard-{count}-{i}" for i in (1, 2)]
    for i, folder in enumerate(shards, start=1):
        store = RunStore.create(folder, replace(TASK, shard=f"{i}/2"), secret)
        todo = store.enter(found, scans)
        store.begin()
        for entry, _ in todo:
            store.add(entry, replace(answer, scan=entry.scan), read.slices)
        write_results(store, how, golden=None, labels={})
        store.close()
    with phases("merge 2 shards"):
        assert len(merge_shards(shards, work / f"merged-{count}").scans) == count
    kib = {name: (run / name).stat().st_size // 1024 for name in ("report.html", "report.json", "scans.csv")}
    for folder in (*shards, run, work / f"merged-{count}", scans):
        shutil.rmtree(folder)
    return {"studies": count, "phases": phases.rows, "kib": kib}


def measure_report(work: Path, count: int) -> dict[str, Any]:
    """A report over many volumes whose answers are drawn: comparing, and writing."""
    rng, names = np.random.default_rng(1), tuple(each.name for each in default_findings())
    secret = IdSecret.new()
    scans = [secret.scan_id(f"study-{i}", f"study-{i}/1.dcm") for i in range(count + count // 10)]
    gates = rng.dirichlet(np.ones(4, dtype=np.float32), size=(count, 1, 2)).astype(np.float32)
    logits = rng.normal(-2, 2, size=(count, len(names))).astype(np.float32)
    reference = Outputs(logits, rng.normal(size=(count, 32)).astype(np.float32), gates)
    engine = replace(reference, logits=logits + rng.normal(scale=1e-3, size=logits.shape).astype(np.float32))
    phases, thresholds = Phases(), np.full(len(names), 0.5)
    limits = DEFAULT_LIMITS[Precision.FP16]
    with phases("compare"):
        numbers = compare(reference, engine, findings=names, thresholds=thresholds)
    report = Report(
        title=f"{count} drawn answers",
        created="2026-01-01T00:00:00+00:00",
        engine=EngineFacts(name="none", precision="fp16", runtime="none", device="none"),
        reference=ReferenceFacts(kind="pytorch checkpoint", volumes=f"{count} drawn answers"),
        bundle=BundleFacts(digest="none"),
        findings=names,
        thresholds=tuple(thresholds),
        scans=tuple(scans[:count]),
        numbers=numbers,
        limits=limits,
        verdict=judge(numbers, limits),
        reference_outputs=reference,
        engine_outputs=engine,
        failed=tuple(FailedScan(scan=scan, code=f"code_{i % 9}", reason="why") for i, scan in enumerate(scans[count:])),
        warnings={scan: (f"tilt of {i % 20} degrees was corrected",) for i, scan in enumerate(scans[:count:3])},
        rows={scan: row for row, scan in enumerate(scans, start=1)},
    )
    with phases("write"):
        write_report(work / f"report-{count}", report)
    kib = {path.name: path.stat().st_size // 1024 for path in sorted((work / f"report-{count}").iterdir())}
    return {"volumes": count, "flips": len(numbers.flips), "phases": phases.rows, "kib": kib}


def table(results: list[dict[str, Any]]) -> str:
    """Milliseconds of CPU and wall time a study, and peak memory, as Markdown."""
    lines = ["| phase | " + " | ".join(f"{each['studies']:,} studies" for each in results) + " |"]
    lines.append("| --- |" + " --- |" * len(results))
    for name in results[0]["phases"]:
        cells = []
        for each in results:
            row, parts = each["phases"][name], 2 if name.startswith("store") else 1
            scale = 1e3 * parts / each["studies"]
            cells.append(f"{row['cpu_s'] * scale:.2f} ({row['wall_s'] * scale:.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name in ("begin", "results", "merge 2 shards"):
        cells = [f"{each['phases'][name]['peak_mib']:.0f}" for each in results]
        lines.append(f"| peak MiB up to and with '{name}' | " + " | ".join(cells) + " |")
    for name in results[0]["kib"]:
        lines.append(f"| {name}, KiB | " + " | ".join(f"{each['kib'][name]:,}" for each in results) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--report", type=int, metavar="N")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.report:
        print(json.dumps(measure_report(options.work, options.report), indent=2))
        return
    if options.bundle is None:
        parser.error("--bundle is needed")
    if options.one:
        print(json.dumps(measure(options.work, options.bundle, options.one)))
        return
    results = []
    for size in options.sizes:
        words = [sys.executable, __file__, options.work, "--bundle", options.bundle, "--one", size]
        done = subprocess.run(list(map(str, words)), check=True, stdout=subprocess.PIPE, text=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        if options.out is not None:
            options.out.write_text(json.dumps(results, indent=2) + "\n")
        print(table(results), flush=True)


if __name__ == "__main__":
    main()
