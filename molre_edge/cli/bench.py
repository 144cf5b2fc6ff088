"""``molre-edge bench``: runners side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from molre_edge.bundle.bundle import DEFAULT_BUNDLE, Bundle
from molre_edge.cli import completion
from molre_edge.cli.shell import (
    BundleOption,
    DigestOption,
    JsonOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    WeightsOption,
    command,
    engine_of,
    open_bundle,
)
from molre_edge.errors import RunError, ScanError
from molre_edge.files import sha256_of
from molre_edge.parity.text import milliseconds, number
from molre_edge.specs import DISCLAIMER, Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from molre_edge.benchmarking.measure import Candidate, Row

__all__ = ["bench"]


@command
def bench(
    scans: Annotated[
        Path | None, typer.Argument(metavar="[SCANS]", exists=True, help="Scans to run. Default: the golden volumes.")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            "-e",
            autocompletion=completion.engines,
            help="As of 'infer', again for more. Default: all that are ready, without torch.",
        ),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Volumes a call, again for more. Default: 1.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=3, help="Calls of each engine at each batch size.")] = 20,
    plain: Annotated[
        Path | None,
        typer.Option(
            "--plain",
            metavar="CKPT",
            exists=True,
            autocompletion=completion.checkpoints,
            dir_okay=False,
            help="The bundle's checkpoint: export it without its adapters, and tell what they cost.",
        ),
    ] = None,
    backbone_weights: WeightsOption = None,
    power_seconds: Annotated[
        float, typer.Option("--power-seconds", min=0, help="Run each engine so long for its power, where that is told.")
    ] = 3.0,
    threads: ThreadsOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for bench.json and bench.html.")] = None,
    bundle: BundleOption = DEFAULT_BUNDLE,
    expect_digest: DigestOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time engines in turns on the same volumes: latency, scans per second, memory, and power where it is told.

    Says nothing about answers: 'verify' does.
    """
    from molre_edge.benchmarking.measure import measure, summarise
    from molre_edge.benchmarking.power import find_power
    from molre_edge.reports.bench_page import bench_json, machine_facts, write_bench

    speaker = Speaker(as_json, quiet)
    opened = open_bundle(bundle, expect_digest)
    if plain is not None and sha256_of(plain) != opened.checkpoint_sha256:
        raise RunError(f"--plain {plain}: is not the checkpoint that the bundle was exported from; name that one")
    batches = sorted(set(batch or [1]))
    gpu, power = find_power()
    with speaker.steps() as step:
        candidates = _candidates(opened, engine, plain, backbone_weights, threads, step)
        step("volumes")
        volumes, told = _volumes(opened, scans, max(batches), speaker)
        before = machine_facts(gpu)
        measured = measure(
            candidates,
            volumes,
            batches=batches,
            rounds=rounds,
            gpu=gpu,
            power=power,
            power_seconds=power_seconds,
            on_step=step,
        )
    rows = summarise(measured.arms)
    result = bench_json(opened, measured, rows, before=before, after=machine_facts(gpu), volumes=told)
    page = None if out is None else write_bench(out, result)[1]
    _show(rows, result, page, speaker)


def _candidates(
    bundle: Bundle,
    words: list[str] | None,
    plain: Path | None,
    backbone_weights: Path | None,
    threads: int | None,
    step: Any,
) -> list[Candidate]:
    from molre_edge.benchmarking.measure import PLAIN, Candidate
    from molre_edge.engines.choice import choose_engine
    from molre_edge.engines.onnxruntime_runner import OnnxRuntimeRunner
    from molre_edge.reports.bench_page import all_engines
    from molre_edge.runs.reference import find_checkpoint

    wanted = {word: engine_of(word) for word in words or all_engines(bundle)}
    candidates = []
    for word, (runtime, _) in wanted.items():
        checkpoint = plain or find_checkpoint(bundle) if runtime == "torch" else None
        make = partial(
            choose_engine, word, bundle, checkpoint=checkpoint, backbone_weights=backbone_weights, threads=threads
        )
        candidates.append(Candidate(word, lambda make=make: make().runner, named=words is not None))  # type: ignore[misc]
    if plain is not None:
        from molre_edge.export.plain import plain_graphs

        step("exporting the model without its adapters")
        precisions = {precision for _, precision in wanted.values()} & {Precision.FP32, Precision.FP16}
        for precision, graph in plain_graphs(plain, precisions, backbone_weights=backbone_weights).items():
            name = f"{PLAIN}{precision}"
            candidates.append(
                Candidate(name, partial(OnnxRuntimeRunner, graph, precision, threads=threads), named=True)
            )
    return candidates


def _volumes(bundle: Bundle, scans: Path | None, most: int, speaker: Speaker) -> tuple[npt.NDArray[np.float16], str]:
    import numpy as np

    if scans is None:
        volumes = bundle.golden().volumes
        return volumes, f"{len(volumes)} golden volumes"
    from molre_edge.scans import find_scans
    from molre_edge.scans.workers.prepare import prepare

    read: list[npt.NDArray[np.float16]] = []
    for number_, source in enumerate(find_scans(scans).scans, start=1):
        found = prepare(source, bundle.grid)
        if isinstance(found, ScanError):
            speaker.warn(f"scan-{number_:04d} can't be used: {found}")
        else:
            read.append(found.volume)
        if len(read) >= max(most, 8):
            break
    if not read:
        raise RunError(f"{scans}: no scan can be used; 'molre-edge inspect' tells why")
    return np.stack(read), f"{len(read)} scans"


def _show(rows: list[Row], result: dict[str, Any], page: Path | None, speaker: Speaker) -> None:
    times = _table("Milliseconds of one call, warm-up apart", ("median", "p90", "p95", "p99", "compute", "scans/s"))
    ratios = _table(
        "Time over another's, in the same round: median (quartiles)", ("to the first", "to the plain model")
    )
    for row in rows:
        values = (row.median_ms, row.p90_ms, row.p95_ms, row.p99_ms, row.compute_ms)
        times.add_row(row.name, str(row.batch), *map(milliseconds, values), number(row.scans_per_second))
        ratios.add_row(row.name, str(row.batch), _ratio(row.to_first), _ratio(row.to_plain))
    speaker.show(times)
    speaker.show(ratios)
    for name, text in result["includes"].items():
        speaker.say(f"{'one call' if name == 'total' else name}: {text}")
    speaker.say(f"{result['volumes']}; {rows[0].rounds} rounds in turns; not counted: loading, reading and resampling")
    for name, facts in result["runners"].items():
        memory = facts["memory"]
        told = [f"{memory[key]:.0f} MiB {what}" for key, what in _MEMORY.items() if memory[key] is not None]
        speaker.say(f"{name}: loaded in {facts['load_seconds']} s, {', '.join(told) or 'memory not available here'}")
    watts = {(row["name"], row["batch"]): (row["watts"], row["joules_per_scan"]) for row in result["rows"]}
    if isinstance(result["idle_watts"], str):
        speaker.say(f"Power: {result['idle_watts']}")
    else:
        speaker.say(f"Power: idle {_rails(result['idle_watts'], 'W')}")
        for (name, size), (mean, joules) in watts.items():
            speaker.say(f"  {name}, batch {size}: {_rails(mean, 'W')}; {_rails(joules, 'J a scan')}")
    for name, why in result["not_ready"].items():
        speaker.say(f"Not ready: {name}: {why}")
    before, after = result["machine"]["before"], result["machine"]["after"]
    speaker.say(
        f"On {before['cpu']}, {before['cores']} cores; governor {before['governor']}; clock (MHz) "
        f"{before['clock_mhz']} before, {after['clock_mhz']} after; load {before['load_1min']} and {after['load_1min']}"
    )
    if isinstance(before["gpu"], dict):
        gpu = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in before["gpu"].items())
        speaker.say(f"GPU: {gpu}; after: SM clock {after['gpu']['sm_clock_mhz']} MHz")
    versions = {
        name: f"{facts['runtime']} {facts['version']} on {facts['device']}, {facts.get('threads') or 'no'} threads"
        for name, facts in result["runners"].items()
    }
    for name, text in versions.items():
        speaker.say(f"  {name}: {text}")
    if page is not None:
        speaker.say(f"Page: {page}")
    speaker.say(DISCLAIMER, style="dim")
    speaker.result(result)


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("engine", no_wrap=True)
    for heading in ("batch", *headings):
        table.add_column(heading, justify="right")
    return table


_MEMORY = {"peak_mib": "resident at its peak", "resident_mib": "after", "gpu_mib": "on the GPU"}


def _ratio(value: tuple[float, float, float] | None) -> str:
    return "–" if value is None else f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})"


def _rails(values: Any, unit: str) -> str:
    return (
        values if isinstance(values, str) else ", ".join(f"{rail} {value:.2f} {unit}" for rail, value in values.items())
    )
