"""``molre-edge synthesize``: a data set of synthetic head CT to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, UsageError, command
from molre_edge.cli.training import TrainBar, parse_size, split_names
from molre_edge.errors import MissingDependencyError
from molre_edge.machine import usable_cores

__all__ = ["synthesize"]


@command
def synthesize(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the scans and manifest.csv.")],
    scans: Annotated[int, typer.Option("--scans", min=10, help="Number of scans.")] = 240,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed. Different seeds give different heads.")] = 0,
    findings: Annotated[
        str | None,
        typer.Option(
            "--findings", help="Findings to draw independently, separated by commas. Default: plausible sets."
        ),
    ] = None,
    prevalence: Annotated[
        float, typer.Option("--prevalence", min=0.01, max=0.99, help="Share of scans with each of --findings.")
    ] = 0.3,
    size: Annotated[str, typer.Option("--size", metavar="SLICESxROWSxCOLS", help="Voxels per scan.")] = "16x128x128",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a synthetic head CT data set for 'train': 60 % training, 20 % validation, 20 % test scans."""
    speaker = Speaker(as_json, quiet)
    try:
        from molre_edge.training.dataset import make_dataset
    except ImportError as error:
        raise MissingDependencyError("Making a data set", str(error.name), "train") from error
    shape = parse_size("--size", size)
    names = None if findings is None else split_names("--findings", findings)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: already exists and is not empty; name a new folder")
    with TrainBar(speaker) as bar:
        bar.step("scans", scans)
        make_dataset(
            folder,
            scans=scans,
            seed=seed,
            shape=shape,
            findings=names,
            prevalence=prevalence,
            processes=usable_cores(),
            on_scan=bar.part,
        )
    speaker.say(f"{scans} scans and manifest.csv: {folder}")
    speaker.result({"folder": str(folder), "scans": scans})
