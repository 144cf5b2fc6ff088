"""From each slice of the model's grid back to the images that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.scans.scan_records import SliceSource

__all__ = ["GridSlice", "map_slices"]

_MIN_SHARE = 0.01
"""Images with a smaller share of a slice are left out."""


@dataclass(frozen=True)
class GridSlice:
    """An image that a slice of the grid was made of. It identifies a person's image: it goes into no report.

    Attributes:
        slice: number of the slice on the grid, from 1; inferior to superior, unless its axes say otherwise.
        share: of the slice, above 0 and up to 1. The shares of a slice sum to 1 where the scan covers it.
        source: the image.
        number: of the slice in the scan, from 1, inferior to superior.
        position_mm: of that slice, above the scan's lowest.
    """

    slice: int
    share: float
    source: SliceSource
    number: int
    position_mm: float


def map_slices(
    sources: Sequence[SliceSource], weights: npt.NDArray[np.float64], positions_mm: npt.NDArray[np.float64]
) -> tuple[GridSlice, ...]:
    """Name the images of each slice of the grid, the one with the largest share first.

    Args:
        sources: of the volume's slices; empty when they are unknown.
        weights: float64 (grid slices, slices), from :func:`molre_edge.scans.grid.resample`.
        positions_mm: float64 (slices,), of the volume's slices, increasing.

    Returns:
        In the order of the grid; none where a slice lies outside the scan.
    """
    if not sources:
        return ()
    found, heights = [], [round(float(height), 3) for height in positions_mm - positions_mm[0]]
    for number, row in enumerate(weights, start=1):
        for at in sorted(np.flatnonzero(row >= _MIN_SHARE), key=lambda at: -row[at]):
            share, place = round(float(row[at]), 4), int(at)
            found.append(GridSlice(number, share, sources[place], place + 1, heights[place]))
    return tuple(found)
