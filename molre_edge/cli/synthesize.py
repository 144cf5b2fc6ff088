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
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder: scans and manifest.csv.")],
    scans: Annotated[int, typer.Option("--scans", min=10, help="How many.")] = 240,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Two seeds share no head.")] = 0,
    findings: Annotated[
        str | None,
        typer.Option("--findings", help="Draw these by themselves, separated by commas; default: plausible draws."),
    ] = None,
    prevalence: Annotated[float, typer.Option("--prevalence", min=0.01, max=0.99, help="Of each of them.")] = 0.3,
    size: Annotated[str, typer.Option("--size", metavar="SLICESxROWSxCOLS", help="Voxels of a scan.")] = "16x128x128",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make synthetic head CTs with findings and the manifest for 'train': 60 % training, 20 % validation, 20 % test."""
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        result = molre_edge.synthesize_scans(
            folder,
            scans=scans,
            seed=seed,
            findings=None if findings is None else split_names("--findings", findings),
            prevalence=prevalence,
            shape=parse_size("--size", size),
            progress=progress,
        )
    speaker.say(f"{result.scans} scans and manifest.csv: {result.folder}")
    speaker.result(result.to_dict())
