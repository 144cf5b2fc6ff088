"""From a volume to the model's grid: a fixed field centred on the head, and equal bins from the top of the head down.

Everything here is linear: a matrix for the rows, one for the columns and one for the slices, in double precision. So it
is fast, and differences between machines stay far below the rounding to half floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.scans.coarse import Coarse, shrink
from molre_edge.scans.head_place import HeadPlace, find_head
from molre_edge.scans.hounsfield import Hounsfield
from molre_edge.scans.scan_records import HeadVolume
from molre_edge.specs import HU_MAX, HU_MIN, Grid

__all__ = [
    "apply_weights",
    "bin_weights",
    "head_centre_mm",
    "head_range_mm",
    "pixel_weights",
    "resample",
    "sample",
    "to_grid",
    "to_half",
]

_Plane = npt.NDArray[np.float64]


def to_grid(volume: HeadVolume, grid: Grid) -> npt.NDArray[np.float16]:
    """Resample a head to the model's grid.

    The head is found by its skull (:func:`molre_edge.scans.head_place.find_head`), wherever it lies in the body. In
    plane, a field of `grid.field_mm` is centred on it and sampled linearly, with a triangle as wide as the
    coarser of both pixels, so that finer detail is averaged, not aliased. Along the slices, the head from its top
    down to the end of the scan (at most `grid.height_mm`) is split into equal bins; each is the mean of the line that
    joins the slices at their true positions. Outside the data is air, -1024.

    Args:
        volume: from :func:`molre_edge.scans.read_scan`.
        grid: of the model.

    Returns:
        float16 (slices, rows, cols), HU in [-1024, 3072]: inferior to superior, anterior to posterior, right to left.
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
        range_mm: lower and upper end of the grid along the slices.
        centre_mm: of the field along rows and cols, from the first pixel.
    """
    down = pixel_weights(hu.shape[1], pixel_mm[0], centre_mm[0], grid.rows, grid.pixel_mm)
    across = pixel_weights(hu.shape[2], pixel_mm[1], centre_mm[1], grid.cols, grid.pixel_mm).T
    weights = bin_weights(positions_mm, thickness_mm, np.linspace(*range_mm, grid.slices + 1))
    return to_half(apply_weights(hu, weights, down, across)), weights


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
    """Lower and upper end of the grid along the slice normal, in mm.

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


def pixel_weights(
    count: int, pixel_mm: float, centre_mm: float, out_count: int, out_pixel_mm: float
) -> npt.NDArray[np.float64]:
    """Weights that resample one axis in the plane, linearly and without aliasing.

    Args:
        count: pixels of the volume along the axis.
        pixel_mm: their distance.
        centre_mm: middle of the field, from the centre of the first pixel.
        out_count: pixels of the grid.
        out_pixel_mm: their distance.

    Returns:
        float64 (out_count, count). Rows sum to 1 inside the volume, to less where the field reaches beyond it.
    """
    centres = (centre_mm + (np.arange(out_count) - (out_count - 1) / 2) * out_pixel_mm) / pixel_mm
    width = max(1.0, out_pixel_mm / pixel_mm)
    reach = int(np.ceil(width)) + 1
    lattice = np.floor(centres)[:, None] + np.arange(-reach, reach + 1)  # (out_count, taps), beyond the volume too
    taps = np.maximum(0.0, 1.0 - np.abs(lattice - centres[:, None]) / width)
    taps /= taps.sum(axis=1, keepdims=True)
    weights = np.zeros((out_count, count), np.float64)
    inside = (lattice >= 0) & (lattice < count)
    rows = np.broadcast_to(np.arange(out_count)[:, None], lattice.shape)
    weights[rows[inside], lattice[inside].astype(int)] = taps[inside]
    return weights


def bin_weights(
    positions: npt.NDArray[np.float64], thickness: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Weights that average the piecewise linear profile through the slices over each bin, exactly.

    Half a slice thickness beyond the first and last position the profile is constant; farther out it is air.

    Args:
        positions: float64 (slices,), increasing, mm.
        thickness: float64 (slices,), mm.
        edges: float64 (bins + 1,), increasing, mm.

    Returns:
        float64 (bins, slices).
    """
    integral = _integrals(positions, thickness, edges)
    weights: npt.NDArray[np.float64] = np.diff(integral, axis=0) / np.diff(edges)[:, None]
    return weights


def _integrals(
    positions: npt.NDArray[np.float64], thickness: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """float64 (ends, slices): the integral of each slice's share of the profile from below up to each end."""
    result = np.zeros((len(ends), len(positions)))
    result[:, 0] += np.clip(ends - (positions[0] - thickness[0] / 2), 0.0, thickness[0] / 2)
    result[:, -1] += np.clip(ends - positions[-1], 0.0, thickness[-1] / 2)
    for index, step in enumerate(np.diff(positions)):
        part = np.clip((ends - positions[index]) / step, 0.0, 1.0)
        result[:, index] += step * (part - part**2 / 2)
        result[:, index + 1] += step * part**2 / 2
    return result
