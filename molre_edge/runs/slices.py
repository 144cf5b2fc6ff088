"""``slices.csv``: from each slice on the model's grid back to the images that it was made of.

It holds UIDs and paths, so it is kept where ``scans.csv`` is kept and goes nowhere else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from molre_edge.files import write_whole
from molre_edge.runs.scan_table import as_text, path_text
from molre_edge.scans import GridSlice

__all__ = ["SLICES_FILE", "add_slices", "keep_slices"]

SLICES_FILE = "slices.csv"
_COLUMNS = ("scan", "slice", "share", "file", "sop_instance_uid", "frame")


def add_slices(folder: Path, scan: str, slices: Sequence[GridSlice], base: Path) -> None:
    """Append the images of a scan.

    Args:
        folder: of the run.
        scan: its id.
        slices: from :func:`molre_edge.scans.map_slices`; none writes nothing.
        base: files are named relative to it.
    """
    if not slices:
        return
    path = folder / SLICES_FILE
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists():
        writer.writerow(_COLUMNS)
    for each in slices:
        place = as_text(path_text(each.source.path, base))
        writer.writerow((scan, each.slice, each.share, place, each.source.sop_uid, each.source.frame))
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())


def keep_slices(folder: Path, scans: Iterable[str]) -> None:
    """Take out the rows of other scans, and what a cut run left half written. No file is none afterwards."""
    path = folder / SLICES_FILE
    if not path.is_file():
        return
    kept = set(scans)
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(_COLUMNS) and row[0] in kept]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    with write_whole(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8", newline="")
