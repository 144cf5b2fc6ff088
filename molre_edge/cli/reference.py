"""``molre-edge reference``: what your own model needs to answer the same scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import molre_edge
from molre_edge.cli import completion
from molre_edge.cli.shell import BundleOption, JsonOption, QuietOption, Speaker, bundle_folder, command
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.own_model.write_inputs import ReferenceInputs

__all__ = ["reference"]


@command
def reference(
    scans: Annotated[
        Path, typer.Argument(exists=True, help="A DICOM or NIfTI file, or a folder with any of them, at any depth.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write, new or empty.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="CKPT",
            exists=True,
            dir_okay=False,
            help="Take the model's grid from a checkpoint instead of the bundle.",
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
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write what your own model needs to answer scans, so that engines are judged by its answers.

    The folder holds paths, HU volumes, volumes on the model's grid, and answer_scans.py, which you fill in and run with
    the Python of your model; or --model answers at once. 'molre-edge export CKPT --reference-answers FOLDER' then
    compares the checkpoint with your model's answers. The folder holds PATIENTS' IMAGES.

    Exit codes: 0 done; 1 an error that you can fix, or no scan could be used; 2 usage; 4 done, but some scans could not
    be used.
    """
    speaker = Speaker(as_json, quiet)
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


def _show(result: ReferenceInputs, speaker: Speaker) -> None:
    count = len(result.scans)
    speaker.say(f"{count} scan{'' if count == 1 else 's'} written, {len(result.rejected)} cannot be used")
    speaker.say(f"Folder: {result.folder}")
    first = "" if result.answers is not None else f"fill in {result.folder / 'answer_scans.py'} and run it, then "
    speaker.say(f"Next: {first}molre-edge export CKPT --reference-answers {result.folder}")
    speaker.say(DISCLAIMER, style="dim")
