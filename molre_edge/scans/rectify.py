"""Shifts the slices of a tilted gantry over one another, so that the stack becomes rectangular.

A tilted gantry makes slices that are parallel but move sideways in their own plane from one to the next (the table
moves along the body, the planes lean). The plane stays as scanned; each slice is moved within it to where it was.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.hounsfield import Hounsfield
from molre_edge.scans.limits import check_size
from molre_edge.specs import HU_MIN

__all__ = ["MAX_SHIFT_MM", "NO_SHIFT_PIXELS", "Canvas", "plan_canvas"]

MAX_SHIFT_MM = 200.0
"""Slices that lie farther apart in the plane are no stack."""
NO_SHIFT_PIXELS = 0.02
"""Offsets below this are rounding in the header; values then stay as they were stored."""


class Canvas:
    """A plane large enough for all slices of a stack, and where each lies on it.

    Attributes:
        shape: (rows, cols).
        sheared: whether any slice is shifted.
    """

    def __init__(self, shape: tuple[int, int], shifts: npt.NDArray[np.float64], sheared: bool) -> None:
        """Args: `shifts`, float64 (slices, 2), in pixels along (rows, cols), none negative."""
        self.shape, self.sheared, self._shifts = shape, sheared, shifts

    def place(self, index: int, hu: Hounsfield) -> Hounsfield:
        """Put a slice where it belongs, by linear interpolation; air around it.

        Args:
            index: number of the slice.
            hu: (rows, cols), HU.

        Returns:
            HU with the canvas's shape; float32 where slices are shifted.
        """
        if not self.sheared:
            return hu
        canvas = np.full(self.shape, HU_MIN, np.float32)
        whole = np.floor(self._shifts[index]).astype(int)
        part = (self._shifts[index] - whole).astype(np.float32)
        rows, cols = hu.shape
        canvas[whole[0] : whole[0] + rows, whole[1] : whole[1] + cols] = hu
        for axis in (0, 1):
            if part[axis] > 0:
                before = np.roll(canvas, 1, axis)  # the last row and column are spare, so nothing comes around
                canvas += part[axis] * (before - canvas)
        return canvas


def plan_canvas(offsets_mm: npt.NDArray[np.float64], pixel_mm: tuple[float, float], rows: int, cols: int) -> Canvas:
    """Find the plane that holds all slices.

    Args:
        offsets_mm: float64 (slices, 2), where each slice's first pixel lies in the plane, along (rows, cols).
        pixel_mm: (row, col).
        rows: of a slice.
        cols: of a slice.

    Raises:
        ScanError: ``slices_scattered``, ``too_large``.
    """
    reach = np.ptp(offsets_mm, axis=0)
    if reach.max() > MAX_SHIFT_MM:
        raise ScanError(
            "slices_scattered",
            f"the slices are shifted against each other by {reach.max():.0f} mm in their plane; at most "
            f"{MAX_SHIFT_MM:.0f} mm are expected: give one stack",
        )
    shifts = (offsets_mm - offsets_mm.min(axis=0)) / np.array(pixel_mm)
    if shifts.max() < NO_SHIFT_PIXELS:
        return Canvas((rows, cols), shifts, sheared=False)
    extra = [int(np.ceil(shifts[:, axis].max())) + 1 if shifts[:, axis].max() > 0 else 0 for axis in (0, 1)]
    shape = rows + extra[0], cols + extra[1]
    check_size(len(offsets_mm), *shape)
    return Canvas(shape, shifts, sheared=True)
