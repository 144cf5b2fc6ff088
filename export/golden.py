"""Golden volumes: the inputs that every engine answers, at export and on every box."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ConfigError, ScanError
from molre_edge.specs import HU_MAX, HU_MIN, Grid

__all__ = ["MIN_GOLDEN", "extreme_volume", "head_shape", "scan_volumes", "synthetic_volumes"]

MIN_GOLDEN = 2
"""The proof of dynamic routing compares two volumes."""

_LESIONS: tuple[tuple[str, ...], ...] = (
    (),
    ("acute_subdural_hematoma",),
    ("acute_ischemic_infarct",),
    ("intraparenchymal_hemorrhage",),
    ("cerebral_atrophy", "small_vessel_ischemic_disease"),
    ("aneurysm_clip_or_coil",),
    ("hydrocephalus", "ventricular_shunt_or_drain"),
)
"""From a normal head to metal, to cover the intensities of head CT."""


def synthetic_volumes(grid: Grid, count: int, *, seed: int = 0) -> npt.NDArray[np.float16]:
    """Seeded synthetic volumes on the model's grid: heads with lesions, and one with the extremes of HU.

    Args:
        grid: the model's grid.
        count: number of volumes, at least two.
        seed: the same seed gives the same bytes.

    Returns:
        float16 [count, slices, rows, cols], HU.
    """
    from molre_edge.scans import to_grid
    from molre_edge.synthetic import make_head

    if count < MIN_GOLDEN:
        raise ConfigError(f"golden volumes: {count}; expected at least {MIN_GOLDEN}")
    volumes = [extreme_volume(grid, seed)]
    for i in range(count - 1):
        head = make_head(seed + i, _LESIONS[i % len(_LESIONS)], shape=head_shape(grid))
        volumes.append(to_grid(head.as_volume(), grid))
    return np.stack(volumes)


def head_shape(grid: Grid) -> tuple[int, int, int]:
    """Slices, rows and columns of a synthetic head for a grid: finer than the grid, up to a scanner's 32 x 256 x 256.

    Most of the time goes into the heads, and what is finer than the grid is averaged away.
    """
    side = 8 * math.ceil(1.5 * max(grid.rows, grid.cols) / 8)
    return min(max(2 * grid.slices, 12), 32), *2 * (min(max(side, 96), 256),)


def extreme_volume(grid: Grid, seed: int) -> npt.NDArray[np.float16]:
    """Blocks of all HU values, from the lowest to the highest, in random order: values that a head may contain."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice(np.linspace(HU_MIN, HU_MAX, 64), size=(grid.slices, -(-grid.rows // 8), -(-grid.cols // 8)))
    volume = np.kron(blocks, np.ones((1, 8, 8)))[:, : grid.rows, : grid.cols]
    return volume.astype(np.float16)


def scan_volumes(path: Path, grid: Grid, count: int | None = None) -> tuple[npt.NDArray[np.float16], tuple[str, ...]]:
    """Real scans on the model's grid.

    Args:
        path: a file or folder of scans.
        grid: the model's grid.
        count: number of scans to read; None for all.

    Returns:
        float16 HU [n, slices, rows, cols], and why other scans are unusable.
    """
    from molre_edge.scans import read_scan, to_grid
    from molre_edge.scans.workers.finder import find_apart

    found = find_apart(path)
    volumes, problems = list[npt.NDArray[np.float16]](), [f"{bad.path.name}: {bad.reason}" for bad in found.rejected]
    for source in found.scans:
        if count is not None and len(volumes) == count:
            break
        try:
            volumes.append(to_grid(read_scan(source), grid))
        except ScanError as error:
            problems.append(f"{source.path.name}: {error}")
    if not volumes:
        return np.empty((0, *grid.shape), dtype=np.float16), tuple(problems)
    return np.stack(volumes), tuple(problems)
