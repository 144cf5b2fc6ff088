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


def read_manifest(data: Path, findings: Sequence[str] | None = None) -> Manifest:
    """Read ``manifest.csv`` of a data folder: columns ``scan``, ``split`` and one a finding (1, 0, empty = unknown).

    Args:
        data: the folder, or the CSV itself; ``scan`` is relative to the CSV's folder and must stay inside it.
        findings: the columns to read, in order; None for all but ``scan``, ``split`` and those that start with ``_``.

    Raises:
        ConfigError: not readable, a column is missing, a value is none of those allowed, a scan is not there, is named
            twice or lies outside the folder; the message gives the line.
    """
    path = data / MANIFEST_NAME if data.is_dir() else data
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: can't be read ({error}); expected a CSV, see docs/training.md") from error
    names = [c for c in columns if c not in {"scan", "split"} and not c.startswith("_")]
    wanted = tuple(names if findings is None else findings)
    missing = [c for c in ("scan", "split", *wanted) if c not in columns]
    if missing or not wanted:
        raise ConfigError(
            f"{path}: no column {', '.join(missing[:5]) or 'of a finding'}; expected 'scan', 'split' and one a finding"
        )
    root = path.resolve().parent
    cases, seen = list[Case](), set[str]()
    for line, row in enumerate(rows, start=2):
        name, split = (row["scan"] or "").strip(), (row["split"] or "").strip()
        place = (root / name).resolve()
        if not name or not place.is_relative_to(root):
            raise ConfigError(f"{path}, line {line}: expected the path of a scan inside the folder, got {name!r}")
        if not place.exists():
            raise ConfigError(f"{path}, line {line}: there is no {name}")
        if name in seen:
            raise ConfigError(f"{path}, line {line}: {name} was named before; each scan has one row")
        if split not in SPLITS:
            raise ConfigError(f"{path}, line {line}: split is {split!r}, expected {', '.join(SPLITS)}")
        seen.add(name)
        labels = np.array([_label(path, line, each, row[each]) for each in wanted], dtype=np.float32)
        cases.append(Case(name, place, split, labels))
    if not cases:
        raise ConfigError(f"{path}: has no rows")
    return Manifest(path, wanted, tuple(cases))


def _label(path: Path, line: int, name: str, text: str | None) -> float:
    text = (text or "").strip()
    if not text:
        return float("nan")
    if text not in {"0", "1", "0.0", "1.0"}:
        raise ConfigError(f"{path}, line {line}, {name}: expected 1, 0 or nothing, got {text[:20]!r}")
    return float(text)
