"""``molre-edge inspect``: what a file or folder is, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli.shell import ExitCode, JsonOption, QuietOption, Speaker, command
from molre_edge.specs import DISCLAIMER

__all__ = ["inspect"]

_WHOLE = ("file", "scan", "code", "precision")  # columns of words that must not be broken


@command
def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            exists=True, help="A checkpoint, ONNX graph, engine, bundle, run, DICOM or NIfTI file, or folder of scans."
        ),
    ],
    most: Annotated[
        int, typer.Option("--most", min=0, help="Number of scans of a folder to read; the others are counted.")
    ] = 20,
    paths: Annotated[
        bool, typer.Option("--paths", help="Show the paths of scans. Paths may contain names of people.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Describe a checkpoint, adapter, graph, engine, bundle, run, scan or folder of scans, without running it.

    The exit code is 1 if something is wrong with it, such as an altered file in a bundle, or a scan file that 'infer'
    would refuse. Refused scans in a folder are listed, with exit code 0.
    """
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        found = molre_edge.inspect_path(path, most=most, with_paths=paths, progress=progress)
    speaker.say(f"{path}: {found.summary}")
    width = max((len(name) for name, _ in found.words), default=0)
    for name, value in found.words:
        speaker.say(f"  {name:<{width}}  {value}")
    for table in found.tables:
        shown = Table(title=table.title, title_justify="left")
        for column in table.columns:
            shown.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
        for row in table.rows:
            shown.add_row(*row)
        speaker.show(shown)
    for problem in found.problems:
        speaker.complain(problem)
    if found.kind in ("scans", "run"):
        speaker.say(DISCLAIMER, style="dim")
    speaker.result(found.to_dict())
    if found.problems:
        raise typer.Exit(ExitCode.ERROR)
