"""``molre-edge demo``: the whole chain on a small model and synthetic scans."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from molre_edge.cli.export import show_export
from molre_edge.cli.infer import show_run
from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, command

__all__ = ["demo"]


@command
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to put it all.")] = Path("edge-demo"),
    untrained: Annotated[
        bool, typer.Option("--untrained", help="A model with random weights instead: faster, and no AUC.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier demo in that folder, with all runs and engines in it.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a small model on synthetic heads, export it, run it on both engines, and end in a report to open.

    The model learns six findings, which takes two or three minutes on two idle cores, and knows no patient. The report
    has the AUC of PyTorch and of each engine on heads that it has not seen. Leaves DIR/ckpt.pt, DIR/scans (eight heads
    as a scanner sends them), DIR/data (heads with labels), DIR/edge-bundle, DIR/edge-runs and the mark DIR/DEMO.txt.
    """
    from molre_edge.demo import make_demo

    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        result = make_demo(folder, untrained=untrained, force=force, progress=progress)
    tables = Speaker(quiet=quiet or as_json)
    show_export(result.exported, tables)
    for run in result.runs.values():
        show_run(run, tables)
    speaker.say("")
    if result.areas:
        areas = ", ".join(f"{name} {area:.3f}" for name, area in result.areas.items())
        speaker.say(f"Mean AUC on {len(result.runs['fp32'].scans)} synthetic heads it has not seen: {areas}")
    speaker.say(f"Open {result.runs['fp16'].report} in a browser. Then try:")
    speaker.say(f"  cd {shlex.quote(str(folder))}")
    speaker.say("  molre-edge infer scans --engine fp16")
    speaker.result(result.to_dict())
    if result.exit_code:
        raise typer.Exit(result.exit_code)
