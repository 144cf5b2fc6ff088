"""``scans.csv``: the one file of a run that ties anonymous ids to paths, which may carry names of people."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from molre_edge.errors import RunError
from molre_edge.files import write_whole

__all__ = ["Entry", "as_it_was", "as_text", "path_text", "read_entries", "write_csv", "write_entries"]

_ID = re.compile(r"scan-[0-9]{4,}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Entry:
    """One row: a scan's anonymous id, and what only this file may say about it.

    Attributes:
        scan: ``scan-0001`` and so on.
        path: its folder or file, relative to the scans' root.
        key: its first file, relative to the root; tells series of one folder apart.
        fingerprint: of its files' names, sizes and times; empty for what was left out by its headers.
        status: ``pending``, ``done``, ``rejected`` or ``ignored``.
        code: why it was rejected or ignored, a stable word.
        reason: the same in a sentence.
        files: how many.
        warnings: of a scan that was read.
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

    @property
    def number(self) -> int:
        """The number in its id."""
        return int(self.scan.removeprefix("scan-"))


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


_COLUMNS = [field.name for field in fields(Entry)]


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


def write_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Write the table whole."""
    write_csv(path, _COLUMNS, [list(asdict(entry).values()) for entry in entries])


def read_entries(path: Path) -> list[Entry]:
    """Read the table; no file is an empty one.

    Raises:
        RunError: damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise ValueError("other columns")
            cells = ({name: as_it_was(cell) for name, cell in row.items()} for row in reader)
            rows = [Entry(**{**row, "files": int(row["files"])}) for row in cells]  # type: ignore[arg-type]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise RunError(f"{path}: damaged ({error}); start a new run") from error
    ids = [row.scan for row in rows]
    if not all(map(_ID.fullmatch, ids)) or len(set(ids)) < len(ids):
        raise RunError(f"{path}: damaged (an id is invalid or appears twice). Start a new run")
    return rows


def write_csv(path: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table whole. No cell of it is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([as_text(cell) for cell in row] for row in (names, *rows))
    with write_whole(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8", newline="")
