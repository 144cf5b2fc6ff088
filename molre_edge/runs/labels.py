"""Labels of scans, from a CSV with the columns of the training manifest."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import RunError
from molre_edge.runs.scan_table import Entry, path_text, write_csv

__all__ = ["KNOWN_LABELS", "LabelTable", "read_labels", "write_known_labels"]

KNOWN_LABELS = "labels.csv"
"""In a run: the labels of its scans, by their ids."""

_SCAN = "scan"
_VALUES = {"": float("nan"), "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0}


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels as a file has them, not brought together with scans yet.

    Attributes:
        path: of the file.
        rows: line number, what the line names as its scan, and float64 [findings], NaN where unknown.
    """

    path: Path
    rows: tuple[tuple[int, str, npt.NDArray[np.float64]], ...]

    def of(self, entries: Iterable[Entry], root: Path) -> dict[str, npt.NDArray[np.float64]]:
        """Labels by scan id; only of scans that the table names.

        Args:
            entries: the scans of a run.
            root: the scans' folder or file.

        Raises:
            RunError: no line for any scan, two lines for one scan, or a line that names several scans.
        """
        base = (root if root.is_dir() else root.parent).resolve()
        labels = self._matched(
            entries, lambda name: [path_text((folder / name).resolve(), base) for folder in (self.path.parent, base)]
        )
        if not labels:
            raise RunError(
                f"{self.path}: none of its {len(self.rows)} lines names a scan of this run; '{_SCAN}' is a path "
                f"relative to the CSV or to the folder of scans, as scans.csv has it in 'path'"
            )
        return labels

    def of_stored(self, entries: Iterable[Entry]) -> dict[str, npt.NDArray[np.float64]]:
        """The same where the scans are not at hand: a line names a scan's id, or its path as ``scans.csv`` has it.

        Raises:
            RunError: as :meth:`of`.
        """
        entries = tuple(entries)
        ids = {entry.scan: entry.key for entry in entries}
        labels = self._matched(entries, lambda name: [ids.get(name, name)])
        if not labels:
            raise RunError(
                f"{self.path}: none of its {len(self.rows)} lines names a scan of this run by its id or by its path in "
                f"scans.csv; name the folder of the scans with --scans if '{_SCAN}' is a path relative to the CSV"
            )
        return labels

    def _matched(
        self, entries: Iterable[Entry], places: Callable[[str], Iterable[str]]
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Labels by scan id; `places` says where a line's name may lie, the likeliest first."""
        named: defaultdict[str, set[str]] = defaultdict(set)
        for entry in entries:
            if entry.fingerprint:  # what was left out by its header has none, and needs no label
                named[entry.path].add(entry.scan)
                named[entry.key].add(entry.scan)
        labels: dict[str, npt.NDArray[np.float64]] = {}
        for line, name, values in self.rows:
            scans = next((named[place] for place in places(name) if place in named), set())
            if len(scans) > 1:
                raise RunError(
                    f"{self.path}, line {line}: names a folder with {len(scans)} scans of this run; name a scan's "
                    f"first file instead, as scans.csv has it in 'key'"
                )
            for scan in scans:
                if scan in labels:
                    raise RunError(f"{self.path}, line {line}: a second line for one scan")
                labels[scan] = values
        return labels


def write_known_labels(folder: Path, labels: Mapping[str, npt.NDArray[np.float64]], findings: Sequence[str]) -> None:
    """Keep the labels of a run's scans in its folder, so that its report can be made again; none leaves no file."""
    if not labels:
        (folder / KNOWN_LABELS).unlink(missing_ok=True)
        return
    rows = [[scan, *("" if np.isnan(v) else f"{v:.0f}" for v in values)] for scan, values in sorted(labels.items())]
    write_csv(folder / KNOWN_LABELS, [_SCAN, *findings], rows)


def read_labels(path: Path, findings: Sequence[str]) -> LabelTable:
    """Read and check the file.

    Args:
        path: CSV with a column ``scan`` (path of the scan, relative to the CSV or to the scans' folder) and a column a
            finding: 1, 0, or empty for unknown. Other columns are left alone.
        findings: the model's, in order.

    Raises:
        RunError: not readable, without these columns, or with another value.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [str(name) for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path}: labels can't be read ({error})") from error
    known = [name for name in findings if name in columns]
    if _SCAN not in columns or not known:
        raise RunError(
            f"{path}: expected a column '{_SCAN}' and columns named as findings ({findings[0]}, ...), separated by "
            f"commas, got {', '.join(columns[:8]) or 'an empty file'}"
        )
    twice = [name for name in (_SCAN, *known) if columns.count(name) > 1]
    if twice:
        raise RunError(f"{path}: has the column '{twice[0]}' twice")
    table = []
    for line, row in rows:
        name = (row[_SCAN] or "").strip()
        if not name or "\0" in name:
            raise RunError(f"{path}, line {line}: names no scan")
        if None in row:
            raise RunError(f"{path}, line {line}: has more values than the first line has columns")
        table.append((line, name, np.array([_value(path, line, each, row.get(each)) for each in findings])))
    return LabelTable(path, tuple(table))


def _value(path: Path, line: int, name: str, text: str | None) -> float:
    value = _VALUES.get((text or "").strip())
    if value is None:
        raise RunError(f"{path}, line {line}, {name}: expected 1, 0 or nothing, got {(text or '')[:20]!r}")
    return value
