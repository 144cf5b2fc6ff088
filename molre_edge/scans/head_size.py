"""Whether a head has a possible size: a wrong pixel spacing or slice distance makes one that nobody has.

The limits are wide: from a premature baby to an adult with a very large head. They look at the inside of the skull.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.coarse import Coarse, areas
from molre_edge.scans.scan_records import ScanWarning

__all__ = ["check_head_size"]

_MIN_PART = 0.6
"""Of what bone encloses in a slice: brain fills more."""
_MIN_BONE = 0.05
"""Of the body in a slice that is bone."""
_POSSIBLE_MM = (60.0, 240.0)
"""The larger width of the inside of the skull, front to back or right to left. A baby of 28 weeks has 70."""
_USUAL_MM = (90.0, 210.0)
"""Newborn to adult; adults have 150 to 190."""
_POSSIBLE_TALL, _USUAL_TALL = 1.15, 0.95
"""Height of the slices with brain over that width. Whole heads have 0.5 to 0.8, with the head bent 0.95."""
_MIN_SLICES = 3


def check_head_size(coarse: Coarse) -> tuple[ScanWarning, ...]:
    """Refuse a head whose size or shape nobody has. What is no head at all is left to others.

    Args:
        coarse: from :func:`molre_edge.scans.coarse.shrink`.

    Returns:
        A warning about a size that hardly anybody has.

    Raises:
        ScanError: ``impossible_size``, with the size that was measured.
    """
    size = _inside_of_skull(coarse)
    if size is None:
        return ()
    length, breadth, height = size
    text = f"the inside of the skull measures {length:.0f} mm by {breadth:.0f} mm and is {height:.0f} mm high"
    wider = max(length, breadth)
    if not _POSSIBLE_MM[0] <= wider <= _POSSIBLE_MM[1] or height > _POSSIBLE_TALL * wider:
        raise ScanError(
            "impossible_size",
            f"{text}, which no head does: PixelSpacing (0028,0030), the slice positions or the voxel size are wrong; "
            "export the original series again",
        )
    if not _USUAL_MM[0] <= wider <= _USUAL_MM[1] or height > _USUAL_TALL * wider:
        return (ScanWarning("unusual_head_size", f"{text}: check the pixel spacing and the slice distance"),)
    return ()


def _inside_of_skull(coarse: Coarse) -> tuple[float, float, float] | None:
    """Length, breadth and height in mm, of slices that show a head; None when there are too few."""
    (body, bones, closed), brain = coarse.pixels, coarse.brain
    area = areas(brain)
    rows, cols = (
        _extents(np.asarray(brain.any(axis=axis))) * side for axis, side in zip((2, 1), coarse.pixel_mm, strict=True)
    )
    head = (area > _MIN_PART * closed) & (bones > _MIN_BONE * body)
    # a filled oval, not a few specks between ribs or teeth
    head &= area * coarse.pixel_mm[0] * coarse.pixel_mm[1] > 0.5 * rows * cols
    if head.sum() < _MIN_SLICES:
        return None
    return float(rows[head].max()), float(cols[head].max()), float(coarse.thickness_mm[head].sum())


def _extents(occupied: npt.NDArray[np.bool_]) -> npt.NDArray[np.int_]:
    """Pixels from the first to the last that is occupied, int (slices,), of bool (slices, pixels)."""
    first = occupied.argmax(axis=1)
    last = occupied.shape[1] - occupied[:, ::-1].argmax(axis=1)
    return np.where(occupied.any(axis=1), last - first, 0)
