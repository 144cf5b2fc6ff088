"""Scans on the model's grid, read once and kept on disk: training passes over them many times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ConfigError, ScanError
from molre_edge.files import write_whole
from molre_edge.scans import find_scans, read_scan, to_grid
from molre_edge.specs import Grid
from molre_edge.training.data_manifest import Case

__all__ = ["Volumes", "prepare_volumes"]

_FORMAT = 1  # counts up when the geometry's code changes what a volume holds


@dataclass(frozen=True, eq=False)
class Volumes:
    """Cases with their volumes on disk.

    Attributes:
        cases: the usable cases, in the manifest's order.
        files: the volume of each, ``.npy``, float16 [slices, rows, cols], HU.
        problems: (name, reason) of each case that can't be used.
    """

    cases: tuple[Case, ...]
    files: tuple[Path, ...]
    problems: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        """The number of usable cases."""
        return len(self.cases)

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """[n, findings], NaN where unknown."""
        return np.stack([case.labels for case in self.cases])

    def load(self, indices: Sequence[int]) -> npt.NDArray[np.float16]:
        """Volumes by index: float16 [len(indices), slices, rows, cols]."""
        return np.stack([np.load(self.files[i], allow_pickle=False) for i in indices])


def prepare_volumes(
    cases: Sequence[Case], grid: Grid, cache: Path, on_case: Callable[[], None] = lambda: None
) -> Volumes:
    """Resample scans to the grid. Volumes that are already in the cache are reused.

    Args:
        cases: to prepare.
        grid: the model's.
        cache: folder; a volume's name is a hash of what it was made from (scan, files' sizes and times, grid).
        on_case: called after each case.

    Raises:
        ConfigError: no case can be used.
    """
    usable, files, problems = list[Case](), list[Path](), list[tuple[str, str]]()
    for case in cases:
        try:
            files.append(_prepare(case, grid, cache))
            usable.append(case)
        except ScanError as error:
            problems.append((case.name, str(error)))
        on_case()
    if not usable and problems:
        name, reason = problems[0]
        raise ConfigError(f"none of the {len(cases)} scans can be used; the first is {name}: {reason}")
    return Volumes(tuple(usable), tuple(files), tuple(problems))


def _prepare(case: Case, grid: Grid, cache: Path) -> Path:
    found = find_scans(case.path)
    if not found.scans:
        first = found.rejected[0] if found.rejected else None
        raise ScanError(first.code if first else "no_scan", first.reason if first else "no scan found")
    if len(found.scans) > 1:  # the labels would be those of one of them, nobody knows which
        raise ScanError(
            "several_scans", f"holds {len(found.scans)} scans, but a row describes one; name that scan's folder"
        )
    source = found.scans[0]
    key = json.dumps([_FORMAT, grid.to_dict(), case.name, source.fingerprint()])
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    if not path.is_file():  # written whole, so what is there is complete
        volume = to_grid(read_scan(source), grid)
        with write_whole(path) as partial, partial.open("wb") as file:
            np.save(file, volume)
    return path
