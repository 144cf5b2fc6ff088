"""``molre-edge synthesize``: a data set of synthetic head CT to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import molre_edge
from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, command
from molre_edge.cli.training import parse_size, split_names

__all__ = ["synthesize"]


@command
def synthesize(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the scans and manifest.csv.")],
    scans: Annotated[int, typer.Option("--scans", min=10, help="Number of scans.")] = 240,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed. Different seeds give different heads.")] = 0,
    findings: Annotated[
        str | None,
        typer.Option(
            "--findings",
            help="Findings to draw independently, separated by commas; the manifest has these columns only. "
            "Default: plausible sets of all.",
        ),
    ] = None,
    prevalence: Annotated[
        float,
        typer.Option("--prevalence", min=0.01, max=0.99, help="Share of scans with each of --findings, in each split."),
    ] = 0.3,
    size: Annotated[str, typer.Option("--size", metavar="SLICESxROWSxCOLS", help="Voxels per scan.")] = "16x128x128",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a synthetic head CT data set for 'train': 60 % training, 20 % validation, 20 % test scans."""
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        result = molre_edge.synthesize_scans(
            folder,
            scans=scans,
            seed=seed,
            findings=None if findings is None else split_names("--findings", findings),
            prevalence=prevalence,
            shape=parse_size("--size", size),
            processes=None,
            progress=progress,
        )
    speaker.say(f"{result.scans} scans and manifest.csv: {result.folder}")
    speaker.result(result.to_dict())
