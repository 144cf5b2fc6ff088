"""Tables of labels as people have them: CSV from a program or a spreadsheet. Standard library only.

Read are commas, semicolons and tabs, UTF-8 with or without a byte order mark, UTF-16, and Excel's ``sep=;`` line.
Columns are matched without regard to case and blanks, and never silently: what was matched and what was not is counted.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from molre_edge.regular import open_regular

__all__ = ["Table", "label_value", "masked", "match_columns", "read_table"]

_LARGEST = 256 << 20  # bytes; a million scans with 75 findings have 200 MB
_DELIMITERS = (",", ";", "\t")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_VALUES = {"": math.nan, "0": 0.0, "0.0": 0.0, "0,0": 0.0, "1": 1.0, "1.0": 1.0, "1,0": 1.0}
"""With a decimal comma where spreadsheets write one."""


@dataclass(frozen=True)
class Table:
    """A table as its file has it.

    Attributes:
        columns: names of the first line, without blanks around them; a column without a name and values is ``""``.
        rows: line number as an editor counts, and as many cells as there are columns, without blanks around them.
            Lines without any value are left out.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def read_table(path: Path, key: str) -> Table:
    """Read a CSV file.

    Args:
        path: a regular file.
        key: a column that must be there; it tells which separator the file has.

    Raises:
        ValueError: the reason, without the path: the file can't be read, is not text, or has values without a column.
    """
    try:
        with open_regular(path, largest=_LARGEST) as file:
            text = _decoded(file.read())
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror or error}") from error
    first, _, rest = text.partition("\n")
    told = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
    before = 1 if told else 0
    text = rest if told else text
    delimiter = told[1] if told else _delimiter(text, key)
    rows: list[tuple[int, tuple[str, ...]]] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        columns = [cell.strip() for cell in next(reader, [])]
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if any(values):
                rows.append((reader.line_num + before, _fitted(values, columns, reader.line_num + before)))
    except csv.Error as error:
        raise ValueError(f"can't be read as CSV ({error})") from error
    return Table(tuple(columns), tuple(rows))


def _fitted(values: list[str], columns: Sequence[str], line: int) -> tuple[str, ...]:
    """A line's cells, as many as columns."""
    if any(values[len(columns) :]):
        raise ValueError(f"line {line}: has more values than the first line has columns")
    cells = [*values[: len(columns)], *[""] * (len(columns) - len(values))]
    for number, (name, cell) in enumerate(zip(columns, cells, strict=True), start=1):
        if cell and not name:
            raise ValueError(f"line {line}: has a value in column {number}, which has no name in the first line")
    return tuple(cells)


def _decoded(raw: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"can't be read: not {encoding.removesuffix('-sig').upper()} at byte {error.start}; save it as 'CSV UTF-8'"
        ) from error
    if "\0" in text[:200]:  # UTF-16 without its mark
        raise ValueError("can't be read: holds zero bytes, as UTF-16 without its mark has; save it as 'CSV UTF-8'")
    return text


def _delimiter(text: str, key: str) -> str:
    """The separator that gives the first line the key's column, else the most columns."""
    best = (False, 0)
    chosen = _DELIMITERS[0]
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            continue
        score = (_folded(key) in {_folded(name) for name in names}, len(names))
        if score > best:
            best, chosen = score, delimiter
    return chosen


def match_columns(columns: Sequence[str], wanted: Iterable[str]) -> dict[str, int]:
    """Where each wanted column is; those that are not there are left out.

    Case and blanks do not count (``Midline Shift`` is ``midline_shift``), unless two of the wanted names differ in
    nothing else.

    Raises:
        ValueError: two columns are one of the wanted.
    """
    names = tuple(dict.fromkeys(wanted))
    alike = Counter(map(_folded, names))
    places: dict[str, int] = {}
    for name in names:
        exact = alike[_folded(name)] > 1
        found = [
            i for i, column in enumerate(columns) if (column == name if exact else _folded(column) == _folded(name))
        ]
        if len(found) > 1 and columns[found[0]] == columns[found[1]]:
            raise ValueError(f"has the column '{columns[found[0]]}' twice; leave one of them")
        if len(found) > 1:
            both = " and ".join(f"'{columns[i]}'" for i in found[:2])
            raise ValueError(f"has the columns {both}, which are both read as '{name}'; leave one of them")
        if found:
            places[name] = found[0]
    return places


def _folded(name: str) -> str:
    return re.sub(r"\s+", "_", name.strip()).casefold()


def label_value(text: str) -> float | None:
    """1, 0, or NaN for an empty cell; None for anything else."""
    return _VALUES.get(text)


def masked(name: str) -> str:
    """What a name looks like, without what it says, since names of scans may be names of people: ``xxx-99/x.xxx``."""
    shape = re.sub(r"\d", "9", re.sub(r"[^\W\d_]", "x", name))
    return shape if len(shape) <= 60 else f"{shape[:57]}..."
