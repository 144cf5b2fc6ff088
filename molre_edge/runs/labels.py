"""Labels of scans, from a CSV with the columns of the training manifest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import RunError
from molre_edge.findings import SCAN_COLUMN
from molre_edge.runs.scan_table import Entry, as_it_was, path_text, write_csv
from molre_edge.tables import label_value, masked, match_columns, read_table

__all__ = ["KNOWN_LABELS", "LabelTable", "read_labels", "write_known_labels"]

KNOWN_LABELS = "labels.csv"
"""In a run: the labels of its scans, by their ids."""


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels as a file has them, not brought together with scans yet.

    Attributes:
        path: of the file.
        rows: line number, what the line names as its scan, and float64 [findings], NaN where unknown.
        columns: which columns are used and which are not, in words.
        tell: receives one sentence on lines and columns when labels and scans are brought together.
    """

    path: Path
    rows: tuple[tuple[int, str, npt.NDArray[np.float64]], ...]
    columns: str = ""
    tell: Callable[[str], None] = lambda text: None

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
                f"{self.path}: none of its {len(self.rows)} lines names a scan of this run; '{SCAN_COLUMN}' is a path "
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
                f"scans.csv; name the folder of the scans with --scans if '{SCAN_COLUMN}' is a path relative to the CSV"
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
        unused: list[tuple[int, str]] = []
        for line, name, values in self.rows:
            names = dict.fromkeys((name, as_it_was(name)))  # as the file has it, and as scans.csv quotes it
            scans = next((named[place] for each in names for place in places(each) if place in named), set())
            if len(scans) > 1:
                raise RunError(
                    f"{self.path}, line {line}: names a folder with {len(scans)} scans of this run; name a scan's "
                    f"first file instead, as scans.csv has it in 'key'"
                )
            if not scans:
                unused.append((line, name))
            for scan in scans:
                if scan in labels:
                    raise RunError(f"{self.path}, line {line}: a second line for one scan")
                labels[scan] = values
        every = set().union(*named.values())
        text = f"Labels: {len(self.rows) - len(unused)} of {len(self.rows)} lines name a scan of this run, "
        text += f"{len(labels)} of its {len(every)} scans have labels; {self.columns}"
        if unused:
            lines = f"line {unused[0][0]}" + (f" and {len(unused) - 1} more" if len(unused) > 1 else "")
            text += f"; names without a scan look like {masked(unused[0][1])} ({lines})"
        self.tell(text)
        return labels


def write_known_labels(folder: Path, labels: Mapping[str, npt.NDArray[np.float64]], findings: Sequence[str]) -> None:
    """Keep the labels of a run's scans in its folder, so that its report can be made again; none leaves no file."""
    if not labels:
        (folder / KNOWN_LABELS).unlink(missing_ok=True)
        return
    rows = [[scan, *("" if np.isnan(v) else f"{v:.0f}" for v in values)] for scan, values in sorted(labels.items())]
    write_csv(folder / KNOWN_LABELS, [SCAN_COLUMN, *findings], rows)


def read_labels(path: Path, findings: Sequence[str], tell: Callable[[str], None] = lambda text: None) -> LabelTable:
    """Read and check the file.

    Args:
        path: a table (see :mod:`molre_edge.tables`) with a column ``scan`` (path of the scan, relative to the CSV or to
            the scans' folder) and a column for each finding: 1, 0, or empty for unknown. Other columns are not used.
        findings: the model's, in order.
        tell: receives one sentence on lines and columns when labels and scans are brought together.

    Raises:
        RunError: not readable, without these columns, or with another value.
    """
    try:
        table = read_table(path, SCAN_COLUMN)
        places = match_columns(table.columns, (SCAN_COLUMN, *findings))
    except ValueError as error:
        raise RunError(f"{path}: labels: {error}") from error
    known = [name for name in findings if name in places]
    if SCAN_COLUMN not in places or not known:
        raise RunError(
            f"{path}: expected a column '{SCAN_COLUMN}' and columns named as findings ({findings[0]}, ...), separated "
            f"by commas, semicolons or tabs, got {', '.join(table.columns[:8])[:200] or 'an empty file'}"
        )
    others = [name for i, name in enumerate(table.columns) if name and i not in places.values()]
    words = f"{len(known)} of the model's {len(findings)} findings have a column"
    if others:
        words += f"; {len(others)} columns are not used ({', '.join(others[:5])[:200]}{', ...' if others[5:] else ''})"
    rows = []
    for line, cells in table.rows:
        name = cells[places[SCAN_COLUMN]]
        if not name or "\0" in name:
            raise RunError(f"{path}, line {line}: names no scan")
        values = [_value(path, line, each, cells[places[each]] if each in places else "") for each in findings]
        rows.append((line, name, np.array(values)))
    return LabelTable(path, tuple(rows), words, tell)


def _value(path: Path, line: int, name: str, text: str) -> float:
    value = label_value(text)
    if value is None:
        raise RunError(f"{path}, line {line}, {name}: expected 1, 0 or nothing, got {text[:20]!r}")
    return value
