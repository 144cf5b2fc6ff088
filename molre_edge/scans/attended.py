"""The slice that a model attended to most: on its grid, and of the scan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.scans.scan_records import SliceSource
from molre_edge.scans.slice_map import GridSlice

__all__ = ["Attended", "attended_image", "attended_slice"]


@dataclass(frozen=True)
class Attended:
    """The slice with the largest weight in a model's pooling. It is no evidence of a finding. Without identifiers.

    Attributes:
        slice: its number on the model's grid, from 1.
        weight: from 0 to 1; the weights of all slices of the grid sum to 1.
        source_slice: number of the nearest slice of the scan, from 1, inferior to superior; None where that slice of
            the grid lies outside the scan, or the scan's slices are unknown. A slice of the grid is mixed from several
            of the scan where both have other distances; this is the one nearest to the middle of those.
        position_mm: of that slice of the scan, above the scan's lowest, along their common normal.
    """

    slice: int
    weight: float
    source_slice: int | None = None
    position_mm: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Attended:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: an impossible value.
            KeyError, TypeError: something else.
        """
        found = Attended(**{name: data[name] for name in ("slice", "weight", "source_slice", "position_mm")})
        whole = [found.slice, 1 if found.source_slice is None else found.source_slice]
        real = [found.weight, 0.0 if found.position_mm is None else found.position_mm]
        if not all(type(value) is int and value > 0 for value in whole):
            raise ValueError("a slice's number is not one")
        if not all(type(value) in (int, float) and math.isfinite(value) for value in real):
            raise ValueError("a weight or position is not a finite number")
        return found


def attended_slice(weights: npt.NDArray[np.floating] | None, slices: Sequence[GridSlice]) -> Attended | None:
    """Where the largest weight is.

    Args:
        weights: float (slices,), of the slices of the grid; None for a model that gives none.
        slices: the images of the grid, from :func:`molre_edge.scans.map_slices`.

    Returns:
        None without weights, or if one is not finite.
    """
    if weights is None or not np.isfinite(weights).all():
        return None
    at = int(weights.argmax())
    nearest = _nearest([each for each in slices if each.slice == at + 1])
    if nearest is None:
        return Attended(at + 1, float(weights[at]))
    return Attended(at + 1, float(weights[at]), nearest.number, nearest.position_mm)


def attended_image(attended: Attended | None, slices: Sequence[GridSlice]) -> SliceSource | None:
    """The image of :attr:`Attended.source_slice`. It identifies a person's image."""
    if attended is None or attended.source_slice is None:
        return None
    wanted = attended.slice, attended.source_slice
    return next((each.source for each in slices if (each.slice, each.number) == wanted), None)


def _nearest(mixed: Sequence[GridSlice]) -> GridSlice | None:
    """Of what one slice of the grid was mixed from, the one nearest to its middle; of two, the one with more share."""
    if not mixed:
        return None
    middle = sum(each.share * each.position_mm for each in mixed) / sum(each.share for each in mixed)
    return min(mixed, key=lambda each: (round(abs(each.position_mm - middle), 3), -each.share, each.number))
