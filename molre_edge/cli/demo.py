"""``molre-edge demo``: the whole chain on a small model and synthetic scans."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from molre_edge import demo as material
from molre_edge.cli.export import export_checkpoint, show_export
from molre_edge.cli.infer import InferOptions, run_infer, show_run
from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, command

__all__ = ["demo"]


@command
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to put it all.")] = Path("edge-demo"),
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo in that folder.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a small model and scans, export it, run it on both engines, and end in a report to open.

    The model has random weights: its findings mean nothing, only that every engine answers as PyTorch does. Leaves
    DIR/ckpt.pt, DIR/scans, DIR/edge-bundle and DIR/edge-runs.
    """
    speaker = Speaker(as_json, quiet)
    material.check_folder(folder, force=force)
    if folder.is_dir():
        for path in folder.iterdir():  # a demo's own parts only: check_folder saw to that
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, scans, bundle = folder / material.CHECKPOINT, folder / material.SCANS, folder / "edge-bundle"
    with speaker.steps() as step:
        step("synthetic scans")
        material.make_scans(scans)
        step("a small model with random weights")
        material.make_checkpoint(checkpoint, scans)
    exported = export_checkpoint(checkpoint, bundle, speaker)
    runs = {}
    silent = Speaker(quiet=True)
    show_export(exported, Speaker(quiet=quiet) if not as_json else silent)
    for engine in ("fp32", "fp16"):
        runs[engine] = run_infer(
            InferOptions(
                scans=scans, engine=engine, bundle=bundle, out=folder / "edge-runs" / engine, reference=str(checkpoint)
            ),
            speaker,
        )
        show_run(runs[engine], Speaker(quiet=quiet) if not as_json else silent)
    speaker.say("")
    speaker.say(f"Open {runs['fp16'].report} in a browser. Then try:")
    speaker.say(f"  molre-edge infer {scans} --engine fp16 --bundle {bundle}")
    speaker.result({engine: {"report": str(run.report), "exit_code": run.exit_code} for engine, run in runs.items()})
    code = max(run.exit_code for run in runs.values())
    if code:
        raise typer.Exit(code)
