"""Bounds that are checked before anything is allocated, so that a lying header costs nothing."""

from __future__ import annotations

from molre_edge.errors import ScanError

__all__ = ["MAX_FILES", "MAX_FILE_BYTES", "MAX_FRAMES", "MAX_INFLATED_BYTES", "MAX_SIDE", "MAX_VOXELS", "check_size"]

MAX_FILES = 100_000
"""Files under one path."""
MAX_FILE_BYTES = 2 * 1024**3
"""Bytes of one file, and of the voxels of a gzipped one."""
MAX_FRAMES = 4096
"""Slices of one volume."""
MAX_SIDE = 4096
"""Rows or columns of one slice."""
MAX_VOXELS = 2**28
"""Voxels of one volume: 1024 slices of 512 x 512, 1 GiB as float32."""
MAX_INFLATED_BYTES = 2 * MAX_VOXELS + 2**26
"""Content of a deflated DICOM file: the largest volume at two bytes a voxel, and a header."""


def check_size(slices: int, rows: int, cols: int) -> None:
    """Refuse a volume larger than any head CT, before memory is asked for.

    Args:
        slices: number of slices or frames.
        rows: rows of each.
        cols: columns of each.

    Raises:
        ScanError: ``corrupt_header`` for sizes that are not positive, ``too_large`` beyond the limits.
    """
    if slices < 1 or rows < 1 or cols < 1:
        raise ScanError("corrupt_header", f"the header claims {slices} slices of {rows} x {cols}: none can be zero")
    if slices > MAX_FRAMES or max(rows, cols) > MAX_SIDE or slices * rows * cols > MAX_VOXELS:
        raise ScanError(
            "too_large",
            f"the header claims {slices} slices of {rows} x {cols}; at most {MAX_FRAMES} slices, {MAX_SIDE} pixels a "
            f"side and {MAX_VOXELS // 10**6} million voxels are read: use a head series with thicker slices",
        )
