"""The verb ``bench_runners``: a bundle's runners, timed in turns on the same volumes."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from molre_edge import __version__
from molre_edge.benchmarking.answers import WRONG, judge_answers
from molre_edge.benchmarking.candidates import find_candidates, find_volumes
from molre_edge.benchmarking.measure import INCLUDES, Measurement, Row, measure, summarise
from molre_edge.benchmarking.power import NvmlGpu, find_power
from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import ConfigError, RunError
from molre_edge.files import StrPath, name_problem, sha256_of
from molre_edge.machine import NOT_TOLD, cpu_model, cpu_state, usable_cores
from molre_edge.progress import SILENT, Progress
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER

__all__ = ["Benchmark", "bench_runners"]

_FORMAT, _VERSION = "molre-edge-bench", 1


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The result of a benchmark.

    Attributes:
        rows: figures of each runner at each batch size.
        data: everything that was measured, as plain data; docs/reference/bench.md describes it.
        page: the HTML page; None if no folder was named.
    """

    rows: tuple[Row, ...]
    data: Mapping[str, Any]
    page: Path | None = None

    @property
    def exit_code(self) -> int:
        """3 where a runner answers golden volumes outside the limits, else 0."""
        return 3 if any(row.answers == WRONG for row in self.rows) else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge bench --json`` prints it."""
        return dict(self.data)


def bench_runners(
    bundle: Bundle | StrPath = DEFAULT_BUNDLE,
    *,
    adapter: str | None = None,
    scans: StrPath | None = None,
    engines: Sequence[str] | None = None,
    batches: Sequence[int] = (1,),
    rounds: int = 20,
    plain: StrPath | None = None,
    backbone_weights: StrPath | None = None,
    power_seconds: float = 3.0,
    threads: int | None = None,
    out: StrPath | None = None,
    expect_digest: str | None = None,
    trust: Sequence[StrPath] | None = None,
    progress: Progress = SILENT,
) -> Benchmark:
    """Time runners in turns on the same volumes: latency, scans per second, memory, and power if it is reported.

    Each runner first answers the golden volumes alone and in every slot of each batch size, and is judged by the
    bundle's limits; one that is wrong is timed and shown as wrong. The model without adapters is not judged.

    Args:
        bundle: the bundle's folder, or an open bundle.
        adapter: name of the bundle's adapter; None for its default.
        scans: a file or folder of scans; None for the golden volumes.
        engines: the engines, such as ``fp16`` or ``torch``; None for all that are ready, without torch.
        batches: volumes per call.
        rounds: calls of each engine at each batch size, at least 1.
        plain: the bundle's checkpoint. The model is exported again without its adapters, to measure their cost.
        backbone_weights: the Hugging Face folder, if the checkpoint does not contain the backbone's weights.
        power_seconds: seconds to sample power per engine, if the platform reports it; 0 for none.
        threads: CPU threads of ONNX Runtime; None for all cores.
        out: a folder for ``bench.json`` and ``bench.html``.
        expect_digest: refuse a bundle with another digest.
        trust: public keys (``.pub`` files of minisign), one of which must have signed the bundle's release; None for
            those that are configured on this machine.
        progress: receives progress events.

    Raises:
        BundleError: the bundle can't be opened, or has another digest.
        ConfigError: the name of `out` is too long.
        EngineError: an engine that was named is unknown or not ready.
        RunError: no engine is ready, no scan is usable, or `plain` is not the bundle's checkpoint.
    """
    if out is not None and (problem := name_problem(out)):
        raise ConfigError(f"--out {out}: {problem}. Choose a shorter name")
    opened = Bundle.of(bundle, expect_digest=expect_digest, trust=trust_of(trust)).select(adapter)
    checkpoint, weights = (None if path is None else Path(path) for path in (plain, backbone_weights))
    if checkpoint is not None and sha256_of(checkpoint) != opened.checkpoint_sha256:
        raise RunError(
            f"--plain {checkpoint}: its SHA-256 is not that of the checkpoint that the bundle was exported from. Name "
            f"the checkpoint that was exported"
        )
    sizes = sorted(set(batches))
    if not sizes or sizes[0] < 1 or rounds < 1:
        raise RunError(f"batches {list(batches)}, rounds {rounds}: expected whole numbers of at least 1")
    gpu, power = find_power()
    candidates = find_candidates(
        opened, engines, plain=checkpoint, backbone_weights=weights, threads=threads, progress=progress
    )
    progress.step("volumes")
    volumes, words = find_volumes(opened, None if scans is None else Path(scans), max(sizes), progress)
    before = _machine_facts(gpu)
    measured = measure(
        candidates,
        volumes,
        batches=sizes,
        rounds=rounds,
        gpu=gpu,
        power=power,
        power_seconds=power_seconds,
        judge=partial(judge_answers, opened),
        progress=progress,
    )
    rows = tuple(summarise(measured.arms))
    data = _data(opened, measured, rows, before=before, after=_machine_facts(gpu), volumes=words)
    return Benchmark(rows, data, None if out is None else _write(Path(out), data))


def _write(folder: Path, data: Mapping[str, Any]) -> Path:
    from molre_edge.reports.bench_page import write_bench

    return write_bench(folder, data)[1]


def _machine_facts(gpu: NvmlGpu | None) -> dict[str, Any]:
    """The machine's state. It is read before and after the measurement, because clocks and load change."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: NOT_TOLD if value is None else value for name, value in cpu_state().items()},
        "gpu": NOT_TOLD if gpu is None else {k: NOT_TOLD if v is None else v for k, v in gpu.facts().items()},
    }


def _data(
    bundle: Bundle,
    measured: Measurement,
    rows: Sequence[Row],
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    volumes: str,
) -> dict[str, Any]:
    arms = {(arm.name, arm.batch): arm for arm in measured.arms}
    figures = []
    for row in rows:
        arm = arms[row.name, row.batch]
        figures.append(
            {
                **{name: _rounded(value) for name, value in asdict(row).items()},
                "watts": arm.watts or measured.no_power,
                "joules_per_scan": arm.joules_per_scan or measured.no_power,
                "total_ms": [round(value, 3) for value in arm.total_ms],
            }
        )
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "molre-edge": __version__,
        "bundle": bundle.digest,
        "adapter": None if bundle.using is None else {"name": bundle.using.name, "sha256": bundle.using.digest},
        "volumes": volumes,
        "grid": list(bundle.grid.shape),
        "includes": dict(INCLUDES),
        "machine": {"before": dict(before), "after": dict(after)},
        "idle_watts": dict(measured.idle_watts) or measured.no_power,
        "runners": dict(measured.facts),
        "answers": {name: judged.to_dict() for name, judged in measured.judged.items()},
        "not_ready": dict(measured.absent),
        "rows": figures,
        "disclaimer": DISCLAIMER,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    return [_rounded(each) for each in value] if isinstance(value, tuple) else value
