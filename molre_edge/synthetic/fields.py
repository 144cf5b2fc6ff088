"""Shapes as signed distances and seeded smooth noise, all in millimetres and in single precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "Ints",
    "Mask",
    "Points",
    "box_blur",
    "capsule",
    "ellipsoid",
    "inside",
    "lattice_noise",
    "ramp",
    "sample_grid",
    "sample_map",
    "sheet",
    "spline_weights",
]

Array = NDArray[np.float32]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]
Points = tuple[Array, Array, Array]
"""Coordinates (x, y, z) of the same points: x to the patient's left, y to the front, z to the top, mm."""

_REACH_MM = 132.0  # noise lattices cover a cube of this half side, whatever part of it is rendered


def ramp(value: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, linear between them."""
    return np.asarray(np.clip((value - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0))


def inside(distance: Array, width: Array | float) -> Array:
    """Share of a voxel that lies inside a surface, from its signed distance (negative inside) and the edge's width."""
    if isinstance(width, np.ndarray):
        return np.asarray(np.clip(0.5 - distance / width, 0.0, 1.0))
    return np.asarray(np.clip(np.float32(0.5) - distance * np.float32(1.0 / width), 0.0, 1.0))


def sheet(distance: Array, half: Array | float, width: float) -> Array:
    """Share of a voxel that is covered by a sheet of half thickness `half`, from the distance to its middle."""
    low = np.clip(0.5 + (half - np.abs(distance)) / width, 0, 1)
    high = np.clip(0.5 + (half + np.abs(distance)) / width, 0, 1)
    return np.asarray(low + high - 1, dtype=np.float32)


def ellipsoid(points: Points, centre: Sequence[float], radii: Sequence[float]) -> Array:
    """Approximate signed distance to an axis-aligned ellipsoid; exact on its surface."""
    whole = np.zeros_like(points[0])
    slope = np.zeros_like(points[0])
    for axis, middle, radius in zip(points, centre, radii, strict=True):
        part = (axis - np.float32(middle)) * np.float32(1.0 / radius)
        whole += part * part
        part *= np.float32(1.0 / radius)
        slope += part * part
    np.sqrt(whole, out=whole)
    np.sqrt(slope, out=slope)
    return np.asarray(whole * (whole - 1) / np.maximum(slope, 1e-6), dtype=np.float32)


def capsule(
    points: Points,
    start: Sequence[float],
    end: Sequence[float],
    radius: float,
    end_radius: float | None = None,
    stretch: Sequence[float] = (1.0, 1.0, 1.0),
) -> Array:
    """Approximate signed distance to a (tapered) capsule; `stretch` makes its section longer along an axis."""
    last = radius if end_radius is None else end_radius
    scale = [1.0 / s for s in stretch]
    line = [(e - s) * k for s, e, k in zip(start, end, scale, strict=True)]
    length2 = max(sum(c * c for c in line), 1e-6)
    offsets = [(p - np.float32(s)) * np.float32(k) for p, s, k in zip(points, start, scale, strict=True)]
    along = offsets[0] * np.float32(line[0] / length2)
    along += offsets[1] * np.float32(line[1] / length2)
    along += offsets[2] * np.float32(line[2] / length2)
    np.clip(along, 0.0, 1.0, out=along)
    square = np.zeros_like(along)
    for offset, component in zip(offsets, line, strict=True):
        offset -= along * np.float32(component)
        square += offset * offset
    np.sqrt(square, out=square)
    return np.asarray(square - (np.float32(radius) + along * np.float32(last - radius)))


def spline_weights(positions: NDArray[np.floating], step: float, count: int, origin: float) -> Array:
    """Cubic B-spline weights of `positions` on a lattice: float32 (positions, count)."""
    where = np.clip((np.asarray(positions, dtype=np.float64) - origin) / step, 1.0, count - 2.001)
    offset = np.abs(where[:, None] - np.arange(count)[None, :])
    near = 2.0 / 3.0 - offset**2 + offset**3 / 2
    far = np.clip(2 - offset, 0, None) ** 3 / 6
    return np.where(offset < 1, near, far).astype(np.float32)


def lattice_noise(
    rng: np.random.Generator,
    step_mm: float,
    axes: tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]],
    *,
    band: bool = False,
) -> Array:
    """Smooth noise with mean 0 and standard deviation about 1 on the grid spanned by `axes`.

    The lattice does not depend on the grid: the same generator gives the same field at any resolution.

    Args:
        rng: consumed by one draw of the whole lattice.
        step_mm: distance of the lattice points; features are about 1.3 times as large.
        axes: 1D positions in mm along the array's three axes.
        band: take slow changes out, so that the zero level winds evenly.
    """
    count = int(2 * _REACH_MM / step_mm) + 4
    lattice = rng.standard_normal((count, count, count), dtype=np.float32)
    if band:
        mean = lattice
        for axis in range(3):
            mean = (np.roll(mean, 1, axis) + mean + np.roll(mean, -1, axis)) / np.float32(3)
        lattice = (lattice - np.float32(1.0) * mean) * np.float32(1.05)
    first, second, third = (spline_weights(axis, step_mm, count, -_REACH_MM - step_mm) for axis in axes)
    # Three large products instead of many small ones, which threads of a busy machine would slow down.
    field = (first @ lattice.reshape(count, -1)).reshape(-1, count) @ third.T
    field = np.ascontiguousarray(field.reshape(len(first), count, len(third)).transpose(1, 0, 2))
    field = (second @ field.reshape(count, -1)).reshape(len(second), len(first), len(third))
    return np.asarray(np.ascontiguousarray(field.transpose(1, 0, 2)) * np.float32(3.0))


def sample_grid(grid: Array, points: Points, origin: Sequence[float], step: float) -> Array:
    """Trilinear values of `grid` (x, y, z axes, `step` mm apart from `origin`) at points, clamped at its borders."""
    base = np.zeros(points[0].shape, dtype=np.int32)
    parts: list[Array] = []
    strides = (grid.shape[1] * grid.shape[2], grid.shape[2], 1)
    for axis, start, size, stride in zip(points, origin, grid.shape, strides, strict=True):
        where = np.clip((axis - np.float32(start)) * np.float32(1.0 / step), 0.0, size - 1.001)
        whole = where.astype(np.int32)
        parts.append(where - whole)
        base += whole * np.int32(stride)
    flat = grid.reshape(-1)
    px, py, pz = parts

    def along_z(offset: int) -> Array:
        low = flat[base + np.int32(offset)]
        return np.asarray(low + pz * (flat[base + np.int32(offset + 1)] - low))

    def along_y(offset: int) -> Array:
        low = along_z(offset)
        return np.asarray(low + py * (along_z(offset + strides[1]) - low))

    result = along_y(0)
    return np.asarray(result + px * (along_y(strides[0]) - result))


def sample_map(image: Array, x: Array, y: Array, origin: tuple[float, float], step: float = 1.0) -> Array:
    """Bilinear values of a 2D map (x, y axes) at points, clamped at its borders."""
    px = np.clip((x - np.float32(origin[0])) * np.float32(1.0 / step), 0.0, image.shape[0] - 1.001)
    py = np.clip((y - np.float32(origin[1])) * np.float32(1.0 / step), 0.0, image.shape[1] - 1.001)
    ix, iy = px.astype(np.int32), py.astype(np.int32)
    px, py = px - ix, py - iy
    flat = image.reshape(-1)
    base = ix * np.int32(image.shape[1]) + iy
    low = flat[base] * (1 - py) + flat[base + 1] * py
    base += np.int32(image.shape[1])
    high = flat[base] * (1 - py) + flat[base + 1] * py
    return np.asarray(low * (1 - px) + high * px, dtype=np.float32)


def box_blur(image: Array, axis: int, times: int = 1) -> Array:
    """Blur along one axis with the kernel (1, 2, 1) / 4, borders repeated."""
    for _ in range(times):
        padded = np.concatenate(
            [np.take(image, [0], axis), image, np.take(image, [-1], axis)], axis=axis, dtype=np.float32
        )
        count = image.shape[axis]
        lower = [slice(None)] * image.ndim
        middle = [slice(None)] * image.ndim
        upper = [slice(None)] * image.ndim
        lower[axis], middle[axis], upper[axis] = slice(0, count), slice(1, count + 1), slice(2, count + 2)
        result = padded[tuple(lower)] + padded[tuple(upper)]
        result *= np.float32(0.25)
        result += padded[tuple(middle)] * np.float32(0.5)
        image = result
    return image
