"""Labels of scans, from a CSV with the columns of the training manifest."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import RunError

__all__ = ["read_labels"]


def read_labels(
    path: Path, root: Path, scans: Mapping[str, str], findings: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Labels by scan id.

    Args:
        path: CSV with a column ``scan`` (path of the scan, relative to the CSV or to the scans' folder) and a column a
            finding: 1, 0, or empty for unknown. Other columns are left alone.
        root: the scans' folder.
        scans: id -> the scan's path relative to `root`.
        findings: the model's, in order.

    Returns:
        id -> float64 [findings], NaN where unknown; only scans that the CSV names.

    Raises:
        RunError: not readable, no such column, a value that is none, or no row for any scan.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path}: labels can't be read ({error})") from error
    columns = set(rows[0]) if rows else set()
    known = [name for name in findings if name in columns]
    if "scan" not in columns or not known:
        raise RunError(
            f"{path}: expected a column 'scan' and columns named as findings ({findings[0]}, ...), got "
            f"{', '.join(sorted(str(c) for c in columns)[:8]) or 'an empty file'}"
        )
    base = root if root.is_dir() else root.parent
    ids = {(base / relative).resolve(): scan for scan, relative in scans.items()}
    labels: dict[str, npt.NDArray[np.float64]] = {}
    for number, row in enumerate(rows, start=2):
        named = (row["scan"] or "").strip()
        places = [(folder / named).resolve() for folder in (path.parent, base)]
        scan = next((ids[place] for place in places if place in ids), None)
        if scan is not None:
            labels[scan] = np.array([_value(path, number, name, row.get(name)) for name in findings])
    if not labels:
        raise RunError(
            f"{path}: none of its {len(rows)} rows names a scan of this run; 'scan' is a path relative to the CSV or "
            f"to the folder of scans"
        )
    return labels


def _value(path: Path, row: int, name: str, text: str | None) -> float:
    text = (text or "").strip()
    if not text:
        return float("nan")
    if text not in {"0", "1", "0.0", "1.0"}:
        raise RunError(f"{path}, line {row}, {name}: expected 1, 0 or nothing, got {text[:20]!r}")
    return float(text)
