"""``molre-edge demo``: the whole chain on a small model and synthetic scans."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from molre_edge import demo as material
from molre_edge.cli.export import export_checkpoint, show_export
from molre_edge.cli.infer import InferOptions, run_infer, show_run
from molre_edge.cli.shell import ExitCode, JsonOption, QuietOption, Speaker, command
from molre_edge.cli.training import TrainBar

__all__ = ["demo"]


@command
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to put it all.")] = Path("edge-demo"),
    train: Annotated[
        bool, typer.Option("--train", help="Train the model first: some minutes, and AUC in the report.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo in that folder.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a small model and scans, export it, run it on both engines, and end in a report to open.

    The model has random weights: its findings mean nothing, only that every engine answers as PyTorch does. With
    --train it has learned six findings of synthetic heads, and still knows no patient. Leaves DIR/ckpt.pt, DIR/scans,
    DIR/edge-bundle, DIR/edge-runs and the mark DIR/DEMO.txt; with --train DIR/data too.
    """
    speaker = Speaker(as_json, quiet)
    material.check_installed()
    material.prepare_folder(folder, force=force)
    checkpoint, scans, bundle = folder / material.CHECKPOINT, folder / material.SCANS, folder / "edge-bundle"
    data = folder / material.DATA
    with speaker.steps() as step:
        step("synthetic scans")
        material.make_scans(scans)
        if not train:
            step("a small model with random weights")
            material.make_checkpoint(checkpoint, scans)
    if train:
        _train(data, checkpoint, speaker)
    tables = Speaker(quiet=quiet or as_json)
    show_export(export_checkpoint(checkpoint, bundle, speaker), tables)
    runs = {}
    for engine in ("fp32", "fp16"):
        options = InferOptions(
            scans=data / "test" if train else scans,
            labels=data / "manifest.csv" if train else None,
            engine=engine,
            bundle=bundle,
            out=folder / "edge-runs" / engine,
            reference=str(checkpoint),
        )
        runs[engine] = run_infer(options, speaker)
        show_run(runs[engine], tables)
    speaker.say("")
    speaker.say(f"Open {runs['fp16'].report} in a browser. Then try:")
    words = ["molre-edge", "infer", str(scans), "--engine", "fp16", "--bundle", str(bundle)]
    speaker.say(f"  {shlex.join(words)}")
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
