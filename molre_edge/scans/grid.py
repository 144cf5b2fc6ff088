"""From a volume to the model's grid: a fixed field centred on the head, and equal bins from the top of the head down.

Or as the grid says otherwise. Everything here is linear: a matrix for the rows, one for the columns and one for the
slices, in double precision. So it is fast, and differences between machines stay far below the rounding to half floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.coarse import Coarse, shrink
from molre_edge.scans.head_place import HeadPlace, find_head
from molre_edge.scans.hounsfield import Hounsfield
from molre_edge.scans.scan_records import HeadVolume
from molre_edge.scans.weights import plane_weights, stack_weights
from molre_edge.specs import HU_MAX, HU_MIN, Grid

__all__ = [
    "apply_weights",
    "head_centre_mm",
    "head_range_mm",
    "pixels_mm",
    "resample",
    "sample",
    "to_grid",
    "to_half",
    "upright",
]

_Plane = npt.NDArray[np.float64]


def to_grid(volume: HeadVolume, grid: Grid) -> npt.NDArray[np.float16]:
    """Resample a head to the model's grid.

    The head is found by its skull (:func:`molre_edge.scans.head_place.find_head`), wherever it lies in the body. Unless
    the grid says otherwise, a field of `grid.field_mm` is centred on it in plane and sampled linearly, with a triangle
    as wide as the coarser of both pixels, so that finer detail is averaged, not aliased. Along the slices, the head
    from its top down to the end of the scan (at most `grid.height_mm`) is split into equal bins; each is the mean of
    the line that joins the slices at their true positions. Outside the data is `grid.outside_hu`, air.

    Args:
        volume: from :func:`molre_edge.scans.read_scan`.
        grid: of the model.

    Returns:
        float16 (slices, rows, cols), HU in [-1024, 3072], along `grid.axes`: unless that says otherwise, inferior to
        superior, anterior to posterior, right to left.
        Half floats hold whole HU exactly up to 2048, and any value within 0.016 HU in the brain's range.

    Raises:
        ScanError: ``no_tissue`` or ``upside_down``.
    """
    return resample(volume, grid)[0]


def resample(volume: HeadVolume, grid: Grid) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float64]]:
    """As :func:`to_grid`, and which slices each bin was made of.

    Returns:
        The volume on the grid; and float64 (grid slices, slices): the share of each slice of `volume` in each bin.
    """
    coarse = shrink(volume)
    place = find_head(coarse, grid.height_mm)
    bottom, top = _range_mm(volume, coarse, place, grid.height_mm)
    centre = head_centre_mm(coarse, place, bottom, top)
    return sample(volume.hu, volume.positions_mm, volume.thickness_mm, volume.pixel_mm, grid, (bottom, top), centre)


def sample(
    hu: Hounsfield,
    positions_mm: npt.NDArray[np.float64],
    thickness_mm: npt.NDArray[np.float64],
    pixel_mm: tuple[float, float],
    grid: Grid,
    range_mm: tuple[float, float],
    centre_mm: tuple[float, float],
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float64]]:
    """As :func:`resample`, where the place of the grid is known.

    Args:
        hu: (slices, rows, cols), as in :class:`HeadVolume`, like the next three.
        positions_mm: (slices,).
        thickness_mm: (slices,).
        pixel_mm: (row, col).
        grid: of the model.
        range_mm: lower and upper end of the head along the slices, as far as the grid reaches.
        centre_mm: of the head along rows and cols, from the first pixel.

    Raises:
        ScanError: ``no_tissue``: nothing is above `grid.crop_above_hu`.
    """
    if grid.crop_above_hu is not None:
        slices, rows_, cols_ = _box_above(hu, grid.crop_above_hu)
        cropped = hu[slices, rows_, cols_], positions_mm[slices], thickness_mm[slices], pixel_mm
        volume, inner = sample(*cropped, replace(grid, crop_above_hu=None), range_mm, centre_mm)
        weights = np.zeros((grid.slices, len(hu)))
        weights[:, slices] = inner
        return volume, weights
    turned = grid.axes[1] in "LR"  # rows of the grid run along columns of the volume
    rows, cols = (grid.cols, grid.rows) if turned else (grid.rows, grid.cols)
    down = plane_weights(grid, hu.shape[1], pixel_mm[0], centre_mm[0], rows, backwards="A" in grid.axes)
    across = plane_weights(grid, hu.shape[2], pixel_mm[1], centre_mm[1], cols, backwards="R" in grid.axes)
    weights = stack_weights(grid, positions_mm, thickness_mm, range_mm)
    result = apply_weights(hu, weights, down, across.T)
    if grid.outside_hu != HU_MIN:
        held = weights.sum(axis=1)[:, None, None] * down.sum(axis=1)[:, None] * across.sum(axis=1)
        result += (grid.outside_hu - HU_MIN) * (1.0 - held)
    return to_half(result.swapaxes(1, 2) if turned else result), weights


def _box_above(hu: Hounsfield, threshold: float) -> tuple[slice, slice, slice]:
    """The smallest box that holds all values above a threshold, as MONAI's CropForeground has it."""
    above = [plane > threshold for plane in hu]
    seen = np.any(above, axis=0)
    found = [np.flatnonzero(line) for line in ([plane.any() for plane in above], seen.any(axis=1), seen.any(axis=0))]
    if not all(len(line) for line in found):
        raise ScanError("no_tissue", f"no value is above {threshold:g} HU, which the model's grid is cropped to")
    first, second, third = (slice(int(line[0]), int(line[-1]) + 1) for line in found)
    return first, second, third


def pixels_mm(grid: Grid, hu: Hounsfield, pixel_mm: tuple[float, float]) -> tuple[float, float]:
    """(row, col) distance of the grid's pixels in millimetres, for a volume.

    Args:
        grid: of the model.
        hu: (slices, rows, cols), the volume.
        pixel_mm: (row, col) of the volume.
    """
    if grid.plane != "whole":
        return grid.pixel_mm, grid.pixel_mm
    if grid.crop_above_hu is not None:
        hu = hu[_box_above(hu, grid.crop_above_hu)]
    sides = hu.shape[1] * pixel_mm[0], hu.shape[2] * pixel_mm[1]
    row, col = sides[::-1] if grid.axes[1] in "LR" else sides
    return row / grid.rows, col / grid.cols


def upright(plane: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    """A slice of the grid as it is looked at: rows to posterior, columns to the patient's left."""
    if grid.axes[1] in "LR":
        plane = plane.T
    return plane[:: -1 if "A" in grid.axes else 1, :: -1 if "R" in grid.axes else 1]


def apply_weights(
    hu: Hounsfield,
    weights: npt.NDArray[np.float64],
    down: npt.NDArray[np.float64],
    across: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """A volume times one matrix an axis, in HU; where the weights sum to less than one, the rest is air.

    Args:
        hu: (slices, rows, cols).
        weights: (grid slices, slices).
        down: (grid rows, rows).
        across: (cols, grid cols).
    """
    shape = down.shape[0], across.shape[1]
    if len(hu) <= len(weights):
        planes = {index: down @ _over_air(hu[index]) @ across for index in _used(np.abs(weights).max(axis=0))}
        result = np.stack([_mix(planes.__getitem__, row, shape) for row in weights])
    else:
        result = np.empty((len(weights), *shape))
        for index, row in enumerate(weights):
            result[index] = down @ _mix(lambda at: _over_air(hu[at]), row, hu.shape[1:]) @ across
    result += HU_MIN
    return result


def to_half(hu: npt.NDArray[np.float64]) -> npt.NDArray[np.float16]:
    """HU as the model gets them: clipped to [-1024, 3071], in half floats, of which the highest is 3072."""
    rounded: npt.NDArray[np.float16] = np.clip(hu, HU_MIN, HU_MAX).astype(np.float16)
    return rounded


def _used(weights: npt.NDArray[Any]) -> list[int]:
    return [int(index) for index in np.flatnonzero(weights)]


def _over_air(plane: Hounsfield) -> _Plane:
    """HU above air, so that outside the data is zero; clipped first, so that metal does not spread."""
    low, high = np.array([HU_MIN, HU_MAX], plane.dtype)
    over: _Plane = np.clip(plane, low, high).astype(np.float64)
    over -= HU_MIN
    return over


def _mix(plane: Callable[[int], _Plane], weights: npt.NDArray[np.float64], shape: Sequence[int]) -> _Plane:
    """The weighted sum of planes of a shape, one at a time."""
    total = np.zeros(shape)
    for index in _used(weights):
        total += weights[index] * plane(index)
    return total


def head_range_mm(volume: HeadVolume, coarse: Coarse, height_mm: float) -> tuple[float, float]:
    """Lower and upper end of the head along the slice normal, as far as the grid reaches, in mm.

    Raises:
        ScanError: ``no_tissue`` or ``upside_down``.
    """
    return _range_mm(volume, coarse, find_head(coarse, height_mm), height_mm)


def _range_mm(volume: HeadVolume, coarse: Coarse, place: HeadPlace, height_mm: float) -> tuple[float, float]:
    highest = int(np.searchsorted(volume.positions_mm, coarse.positions_mm[place.top]))
    top = float(volume.positions_mm[highest] + volume.thickness_mm[highest] / 2)
    end = float(volume.positions_mm[0] - volume.thickness_mm[0] / 2)
    return max(end, top - height_mm), top


def head_centre_mm(coarse: Coarse, place: HeadPlace, bottom: float, top: float) -> tuple[float, float]:
    """Centre of the head along (rows, cols) in mm, from the centre of the volume's first pixel.

    It is the middle between the 1st and the 99th percentile of tissue along each axis: the middle of the head's
    bounding box, without what a cable or the tip of the nose adds.
    """
    inside = (coarse.positions_mm >= bottom) & (coarse.positions_mm <= top)
    counts = (place.body * (coarse.thickness_mm * inside)[:, None, None]).sum(axis=0)
    return (
        _middle(counts.sum(axis=1)) * coarse.pixel_mm[0] + coarse.first_mm[0],
        _middle(counts.sum(axis=0)) * coarse.pixel_mm[1] + coarse.first_mm[1],
    )


def _middle(profile: npt.NDArray[np.float64]) -> float:
    edges = np.concatenate([[0.0], np.cumsum(profile)]) / profile.sum()
    low, high = np.interp((0.01, 0.99), edges, np.arange(len(profile) + 1) - 0.5)
    return float(low + high) / 2
