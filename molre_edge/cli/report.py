"""``molre-edge report``: a parity report from the stored answers of one run, or of several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import molre_edge
from molre_edge.cli import completion
from molre_edge.cli.shell import JsonOption, LimitsOption, QuietOption, Speaker, command
from molre_edge.specs import DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.runs.remake import RemadeRun, ReportResult

__all__ = ["report"]


@command
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            exists=True,
            file_okay=False,
            help="Folders of finished runs of 'infer'.",
            autocompletion=completion.runs,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            file_okay=False,
            help="Where to write. Default: the run's own folder, without --labels and --limits; for several runs "
            "./edge-reports/<UTC time>.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            exists=True,
            dir_okay=False,
            help="CSV with a column 'scan' (id, or path as in scans.csv) and a column per finding: adds AUC. Needs -o.",
        ),
    ] = None,
    limits: LimitsOption = None,
    images: Annotated[
        bool,
        typer.Option("--images", help="Show a slice of each of the worst scans; needs --scans. PATIENTS' IMAGES."),
    ] = False,
    scans: Annotated[
        Path | None,
        typer.Option("--scans", exists=True, help="The scans of the run, for --images and labels beside them."),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="The runs are all shards of one run (infer --shard): make that run in -o, by default in "
            "./edge-runs/<UTC time>.",
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the parity report of a run again, put several runs of one model side by side, or merge shards.

    It reads the answers that the runs stored: no engine, no bundle and no torch is needed. Numbers, limits and verdict
    are computed again. Writes report.html, report.json and junit.xml. --labels and --limits need -o.

    Exit codes: 0 done; 1 no run, a damaged one, or runs that cannot be compared or merged; 2 usage; 3 parity failed in
    a run.
    """
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        result = molre_edge.report_runs(
            runs, out=out, labels=labels, limits=limits, scans=scans, images=images, merge=merge, progress=progress
        )
    _show(result, speaker)
    speaker.result(result.to_dict())
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _show(result: ReportResult, speaker: Speaker) -> None:
    for note in result.notes:
        speaker.tell(f"Note: {note}")
    for run in result.runs:
        _show_run(run, speaker)
    speaker.say(f"Report: {result.report}")
    speaker.say(DISCLAIMER, style="dim")


def _show_run(run: RemadeRun, speaker: Speaker) -> None:
    if run.verdict is None:
        speaker.say(f"{run.name}: no parity judged, nothing was compared with a reference")
        return
    speaker.say(f"{run.name}: {run.verdict.headline}", style="green" if run.verdict.passed else "bold red")
    speaker.say(f"{run.name}: parity {run.verdict.summary}")
    for check in run.verdict.failed:
        speaker.complain(f"{run.name}: {check.name}: {check.text}")
