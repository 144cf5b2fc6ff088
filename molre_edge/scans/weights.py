"""Matrices that resample one axis: of the pixels within a slice, and of the slices.

Rows are outputs, columns what the volume has. A row sums to 1 where it has data, to 0 or less than 1 where it has none.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from molre_edge.specs import Grid

__all__ = ["bin_weights", "pixel_weights", "plane_weights", "stack_weights"]

_F64 = npt.NDArray[np.float64]
_Edge = Literal["air", "repeat", "within"]
"""What lies beyond the first and last pixel: nothing, that pixel again, or nothing that counts."""

_CUBIC_AT_POINTS = -0.75
"""Of cubic interpolation without antialiasing, as PyTorch and OpenCV have it; with it -0.5, as PIL and PyTorch."""
_CUBIC_WIDENED = -0.5


def plane_weights(grid: Grid, count: int, pixel_mm: float, centre_mm: float, out: int, *, backwards: bool) -> _F64:
    """Weights that resample one axis within slices.

    Args:
        grid: of the model.
        count: pixels of the volume along the axis.
        pixel_mm: their distance.
        centre_mm: middle of the head, from the centre of the first pixel.
        out: pixels of the grid.
        backwards: whether the grid's axis runs against the volume's.

    Returns:
        float64 (out, count).
    """
    if backwards:
        centre_mm = (count - 1) * pixel_mm - centre_mm
    step, numbers = grid.pixel_mm / pixel_mm, np.arange(out, dtype=np.float64)
    if grid.plane == "head":
        if grid.interpolation == "linear" and grid.antialias:
            weights = pixel_weights(count, pixel_mm, centre_mm, out, grid.pixel_mm)
        else:
            at = (centre_mm + (numbers - (out - 1) / 2) * grid.pixel_mm) / pixel_mm
            weights = _read(grid.interpolation, grid.antialias, at, count, step, "air")
    elif grid.plane == "whole":
        step = count / out
        weights = _within(grid, (numbers + 0.5) * step - 0.5, count, step)
    else:
        lattice, inside = _cropped(count, step, out)
        weights = _within(grid, np.where(inside, lattice, 0.0) * step, count, step) * inside[:, None]
    return weights[:, ::-1] if backwards else weights


def _within(grid: Grid, at: _F64, count: int, step: float) -> _F64:
    return _read(grid.interpolation, grid.antialias, at, count, step, "within" if grid.antialias else "repeat")


def stack_weights(
    grid: Grid,
    positions: _F64,
    thickness: _F64,
    range_mm: tuple[float, float],
) -> _F64:
    """Weights that make the slices of the grid of those of the volume.

    Args:
        grid: of the model.
        positions: float64 (slices,), increasing, mm.
        thickness: float64 (slices,), mm.
        range_mm: lower and upper end of the head.

    Returns:
        float64 (grid slices, slices).
    """
    if grid.axes[0] == "I":
        turned = (-positions[::-1], thickness[::-1], (-range_mm[1], -range_mm[0]))
        return _upwards(grid, *turned)[:, ::-1]
    return _upwards(grid, positions, thickness, range_mm)


def _upwards(grid: Grid, positions: _F64, thickness: _F64, range_mm: tuple[float, float]) -> _F64:
    count, out = len(positions), grid.slices
    if grid.stack == "spread":
        return _chosen(np.rint(np.linspace(0, count - 1, out)), count)
    if grid.stack == "every":
        taken = -(-count // grid.slice_step)
        lattice, inside = _cropped(taken, 1.0, out)
        return _chosen(np.clip(lattice, 0, taken - 1) * grid.slice_step, count) * inside[:, None]
    if grid.stack == "centre":
        step = grid.height_mm / out
        lattice, inside = _cropped(positions[-1] - positions[0] + 1, step, out)
        middles = positions[0] + lattice * step
        edges = np.append(middles, middles[-1] + step) - step / 2
        return _between(grid.between, positions, thickness, middles, edges, step) * inside[:, None]
    ends = range_mm
    if grid.stack == "whole":
        ends = float(positions[0] - thickness[0] / 2), float(positions[-1] + thickness[-1] / 2)
    edges = np.linspace(*ends, out + 1)
    if grid.stack == "head" and grid.between == "mean":
        return bin_weights(positions, thickness, edges)
    return _between(grid.between, positions, thickness, (edges[:-1] + edges[1:]) / 2, edges, float(edges[1] - edges[0]))


def _between(kind: str, positions: _F64, thickness: _F64, middles: _F64, edges: _F64, step: float) -> _F64:
    if kind in ("mean", "area"):
        of_bins = bin_weights if kind == "mean" else _area_weights
        weights = of_bins(positions, thickness, edges)
        held = weights.sum(axis=1, keepdims=True)
        shares: _F64 = np.divide(weights, held, out=np.zeros_like(weights), where=held > 0)
        return shares
    count = len(positions)
    at = np.interp(middles, positions, np.arange(count))
    return _read(kind, False, at, count, step, "repeat")


def _cropped(count: float, step: float, out: int) -> tuple[_F64, npt.NDArray[np.bool_]]:
    """The lattice that begins at the first of `count` and has `step` between, cropped or padded around its middle.

    Returns:
        Numbers on that lattice, float64 (out,), and which of them are on it. The middle is as MONAI's SpatialPad and
        CenterSpatialCrop have it.
    """
    held = max(1, round((count - 1) / step + 1))
    first = held // 2 - out // 2 if held >= out else -((out - held) // 2)
    lattice = np.arange(first, first + out, dtype=np.float64)
    return lattice, (lattice >= 0) & (lattice < held)


def _chosen(places: _F64, count: int) -> _F64:
    picked: _F64 = (np.arange(count) == places[:, None]).astype(np.float64)
    return picked


def _read(kind: str, antialias: bool, at: _F64, count: int, step: float, edge: _Edge) -> _F64:
    """Weights (outputs, count) that read a line.

    Args:
        kind: of interpolation.
        antialias: whether the kernel is as wide as `step`.
        at: where, in pixels.
        count: pixels of the line.
        step: distance of the outputs, in pixels.
        edge: what lies beyond its ends.
    """
    if kind == "nearest":
        chosen = np.floor(at + 0.5)
        return _chosen(chosen if edge == "air" else np.clip(chosen, 0, count - 1), count)
    width = max(1.0, step) if antialias else 1.0
    support = {"linear": width, "cubic": 2 * width, "area": step / 2 + 0.5}[kind]
    lattice = np.floor(at)[:, None] + np.arange(-int(np.ceil(support)), int(np.ceil(support)) + 2)
    away = np.abs(lattice - at[:, None])
    if kind == "linear":
        taps = np.maximum(0.0, 1.0 - away / width)
    elif kind == "cubic":
        taps = _cubic(away / width, _CUBIC_WIDENED if antialias else _CUBIC_AT_POINTS)
    else:  # the overlap of pixel and output
        taps = np.clip(support - away, 0.0, min(1.0, step))
    inside = (lattice >= 0) & (lattice < count)
    if edge == "within":
        taps = taps * inside
    taps = taps / taps.sum(axis=1, keepdims=True)
    weights = np.zeros((len(at), count))
    rows = np.broadcast_to(np.arange(len(at))[:, None], lattice.shape)
    columns = np.clip(lattice, 0, count - 1).astype(int)
    kept = np.ones_like(inside) if edge == "repeat" else inside
    np.add.at(weights, (rows[kept], columns[kept]), taps[kept])
    return weights


def _cubic(away: _F64, a: float) -> _F64:
    near = (a + 2) * away**3 - (a + 3) * away**2 + 1
    far = a * (away**3 - 5 * away**2 + 8 * away - 4)
    weights: _F64 = np.where(away <= 1, near, np.where(away < 2, far, 0.0))
    return weights


def pixel_weights(count: int, pixel_mm: float, centre_mm: float, out_count: int, out_pixel_mm: float) -> _F64:
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


def bin_weights(positions: _F64, thickness: _F64, edges: _F64) -> _F64:
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
    weights: _F64 = np.diff(integral, axis=0) / np.diff(edges)[:, None]
    return weights


def _integrals(positions: _F64, thickness: _F64, ends: _F64) -> _F64:
    """float64 (ends, slices): the integral of each slice's share of the profile from below up to each end."""
    result = np.zeros((len(ends), len(positions)))
    result[:, 0] += np.clip(ends - (positions[0] - thickness[0] / 2), 0.0, thickness[0] / 2)
    result[:, -1] += np.clip(ends - positions[-1], 0.0, thickness[-1] / 2)
    for index, step in enumerate(np.diff(positions)):
        part = np.clip((ends - positions[index]) / step, 0.0, 1.0)
        result[:, index] += step * (part - part**2 / 2)
        result[:, index + 1] += step * part**2 / 2
    return result


def _area_weights(positions: _F64, thickness: _F64, edges: _F64) -> _F64:
    """As :func:`bin_weights`, of slices that are constant from halfway to one neighbour to halfway to the other."""
    halfway = (positions[:-1] + positions[1:]) / 2
    low = np.append(positions[0] - thickness[0] / 2, halfway)
    high = np.append(halfway, positions[-1] + thickness[-1] / 2)
    overlap = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
    weights: _F64 = np.maximum(0.0, overlap) / np.diff(edges)[:, None]
    return weights
