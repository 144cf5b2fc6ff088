"""The verb ``report_runs``: a run's report again from its stored answers, or several runs side by side."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from molre_edge.errors import RunError, UsageError
from molre_edge.files import StrPath
from molre_edge.locks import hold
from molre_edge.parity import Verdict
from molre_edge.progress import SILENT, Progress
from molre_edge.reports.parity_report import KeySlice, Report
from molre_edge.reports.side_by_side import put_side_by_side
from molre_edge.reports.write import write_comparison, write_report
from molre_edge.runs import pictures
from molre_edge.runs.finished import StoredRun, finished_head, open_run
from molre_edge.runs.folder_lock import FolderLock
from molre_edge.runs.judging import Limits, UserLimits, read_limits
from molre_edge.runs.labels import read_labels
from molre_edge.runs.merge import merge_shards
from molre_edge.runs.sides import sides_of
from molre_edge.runs.store import RUN_FILE, new_folder
from molre_edge.specs import DISCLAIMER

__all__ = ["DEFAULT_REPORTS", "RemadeRun", "ReportResult", "report_runs"]

DEFAULT_REPORTS = Path("edge-reports")


@dataclass(frozen=True)
class RemadeRun:
    """One run in a report.

    Attributes:
        folder: of the run.
        name: as the report calls it.
        verdict: None if nothing was compared with a reference.
    """

    folder: Path
    name: str
    verdict: Verdict | None


@dataclass(frozen=True)
class ReportResult:
    """What a report says.

    Attributes:
        report: the HTML page; ``report.json`` and ``junit.xml`` are beside it.
        runs: in the order given.
        notes: what the reader should know about runs side by side.
    """

    report: Path
    runs: tuple[RemadeRun, ...]
    notes: tuple[str, ...] = ()

    @property
    def parity_failed(self) -> bool:
        """Whether parity failed in a run; a run that was not judged did not fail."""
        return any(run.verdict is not None and not run.verdict.passed for run in self.runs)

    @property
    def exit_code(self) -> int:
        """3 if parity failed in a run, else 0."""
        return 3 if self.parity_failed else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what ``report --json`` prints."""
        return {
            "report": str(self.report),
            "runs": [
                {"run": str(run.folder), "name": run.name, "parity": run.verdict.to_dict() if run.verdict else None}
                for run in self.runs
            ],
            "notes": list(self.notes),
            "exit_code": self.exit_code,
            "disclaimer": DISCLAIMER,
        }


def report_runs(
    runs: StrPath | Iterable[StrPath],
    *,
    out: StrPath | None = None,
    labels: StrPath | None = None,
    limits: Limits = None,
    scans: StrPath | None = None,
    images: bool = False,
    merge: bool = False,
    progress: Progress = SILENT,
) -> ReportResult:
    """Write the parity report of a finished run again, put several runs side by side, or make one run of its shards.

    It works from the answers that the runs stored, so it needs no engine, no bundle and no torch. Numbers and verdict
    are computed again. Writes ``report.html``, ``report.json`` and ``junit.xml``.

    Args:
        runs: one folder of a finished run, or several.
        out: folder of the report. Default: the run's own folder, without `labels` and `limits`; for several runs
            ``edge-reports/<UTC time>``.
        labels: CSV with a column ``scan`` (id, or path as in scans.csv) and a column per finding: adds AUC. Needs
            `out`.
        limits: judge by these parity limits instead: a TOML file, or values by precision. Needs `out`.
        scans: the scans of the run, for `images` and for labels beside them.
        images: show a slice of each of the worst scans; needs `scans` and a single run. These are images of patients.
        merge: `runs` are all shards of one run (``infer_scans(shard=...)``); `out` becomes that run, with the files
            that a single process would have left. Default: ``edge-runs/<UTC time>``.
        progress: receives events.

    Raises:
        UsageError: arguments that do not fit together.
        RunError: no finished run, a damaged one, or `out` is the folder of another run; a shard that is missing, there
            twice, or of another run.
        ParityError: the runs cannot be compared.
        ConfigError: the limits are invalid.
    """
    folders = [Path(runs)] if isinstance(runs, str | os.PathLike) else [Path(run) for run in runs]
    target, place = (None if out is None else Path(out)), (None if scans is None else Path(scans))
    if merge:
        if labels is not None or limits is not None or scans is not None or images:
            raise UsageError("--merge takes no --labels, --limits, --scans or --images: merge first, then report again")
        return _merged(folders, target, progress)
    _check(folders, target, place, given=labels is not None or limits is not None, images=images)
    own_limits = read_limits(limits, progress)
    table = None if labels is None else Path(labels)
    names: list[str]
    notes: tuple[str, ...]
    with _held(folders, target) as held:
        stored = [open_run(folder, held=held) for folder in folders]
        reports = [_remade(run, table, own_limits, place, progress) for run in stored]
        if len(stored) == 1:
            page = _write_one(stored[0], reports[0], target or folders[0], place if images else None, progress)
            names, notes = [reports[0].engine.name], ()
        else:
            page, names, notes = _write_several(stored, reports, target)
    remade = (
        RemadeRun(folder, name, report.verdict) for folder, name, report in zip(folders, names, reports, strict=True)
    )
    return ReportResult(page, tuple(remade), notes)


@contextlib.contextmanager
def _held(folders: Sequence[Path], out: Path | None) -> Iterator[bool]:
    """Hold the folder that is written, a run's own as ``infer`` does; whether it is one.

    Raises:
        InUseError: another process writes it.
        RunError: it is a run's own, and another process works on it, or there is no finished run.
    """
    if out is not None and (len(folders) > 1 or out.resolve() != folders[0].resolve()):
        with hold(out, "molre-edge report"):
            yield False
        return
    if len(folders) > 1:  # a folder of its own, named by the time
        yield False
        return
    finished_head(folders[0])  # before a lock is put into a folder that is not a run
    lock = FolderLock.take(folders[0])
    if isinstance(lock, str):
        raise RunError(f"{folders[0]}: {lock} is using this run's folder. Wait until it ends")
    try:
        yield True
    finally:
        lock.release()


def _merged(folders: Sequence[Path], out: Path | None, progress: Progress) -> ReportResult:
    merged = merge_shards(folders, out, progress)
    return ReportResult(merged.report, (RemadeRun(merged.folder, merged.engine, merged.verdict),), merged.notes)


def _check(folders: Sequence[Path], out: Path | None, scans: Path | None, *, given: bool, images: bool) -> None:
    """Refuse arguments that do not fit together, before anything is read.

    Raises:
        UsageError: with the arguments.
        RunError: `out` is the folder of another run.
    """
    if not folders:
        raise UsageError("no run is named: name the folder of a finished run")
    if images and (scans is None or len(folders) > 1):
        raise UsageError("--images shows slices of one run's scans: name a single run and its scans (--scans SCANS)")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a run is named twice; name each run once")
    own = len(folders) == 1 and (out is None or out.resolve() == folders[0].resolve())
    if own and given:
        raise UsageError(
            "--labels and --limits need -o DIR: a run's own report keeps the labels and limits that the run was given"
        )
    if out is not None and (out / RUN_FILE).exists() and not own:
        raise RunError(f"{out}: is the folder of a run, and its own report is kept. Name another folder with -o")


def _remade(
    run: StoredRun, labels: Path | None, limits: UserLimits | None, scans: Path | None, progress: Progress
) -> Report:
    """The report of a run, with the labels and limits that the user gives now."""
    known, note = None, ""
    if labels is not None:
        table = read_labels(labels, run.findings, progress.info)
        known = table.of_stored(run.entries) if scans is None else table.of(run.entries, scans)
        note = f"labels were added afterwards, from {labels.name}"
        if not run.compares_scans:
            why = "AUC needs the PyTorch model, or your own, as the run's reference"
            note = f"the labels of {labels.name} were not used: {why}"
    return run.report(
        limits=None if limits is None else limits[run.precision],
        limits_source="" if limits is None else limits.source,
        labels=known,
        note=note,
    )


def _write_one(run: StoredRun, report: Report, folder: Path, scans: Path | None, progress: Progress) -> Path:
    slices: tuple[KeySlice, ...] = ()
    if scans is not None:
        grid = run.grid
        if grid is None:
            raise RunError(f"{run.folder}: its report does not name the model's grid, so no slice can be shown")
        slices, notes = pictures.key_slices(report, run.entries, scans, grid, all_series=run.all_series)
        pictures.warn_of(slices, notes, progress)
    folder.mkdir(parents=True, exist_ok=True)
    return write_report(folder, report, slices)[1]


def _write_several(
    stored: Sequence[StoredRun], reports: Sequence[Report], out: Path | None
) -> tuple[Path, list[str], tuple[str, ...]]:
    sides = sides_of(list(zip(stored, reports, strict=True)))
    comparison = put_side_by_side(sides, datetime.now(timezone.utc).isoformat(timespec="seconds"))
    folder = out or new_folder(DEFAULT_REPORTS)
    folder.mkdir(parents=True, exist_ok=True)
    return write_comparison(folder, comparison)[1], [side.name for side in sides], comparison.notes
