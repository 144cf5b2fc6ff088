"""Bounds that are checked before anything is allocated, so that a lying header costs nothing."""

from __future__ import annotations

from molre_edge.errors import ScanError

__all__ = [
    "MAX_ARCHIVE_BYTES",
    "MAX_ARCHIVE_CONTENT_BYTES",
    "MAX_ARCHIVE_DIRECTORY_BYTES",
    "MAX_DICOM_BYTES",
    "MAX_FILES",
    "MAX_FILE_BYTES",
    "MAX_FRAMES",
    "MAX_HEADER_BYTES",
    "MAX_HEADER_ITEMS",
    "MAX_HEADER_READS",
    "MAX_INFLATED_BYTES",
    "MAX_SIDE",
    "MAX_VOLUME_BYTES",
    "MAX_VOXELS",
    "check_memory",
    "check_size",
]

MAX_FILES = 100_000
"""Files under one path."""
MAX_FILE_BYTES = 2 * 1024**3
"""Bytes of one file, and of the voxels of a gzipped one."""
MAX_FRAMES = 4096
"""Slices of one volume."""
MAX_SIDE = 4096
"""Rows or columns of one slice."""
MAX_VOXELS = 2**29
"""Voxels of one volume: 2048 slices of 512 x 512, or 512 of 1024 x 1024."""
MAX_VOLUME_BYTES = 2**30
"""Of one volume in memory: int16 for all its voxels, or float32 for half of them."""
MAX_DICOM_BYTES = 2 * MAX_VOXELS + 2**26
"""Of a DICOM file that is read as it is: the largest volume and a header."""
MAX_INFLATED_BYTES = 2**29 + 2**26
"""What a deflated or gzipped DICOM file, or one in an archive, unpacks to: half of that, since it is held twice."""
MAX_HEADER_BYTES = 2**24
"""Of a DICOM header, values included: 4096 frames with 4 kB each; usual are below 2 kB a frame."""
MAX_HEADER_ITEMS = 200_000
"""Items of sequences in a DICOM header, each of which costs the reader about 2 kB: 48 for each of 4096 frames."""
MAX_HEADER_READS = 1_000_000
"""Pieces in which a DICOM file is read, which is how often its elements are looked at."""
MAX_ARCHIVE_BYTES = 16 * 1024**3
"""Of a zip archive; only entries are read into memory."""
MAX_ARCHIVE_DIRECTORY_BYTES = 2**24
"""Of the list of a zip archive's entries: 160 bytes for each of 100,000."""
MAX_ARCHIVE_CONTENT_BYTES = 32 * 1024**3
"""What all entries of a zip archive claim to unpack to."""


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


def check_memory(voxels: int, whole: bool) -> None:
    """Refuse a volume that takes too much memory, before it is asked for.

    Args:
        voxels: how many.
        whole: whether they are int16, else float32.

    Raises:
        ScanError: ``too_large``.
    """
    size = voxels * (2 if whole else 4)
    if size > MAX_VOLUME_BYTES:
        raise ScanError(
            "too_large",
            f"the volume takes {size >> 20} MiB; at most {MAX_VOLUME_BYTES >> 20} MiB are read. Values that are no "
            "whole HU, or slices of a tilted gantry, take twice as much as others: use a head series with thicker "
            "slices",
        )
