"""``scans.csv``: the one file of a run that ties anonymous ids to paths, which may carry names of people."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from molre_edge.errors import RunError
from molre_edge.files import write_whole
from molre_edge.regular import append_regular, open_regular
from molre_edge.runs.scan_ids import is_scan_id

__all__ = [
    "Entry",
    "append_entry",
    "as_it_was",
    "as_text",
    "csv_line",
    "path_text",
    "read_entries",
    "table_order",
    "write_csv",
    "write_entries",
]

_MAX_TABLE_BYTES = 512 << 20  # 100,000 files twice, each with a path of 2,500 bytes
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: a scan's anonymous id, and what only this file may say about it.

    Attributes:
        scan: of :meth:`molre_edge.runs.scan_ids.IdSecret.scan_id`.
        path: its folder or file, relative to the scans' root.
        key: its first file, relative to the root; tells series of one folder apart.
        fingerprint: of its files' names, sizes and times; empty for what was left out by its headers.
        status: ``pending``, ``done``, ``rejected`` or ``ignored``.
        code: why it was rejected or ignored, a stable word.
        reason: the same in a sentence.
        files: how many.
        warnings: of a scan that was read.
        row: number in the table, from 1, for people; given anew at each start of a run.
    """

    scan: str
    path: str
    key: str
    fingerprint: str
    status: str
    code: str = ""
    reason: str = ""
    files: int = 0
    warnings: str = ""
    row: int = 0


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula."""


def as_text(cell: Any) -> Any:
    """A cell that no spreadsheet runs: what would start a formula gets a quote before it, as do cells that look so."""
    return f"'{cell}" if isinstance(cell, str) and _runs(cell) else cell


def as_it_was(cell: str) -> str:
    """The inverse of :func:`as_text`."""
    return cell[1:] if cell.startswith("'") and _runs(cell) else cell


def _runs(cell: str) -> bool:
    return cell.lstrip("'").startswith(_FORMULA)


_COLUMNS = ["row", *(field.name for field in fields(Entry) if field.name != "row")]
_REPEATED = ("status", "code", "reason", "warnings")  # few different texts, held once


def table_order(entry: Entry) -> tuple[Any, ...]:
    """The order of the rows: scans, then what was rejected by its headers, then what was ignored, each by its path."""
    group = 0 if entry.fingerprint else 2 if entry.status == "ignored" else 1
    return group, entry.path.split("/"), entry.key.split("/"), entry.scan


def path_text(path: Path, base: Path) -> str:
    r"""A path relative to another, as ``scans.csv`` holds it.

    Bytes that are not UTF-8 and control characters become escapes such as ``\udcff``: the table stays one line a row,
    and a run that is resumed finds the same text again.
    """
    try:
        text = path.relative_to(base).as_posix()
    except ValueError:
        text = path.name
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def write_entries(path: Path, entries: Iterable[Entry]) -> None:
    """Write the table whole."""
    write_csv(path, _COLUMNS, (_cells(entry) for entry in entries))


def append_entry(path: Path, entry: Entry) -> None:
    """Append the new state of a scan to a table that exists: the last row of an id counts.

    A row is a single write, so a killed process leaves at most the last row torn; a full disk is an error.
    """
    with append_regular(path) as file:
        file.write(csv_line(_cells(entry)).encode())


def read_entries(path: Path, *, torn: bool = False) -> list[Entry]:
    """Read the table, in one pass; no file is an empty one.

    Args:
        path: of the table.
        torn: the run may have been cut: the last row of an id counts, and a last row that is not whole is left out.
            Otherwise both are damage.

    Returns:
        Entries in the order of their first rows, each as its last row has it.

    Raises:
        RunError: damaged.
    """
    entries: dict[str, Entry] = {}
    problem: Exception | None = None
    try:
        with open_regular(path, largest=_MAX_TABLE_BYTES) as raw:
            file = io.TextIOWrapper(raw, encoding="utf-8", newline="")
            reader = csv.reader(_whole_lines(file) if torn else file)
            if next(reader, None) != _COLUMNS:
                raise ValueError("other columns than this version writes")
            while True:
                try:
                    cells = next(reader, None)
                    if cells is None:
                        break
                    entry = _entry(cells)
                except (ValueError, csv.Error) as error:
                    if not torn or problem is not None:
                        raise
                    problem = error
                    continue
                if problem is not None:  # what was not whole is not the last row
                    raise problem
                if entry.scan in entries and not torn:
                    raise ValueError("an id appears twice")
                entries[entry.scan] = entry
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RunError(f"{path}: damaged ({why or error}); start a new run") from error
    return list(entries.values())


def _whole_lines(file: Iterable[str]) -> Iterator[str]:
    """The lines that end."""
    return (line for line in file if line.endswith("\n"))


def _entry(cells: Sequence[str]) -> Entry:
    if len(cells) != len(_COLUMNS):
        raise ValueError(f"a row with {len(cells)} cells, expected {len(_COLUMNS)}")
    row: dict[str, Any] = {name: as_it_was(cell) for name, cell in zip(_COLUMNS, cells, strict=True)}
    if not is_scan_id(row["scan"]):
        raise ValueError("an id is invalid")
    for name in _REPEATED:
        row[name] = sys.intern(row[name])
    return Entry(**{**row, "files": int(row["files"]), "row": int(row["row"])})


def _cells(entry: Entry) -> list[Any]:
    """In the order of the columns. Texts from outside stay within their line."""
    return [
        _UNPRINTABLE.sub(" ", cell) if isinstance(cell, str) else cell
        for cell in (getattr(entry, name) for name in _COLUMNS)
    ]


def csv_line(cells: Iterable[Any]) -> str:
    """One row of a table. No cell of it is a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([as_text(cell) for cell in cells])
    return text.getvalue()


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table whole, row by row. No cell of it is a formula."""
    with write_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([as_text(cell) for cell in names])
        writer.writerows([as_text(cell) for cell in row] for row in rows)
