"""``molre-edge report``: a parity report from the stored answers of one run, or of several side by side."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molre_edge.cli import completion
from molre_edge.cli.infer import new_folder
from molre_edge.cli.shell import ExitCode, JsonOption, QuietOption, Speaker, UsageError, command
from molre_edge.errors import RunError
from molre_edge.parity import load_limits
from molre_edge.reports.write import write_report
from molre_edge.specs import DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.parity import ParityLimits, Verdict
    from molre_edge.reports.parity_report import KeySlice, Report
    from molre_edge.runs.finished import StoredRun

__all__ = ["add_pictures", "report"]

DEFAULT_REPORTS = Path("edge-reports")


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
            help="Where to write. Default: the run's own folder, without --labels and --gates; for several runs "
            "./edge-reports/<UTC time>.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            exists=True,
            dir_okay=False,
            help="CSV with a column 'scan' (id, or path as in scans.csv) and a column a finding: adds AUC. Needs -o.",
        ),
    ] = None,
    gates: Annotated[
        Path | None,
        typer.Option(
            "--gates", exists=True, dir_okay=False, help="Judge by these parity gates instead, TOML. Needs -o."
        ),
    ] = None,
    images: Annotated[
        bool,
        typer.Option("--images", help="Show a slice of each of the worst scans; needs --scans. PATIENTS' IMAGES."),
    ] = False,
    scans: Annotated[
        Path | None,
        typer.Option("--scans", exists=True, help="The scans of the run, for --images and labels beside them."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make the parity report of a run again, or put several runs of one model side by side.

    From the answers that the runs stored: no engine, no bundle and no torch is needed. Numbers, gate and verdict are
    computed again. Writes report.html, report.json and junit.xml.

    Exit codes: 0 done; 1 no run, a damaged one, or runs that can't be compared; 2 usage; 3 parity failed in a run.
    """
    from molre_edge.runs.finished import open_run
    from molre_edge.runs.store import RUN_FILE

    speaker = Speaker(as_json, quiet)
    if images and (scans is None or len(runs) > 1):
        raise UsageError("--images needs the run's scans (--scans SCANS), and a single run")
    if len({run.resolve() for run in runs}) < len(runs):
        raise UsageError("a run is named twice")
    own = len(runs) == 1 and (out is None or out.resolve() == runs[0].resolve())
    if own and (labels is not None or gates is not None):
        raise UsageError(
            "--labels and --gates need -o DIR: a run's own report says what the run was given, and keeps to it"
        )
    stored = [open_run(run) for run in runs]
    if out is not None and (out / RUN_FILE).exists() and not own:
        raise RunError(f"{out}: is the folder of a run, whose own report is kept; name another folder with -o")
    reports = [_made_again(run, labels, gates, scans, speaker) for run in stored]
    if len(runs) == 1:
        page = _write_one(stored[0], reports[0], out or runs[0], scans if images else None, speaker)
        names = [reports[0].engine.name]
    else:
        page, names = _write_several(stored, reports, out, speaker)
    failed = False
    for name, each in zip(names, reports, strict=True):
        _show(name, each.verdict, speaker)
        failed |= each.verdict is not None and not each.verdict.passed
    speaker.say(f"Report: {page}")
    speaker.say(DISCLAIMER, style="dim")
    code = ExitCode.PARITY_FAILED if failed else ExitCode.DONE
    result: dict[str, Any] = {
        "report": str(page),
        "runs": [
            {"run": str(run), "name": name, "parity": each.verdict.to_dict() if each.verdict else None}
            for run, name, each in zip(runs, names, reports, strict=True)
        ],
        "exit_code": code,
        "disclaimer": DISCLAIMER,
    }
    speaker.result(result)
    if code:
        raise typer.Exit(code)


def add_pictures(folder: Path, scans: Path, speaker: Speaker) -> None:
    """Write the report of a run again with slices of its worst scans."""
    from molre_edge.runs.finished import open_run

    run = open_run(folder)
    _write_one(run, run.report(), folder, scans, speaker)


def _made_again(
    run: StoredRun, labels: Path | None, gates: Path | None, scans: Path | None, speaker: Speaker
) -> Report:
    from molre_edge.runs.labels import read_labels

    known = None
    if labels is not None:
        table = read_labels(labels, run.findings, speaker.tell)
        known = table.of_stored(run.entries) if scans is None else table.of(run.entries, scans)
    gate: ParityLimits | None = None if gates is None else load_limits(gates)[run.precision]
    source = "" if gates is None else f"--gates {gates.name}"
    note = ""
    if labels is not None and run.compares_scans:
        note = f"labels were added afterwards, from {labels.name}"
    elif labels is not None:
        note = f"the labels of {labels.name} were not used: AUC needs the PyTorch model as the run's reference"
    return run.report(gate=gate, limits_source=source, labels=known, note=note)


def _write_one(run: StoredRun, report: Report, folder: Path, scans: Path | None, speaker: Speaker) -> Path:
    slices: tuple[KeySlice, ...] = ()
    if scans is not None:
        from molre_edge.runs.pictures import key_slices

        grid = run.grid
        if grid is None:
            raise RunError(f"{run.folder}: the run does not say its model's grid, so no slice can be shown")
        slices, notes = key_slices(report, run.entries, scans, grid, all_series=run.all_series)
        for note in notes:
            speaker.warn(note)
        if slices:
            speaker.warn("the page shows patients: hand it on as you would their scans")
    folder.mkdir(parents=True, exist_ok=True)
    return write_report(folder, report, slices)[1]


def _write_several(
    stored: list[StoredRun], reports: list[Report], out: Path | None, speaker: Speaker
) -> tuple[Path, list[str]]:
    from molre_edge.reports.side_by_side import put_side_by_side
    from molre_edge.reports.write import write_comparison
    from molre_edge.runs.sides import sides_of

    sides = sides_of(list(zip(stored, reports, strict=True)))
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    comparison = put_side_by_side(sides, created)
    folder = out or new_folder(DEFAULT_REPORTS)
    folder.mkdir(parents=True, exist_ok=True)
    for note in comparison.notes:
        speaker.tell(f"Note: {note}")
    return write_comparison(folder, comparison)[1], [side.name for side in sides]


def _show(name: str, verdict: Verdict | None, speaker: Speaker) -> None:
    if verdict is None:
        speaker.say(f"{name}: no parity judged, nothing was compared with a reference")
        return
    speaker.say(f"{name}: parity {verdict.summary}", style="green" if verdict.passed else "bold red")
    for check in verdict.failed:
        speaker.complain(f"{name}: {check.name}: {check.text}")
