"""The training manifest: the split and the labels of each scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ConfigError
from molre_edge.findings import SCAN_COLUMN, SPLIT_COLUMN
from molre_edge.tables import label_value, match_columns, read_table

__all__ = ["MANIFEST_NAME", "SPLITS", "Case", "Manifest", "read_manifest"]

MANIFEST_NAME = "manifest.csv"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Case:
    """One scan.

    Attributes:
        name: the manifest's ``scan``, a path relative to the data folder.
        path: where it lies.
        split: ``train``, ``val`` or ``test``.
        labels: float32 [findings], 1, 0 or NaN where unknown.
    """

    name: str
    path: Path
    split: str
    labels: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Manifest:
    """A manifest that was read and checked.

    Attributes:
        path: of the CSV.
        findings: its finding columns, in its order.
        cases: its rows.
        unused: columns that are not read, apart from those that start with ``_``.
        unknown: findings without a column.
    """

    path: Path
    findings: tuple[str, ...]
    cases: tuple[Case, ...]
    unused: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def of(self, split: str) -> tuple[Case, ...]:
        """The cases of a split."""
        return tuple(case for case in self.cases if case.split == split)


def read_manifest(data: Path, findings: Sequence[str] | None = None, *, partial: bool = False) -> Manifest:
    """Read ``manifest.csv`` of a data folder: columns ``scan``, ``split`` and one a finding (1, 0, empty = unknown).

    Args:
        data: the folder, or the CSV itself; ``scan`` is relative to the CSV's folder and must stay inside it.
        findings: the columns to read, in order; None for all but ``scan``, ``split`` and those that start with ``_``.
        partial: treat findings without a column as unknown, as long as some have one.

    Raises:
        ConfigError: the file can't be read, a column is missing, a value is not allowed, or a scan does not exist, is
            named twice or lies outside the folder. The message gives the line.
    """
    path = data / MANIFEST_NAME if data.is_dir() else data
    if not path.exists():
        raise ConfigError(
            f"{data}: there is no {MANIFEST_NAME} in this folder; docs/guides/training.md describes the file"
        )
    try:
        table = read_table(path, SCAN_COLUMN)
        wanted, places = _wanted(path, table.columns, findings, partial)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    root = path.resolve().parent
    cases, seen = list[Case](), dict[Path, int]()
    for line, cells in table.rows:
        where = f"{path}, line {line}"
        name, split = cells[places[SCAN_COLUMN]], cells[places[SPLIT_COLUMN]]
        place = root if "\0" in name else (root / name).resolve()
        if place == root or not place.is_relative_to(root):
            raise ConfigError(f"{where}: expected the path of a scan inside the folder, got {name[:200]!r}")
        if not place.exists():
            raise ConfigError(f"{where}: {name} does not exist; 'scan' is a path relative to the manifest")
        if place in seen:
            raise ConfigError(f"{where}: {name} is already named in line {seen[place]}; each scan must have one row")
        if split not in SPLITS:
            raise ConfigError(f"{where}: split is {split[:20]!r}, expected {', '.join(SPLITS)}")
        seen[place] = line
        labels = [_label(where, each, cells[places[each]] if each in places else "") for each in wanted]
        cases.append(Case(name, place, split, np.array(labels, dtype=np.float32)))
    if not cases:
        raise ConfigError(f"{path}: has no rows; add one row for each scan")
    read = set(places.values())
    unused = [c for i, c in enumerate(table.columns) if c and i not in read and not c.startswith("_")]
    return Manifest(path, wanted, tuple(cases), tuple(unused), tuple(name for name in wanted if name not in places))


def _wanted(
    path: Path, columns: Sequence[str], findings: Sequence[str] | None, partial: bool
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The findings to read, and where each column is."""
    fixed = (SCAN_COLUMN, SPLIT_COLUMN)
    places = match_columns(columns, fixed)
    own = [c for i, c in enumerate(columns) if c and i not in places.values() and not c.startswith("_")]
    wanted = tuple(own if findings is None else findings)
    places = match_columns(columns, (*fixed, *wanted))
    known = [c for c in wanted if c in places]
    missing = [c for c in (*fixed, *(() if partial and known else wanted)) if c not in places]
    if missing or not wanted:
        raise ConfigError(
            f"{path}: no column {', '.join(missing[:5]) or 'of a finding'}; expected '{SCAN_COLUMN}', '{SPLIT_COLUMN}' "
            f"and one a finding, separated by commas, semicolons or tabs, got "
            f"{', '.join(columns[:8])[:200] or 'an empty file'}"
        )
    return wanted, places


def _label(where: str, name: str, text: str) -> float:
    value = label_value(text)
    if value is None:
        raise ConfigError(f"{where}, {name}: expected 1, 0 or nothing, got {text[:20]!r}")
    return value
