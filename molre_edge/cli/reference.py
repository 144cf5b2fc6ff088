"""``molre-edge reference``: what your own model needs to answer the same scans."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli import completion
from molre_edge.cli.shell import (
    BundleOption,
    JsonOption,
    LimitsOption,
    QuietOption,
    Speaker,
    WeightsOption,
    bundle_folder,
    command,
)
from molre_edge.errors import UsageError
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.own_model.write_inputs import ReferenceInputs

__all__ = ["reference"]


@command
def reference(
    scans: Annotated[
        Path,
        typer.Argument(
            exists=True,
            help="A DICOM or NIfTI file, or a folder with any of them, at any depth. With --explain, the folder that "
            "this command wrote, with answers.npz.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="The folder to write, new or empty. With --explain the default is 'explanation' in that folder.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="CKPT",
            exists=True,
            dir_okay=False,
            help="Take the model's grid from a checkpoint instead of the bundle. With --explain, the one to explain.",
            autocompletion=completion.checkpoints,
        ),
    ] = None,
    bundle: BundleOption = DEFAULT_BUNDLE,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="FILE.py:FUNCTION",
            help="Your own model, which answers the scans now. Its code is run, in a process of its own.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Find the first step at which your model and the checkpoint part, and what would fix it."
        ),
    ] = False,
    limits: LimitsOption = None,
    backbone_weights: WeightsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write what your own model needs to answer scans, so that engines are judged by its answers.

    The folder holds paths, HU volumes, volumes on the model's grid, and answer_scans.py, which you fill in and run with
    the Python of your model; or --model answers at once. 'molre-edge export CKPT --reference-answers FOLDER' then
    compares the checkpoint with your model's answers. The folder holds PATIENTS' IMAGES.

    If they differ, --explain walks the chain from files to decisions and names the first step that differs. Limits
    (table [fp32]) and backbone weights are for --explain, as 'export' takes them.

    Exit codes: 0 done; 1 an error that you can fix, or no scan could be used; 2 usage; 3 with --explain: the answers
    differ; 4 done, but some scans could not be used.
    """
    speaker = Speaker(as_json, quiet)
    if explain:
        if checkpoint is None or model is not None:
            raise UsageError("--explain takes a folder with answers and --checkpoint CKPT, and no --model")
        _explain(scans, checkpoint, out, limits, backbone_weights, speaker)
        return
    if out is None or limits is not None or backbone_weights is not None:
        raise UsageError(
            "Name the folder to write with -o FOLDER"
            if out is None
            else "--limits and --backbone-weights are for --explain"
        )
    with speaker.progress() as progress:
        result = molre_edge.write_reference_inputs(
            scans,
            out,
            checkpoint=checkpoint,
            bundle=bundle if checkpoint is not None else bundle_folder(bundle),
            model=model,
            progress=progress,
        )
    _show(result, speaker)
    speaker.result(result.to_dict())
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _explain(
    folder: Path, checkpoint: Path, out: Path | None, limits: Path | None, weights: Path | None, speaker: Speaker
) -> None:
    """Explain, show, and exit with 3 where the answers differ."""
    with speaker.progress() as progress:
        result = molre_edge.explain_reference(
            folder, checkpoint, out=out, limits=limits, backbone_weights=weights, progress=progress
        )
    speaker.say(result.headline, "green" if result.answers_agree else "red")
    table = Table(title="The chain, each part from your own value on where it was saved", title_justify="left")
    for heading in ("from ... to", "result", "largest difference", "rounding", "scan"):
        table.add_column(heading, justify="right" if heading in ("largest difference", "rounding") else "left")
    for row in result.rows:
        size = f"{row.size:.3g}" if isfinite(row.size) else "shape"
        table.add_row(row.where, "differs" if row.differs else "agrees", size, f"{row.allowed:.2g}", row.scan)
    speaker.show(table)
    if result.step is not None:
        speaker.say(f"First step that differs: {result.step}", style="bold")
    speaker.say(result.text)
    for note in result.notes:
        speaker.say(f"Note: {note}")
    speaker.say(f"Page: {result.folder / 'explanation.html'} (may show images of patients)")
    speaker.say(DISCLAIMER, style="dim")
    speaker.result(result.to_dict())
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _show(result: ReferenceInputs, speaker: Speaker) -> None:
    count = len(result.scans)
    speaker.say(f"{count} scan{'' if count == 1 else 's'} written, {len(result.rejected)} cannot be used")
    speaker.say(f"Folder: {result.folder}")
    first = "" if result.answers is not None else f"fill in {result.folder / 'answer_scans.py'} and run it, then "
    speaker.say(f"Next: {first}molre-edge export CKPT --reference-answers {result.folder}")
    speaker.say(DISCLAIMER, style="dim")
