"""``molre-edge demo``: the whole chain on a small model and synthetic scans."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from molre_edge import demo as material
from molre_edge.cli.export import show_export
from molre_edge.cli.infer import InferOptions, run_infer, show_run
from molre_edge.cli.shell import ExitCode, JsonOption, QuietOption, Speaker, command
from molre_edge.cli.training import TrainBar

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
    from molre_edge.export.exporter import export_checkpoint

    speaker = Speaker(as_json, quiet)
    material.check_installed()
    material.prepare_folder(folder, force=force)
    checkpoint, scans, bundle = folder / material.CHECKPOINT, folder / material.SCANS, folder / "edge-bundle"
    data = folder / material.DATA
    with speaker.steps() as step:
        step("synthetic scans")
        material.make_scans(scans)
        if untrained:
            step("a small model with random weights")
            material.make_checkpoint(checkpoint, scans)
    if not untrained:
        _train(data, checkpoint, speaker)
    tables = Speaker(quiet=quiet or as_json)
    with speaker.progress() as progress:
        exported = export_checkpoint(checkpoint, bundle, progress=progress)
    show_export(exported, tables)
    runs = {}
    for engine in ("fp32", "fp16"):
        options = InferOptions(
            scans=scans if untrained else data / "test",
            labels=None if untrained else data / "manifest.csv",
            engine=engine,
            bundle=bundle,
            out=folder / "edge-runs" / engine,
            reference=str(checkpoint),
        )
        runs[engine] = run_infer(options, speaker)
        show_run(runs[engine], tables)
    speaker.say("")
    found = {engine: run.numbers for engine, run in runs.items() if run.numbers is not None}
    areas = {engine: numbers.mean_auc_engine for engine, numbers in found.items()}
    if found and all(area is not None for area in areas.values()):
        first = next(iter(found.values()))
        told = ", ".join(f"{engine} {area:.3f}" for engine, area in areas.items())
        speaker.say(
            f"Mean AUC of {len(first.aucs)} findings on {runs['fp32'].done} synthetic heads it has not seen: "
            f"PyTorch {first.mean_auc_reference:.3f}, {told}"
        )
    speaker.say(f"Open {runs['fp16'].report} in a browser. Then try:")
    speaker.say(f"  cd {shlex.quote(str(folder))}")
    speaker.say("  molre-edge infer scans --engine fp16")
    speaker.result({engine: {"report": str(run.report), "exit_code": run.exit_code} for engine, run in runs.items()})
    codes = {run.exit_code for run in runs.values()}
    for code in (ExitCode.PARITY_FAILED, ExitCode.ERROR, ExitCode.SCANS_REJECTED):
        if code in codes:
            raise typer.Exit(code)


def _train(data: Path, checkpoint: Path, speaker: Speaker) -> None:
    with TrainBar(speaker) as bar:
        bar.step("synthetic scans to learn from", material.SCANS_TO_LEARN)
        material.make_data(data, bar.part)
        material.train_checkpoint(checkpoint, data, bar)
