"""The training manifest: which scan belongs to which split, and what is known about it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ConfigError

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
    """A read manifest.

    Attributes:
        path: of the CSV.
        findings: its finding columns, in its order.
        cases: its rows.
    """

    path: Path
    findings: tuple[str, ...]
    cases: tuple[Case, ...]

    def of(self, split: str) -> tuple[Case, ...]:
        """The cases of a split."""
        return tuple(case for case in self.cases if case.split == split)


def read_manifest(data: Path, findings: Sequence[str] | None = None, *, partial: bool = False) -> Manifest:
    """Read ``manifest.csv`` of a data folder: columns ``scan``, ``split`` and one a finding (1, 0, empty = unknown).

    Args:
        data: the folder, or the CSV itself; ``scan`` is relative to the CSV's folder and must stay inside it.
        findings: the columns to read, in order; None for all but ``scan``, ``split`` and those that start with ``_``.
        partial: take some of `findings` for unknown in every scan where the CSV has no column of that name.

    Raises:
        ConfigError: not readable, a column is missing, a value is none of those allowed, a scan is not there, is named
            twice or lies outside the folder; the message gives the line.
    """
    path = data / MANIFEST_NAME if data.is_dir() else data
    if not path.exists():
        raise ConfigError(f"{data}: holds no {MANIFEST_NAME}; docs/training.md says what belongs into it")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: can't be read ({error}); expected a CSV, see docs/training.md") from error
    wanted = _wanted(path, columns, findings, partial)
    root = path.resolve().parent
    cases, seen = list[Case](), set[Path]()
    for line, row in rows:
        where = f"{path}, line {line}"
        if None in row:
            raise ConfigError(f"{where}: has more values than the first line has columns")
        name, split = (row["scan"] or "").strip(), (row["split"] or "").strip()
        place = root if "\0" in name else (root / name).resolve()
        if place == root or not place.is_relative_to(root):
            raise ConfigError(f"{where}: expected the path of a scan inside the folder, got {name[:200]!r}")
        if not place.exists():
            raise ConfigError(f"{where}: there is no {name}")
        if place in seen:
            raise ConfigError(f"{where}: {name} was named before; each scan has one row")
        if split not in SPLITS:
            raise ConfigError(f"{where}: split is {split[:20]!r}, expected {', '.join(SPLITS)}")
        seen.add(place)
        labels = np.array([_label(where, each, row.get(each)) for each in wanted], dtype=np.float32)
        cases.append(Case(name, place, split, labels))
    if not cases:
        raise ConfigError(f"{path}: has no rows")
    return Manifest(path, wanted, tuple(cases))


def _wanted(path: Path, columns: Sequence[str], findings: Sequence[str] | None, partial: bool) -> tuple[str, ...]:
    """The findings to read, if the columns are as they should be."""
    names = [c for c in columns if c not in {"scan", "split"} and not c.startswith("_")]
    wanted = tuple(names if findings is None else findings)
    known = [c for c in wanted if c in names]
    missing = [c for c in ("scan", "split", *(() if partial and known else wanted)) if c not in columns]
    if missing or not wanted:
        raise ConfigError(
            f"{path}: no column {', '.join(missing[:5]) or 'of a finding'}; expected 'scan', 'split' and one a "
            f"finding, separated by commas, got {', '.join(columns[:8])[:200] or 'an empty file'}"
        )
    twice = [c for c in ("scan", "split", *wanted) if columns.count(c) > 1]
    if twice:
        raise ConfigError(f"{path}: has the column '{twice[0]}' twice")
    return wanted


def _label(where: str, name: str, text: str | None) -> float:
    text = (text or "").strip()
    if not text:
        return float("nan")
    if text not in {"0", "1", "0.0", "1.0"}:
        raise ConfigError(f"{where}, {name}: expected 1, 0 or nothing, got {text[:20]!r}")
    return float(text)
