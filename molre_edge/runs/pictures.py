"""Key slices of the worst scans, for a report that is asked to show them; read again, and kept nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molre_edge.errors import ScanError
from molre_edge.progress import Progress
from molre_edge.reports.images import as_png
from molre_edge.reports.parity_report import KeySlice, Report
from molre_edge.runs.scan_table import Entry, path_text
from molre_edge.scans.grid import upright
from molre_edge.scans.workers.finder import find_apart
from molre_edge.scans.workers.prepare import prepare
from molre_edge.specs import Grid

__all__ = ["key_slices", "warn_of"]

_BRAIN_HU = (0.0, 80.0)  # the brain window: 80 HU around 40


def key_slices(
    report: Report, entries: Sequence[Entry], scans: Path, grid: Grid, *, all_series: bool
) -> tuple[tuple[KeySlice, ...], tuple[str, ...]]:
    """A slice of each of the worst scans of a report.

    It is the slice where the gates of reference and engine differ most, or the middle one where a volume has a single
    gate vector or none. A scan is shown only if its files are those that the run answered, by names, sizes and times.

    Args:
        report: with numbers.
        entries: the run's scans.
        scans: the folder or file that the run was given.
        grid: of the model: shown is what the engine got.
        all_series: as the run had it.

    Returns:
        The pictures, and a sentence for each scan that has none.

    Raises:
        ScanError: no such path.
    """
    if report.numbers is None or report.reference.kind == "golden answers":
        return (), ("no pictures: the scans of this run were not compared with a reference",)
    base = scans if scans.is_dir() else scans.parent
    found = find_apart(scans, all_series=all_series).scans
    sources = {(path_text(each.files[0], base), path_text(each.path, base)): each for each in found}
    known = {entry.scan: entry for entry in entries}
    slices, notes = [], []
    for worst in report.numbers.worst:
        scan = report.scans[worst.scan]
        entry = known.get(scan)
        source = None if entry is None else sources.get((entry.key, entry.path))
        if entry is None or source is None or source.fingerprint() != entry.fingerprint:
            notes.append(f"no picture of {scan}: its files are missing, or are not those that the run answered")
            continue
        read = prepare(source, grid)
        if isinstance(read, ScanError):
            notes.append(f"no picture of {scan}: {read}")
            continue
        at = _where_gates_differ(report, worst.scan, grid.slices)
        number = grid.slices // 2 if at is None else at
        shown = upright(read.volume[number], grid)
        picture = KeySlice(
            scan=scan,
            data=as_png(shown, *_BRAIN_HU),
            width=shown.shape[1],
            height=shown.shape[0],
            slice=number + 1,
            slices=grid.slices,
            by_routing=at is not None,
        )
        slices.append(picture)
    return tuple(slices), tuple(notes)


def warn_of(slices: Sequence[KeySlice], notes: Sequence[str], progress: Progress) -> None:
    """Tell what a page with pictures shows, and which scans it cannot show."""
    for note in notes:
        progress.warn(note)
    if slices:
        progress.warn("the report shows images of patients: treat it as you treat their scans")


def _where_gates_differ(report: Report, scan: int, slices: int) -> int | None:
    """Index of the slice with the largest L1 distance of any router's gates; None without a gate vector a slice."""
    if report.reference_outputs is None or report.engine_outputs is None:
        return None
    reference, engine = report.reference_outputs.gates, report.engine_outputs.gates
    if reference is None or engine is None or reference.shape[1] != slices or slices == 1 or reference.shape[3] < 2:
        return None
    apart = np.abs(engine[scan] - reference[scan]).sum(axis=-1).max(axis=-1)  # [slices]
    return int(np.argmax(apart)) if np.isfinite(apart).all() else None
