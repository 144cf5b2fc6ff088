"""``molre-edge bench``: runners side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli import completion
from molre_edge.cli.shell import (
    AdapterOption,
    BundleOption,
    DigestOption,
    JsonOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    TrustOption,
    WeightsOption,
    bundle_folder,
    command,
    engine_of,
)
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.benchmarking.bench import Benchmark

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
            help="An engine, as for 'infer'; repeat for more. Default: all that are ready, without torch.",
        ),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Volumes per call; repeat for more sizes. Default: 1.")
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
            help="The bundle's checkpoint: also measure the model without its adapters, to show their cost.",
        ),
    ] = None,
    backbone_weights: WeightsOption = None,
    power_seconds: Annotated[
        float,
        typer.Option("--power-seconds", min=0, help="Seconds to sample power per engine, if the platform reports it."),
    ] = 3.0,
    threads: ThreadsOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for bench.json and bench.html.")] = None,
    bundle: BundleOption = DEFAULT_BUNDLE,
    adapter: AdapterOption = None,
    expect_digest: DigestOption = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Time engines in turns on the same volumes: latency, scans per second, memory, and power if it is reported.

    Each first answers the golden volumes, alone and in every slot of each batch size. Exit codes: 0 done; 1 an engine
    that was named can't run; 2 wrong usage; 3 measured, but an engine answers outside the bundle's limits.
    """
    speaker = Speaker(as_json, quiet)
    for word in engine or ():
        engine_of(word)  # a wrong word is wrong usage
    with speaker.progress() as progress:
        result = molre_edge.bench_runners(
            bundle_folder(bundle),
            scans=scans,
            engines=engine,
            batches=batch or (1,),
            rounds=rounds,
            plain=plain,
            backbone_weights=backbone_weights,
            power_seconds=power_seconds,
            threads=threads,
            out=out,
            adapter=adapter,
            expect_digest=expect_digest,
            trust=trust,
            progress=progress,
        )
    _show(result, speaker)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _show(benchmark: Benchmark, speaker: Speaker) -> None:
    rows, result, page = benchmark.rows, benchmark.to_dict(), benchmark.page
    times = _table("Milliseconds of one call, without warm-up", _TIMES)
    ratios = _table(
        "Time relative to another's in the same round: median (quartiles)", ("to the first", "to the plain model")
    )
    for row in rows:
        times.add_row(row.name, str(row.batch), *row.texts, row.answers)
        ratios.add_row(row.name, str(row.batch), _ratio(row.to_first), _ratio(row.to_plain))
    speaker.show(times)
    speaker.show(ratios)
    for name, judged in result["answers"].items():
        for problem in judged["problems"]:
            speaker.say(f"Wrong answers: {name}, {problem} (limits: {judged['limits']})", "bold red")
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


_TIMES = ("median", "p90", "p95", "p99", "compute", "scans/s", "answers")


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
