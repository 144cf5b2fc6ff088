"""From stored values to Hounsfield units: whole numbers where slope, intercept and range allow it, else floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.labels import find_parts
from molre_edge.specs import HU_MIN

__all__ = ["Hounsfield", "to_hounsfield"]

Hounsfield = npt.NDArray[np.int16] | npt.NDArray[np.float32]
"""HU as int16 where all are whole and fit, else float32."""
PADDING_IS_TISSUE_HU = -500.0
"""A padding value above this (some writers say 0) also occurs in tissue: it is replaced only from the border in."""
_AIR = int(HU_MIN)
_MOST = int(np.iinfo(np.int16).max)


def to_hounsfield(
    stored: npt.NDArray[np.integer[Any]],
    frame: Frame,
    padding: tuple[int, int] | None,
    out: npt.NDArray[np.int16] | None = None,
) -> Hounsfield:
    """Rescale stored values; padding and everything below become air.

    Args:
        stored: integers (rows, cols).
        frame: for slope and intercept.
        padding: lowest and highest stored value outside the picture, or None.
        out: int16 (rows, cols) for the result, which is used where the result is int16.

    Returns:
        HU (rows, cols), at least -1024: int16 where slope and intercept are whole and the values fit, else float32.
    """
    hu: Hounsfield | None = _whole(stored, frame, out)
    if hu is None:
        hu = np.maximum(stored.astype(np.float64) * frame.slope + frame.intercept, HU_MIN).astype(np.float32)
    if padding is not None:
        brightest = max(value * frame.slope + frame.intercept for value in padding)
        if brightest > HU_MIN:  # else it is air already
            outside = (stored >= padding[0]) & (stored <= padding[1])
            if brightest > PADDING_IS_TISSUE_HU and outside.any():
                outside = _from_border(outside)
            hu[outside] = HU_MIN
    return hu


def _whole(
    stored: npt.NDArray[np.integer[Any]], frame: Frame, out: npt.NDArray[np.int16] | None
) -> npt.NDArray[np.int16] | None:
    """HU as int16, at least -1024; None where they are not whole or do not fit."""
    if not (frame.slope.is_integer() and frame.intercept.is_integer()):
        return None
    slope, intercept = int(frame.slope), int(frame.intercept)
    if slope != 1 or stored.dtype.itemsize != 2 or not stored.dtype.isnative:
        if max(int(stored.min()) * slope, int(stored.max()) * slope) + intercept > _MOST:
            return None
        out = np.empty(stored.shape, np.int16) if out is None else out
        np.copyto(out, np.maximum(stored.astype(np.int64) * slope + intercept, _AIR), casting="unsafe")
        return out
    limits = np.iinfo(stored.dtype)
    if limits.max + intercept > _MOST and int(stored.max()) + intercept > _MOST:
        return None
    return _shifted(stored, intercept, np.empty(stored.shape, np.int16) if out is None else out)


def _shifted(stored: npt.NDArray[np.integer[Any]], intercept: int, out: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """HU of values of 16 bits with slope 1, all of which fit: each pass over a slice counts, so there are few."""
    limits, same = np.iinfo(stored.dtype), out.view(stored.dtype)
    least = _AIR - intercept  # the stored value of air
    if least > limits.max:
        out.fill(_AIR)
        return out
    if least > limits.min:
        np.clip(stored, stored.dtype.type(least), limits.max, out=same)  # far faster than np.maximum
        stored = same
    if intercept:  # modulo 65536, so signed and unsigned values alike
        np.add(stored.view(np.uint16), np.uint16(intercept % 65536), out=out.view(np.uint16))
    elif stored is not same:
        same[...] = stored
    return out


def _from_border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The connected parts of a mask that touch the picture's border."""
    parts, at_border = find_parts(mask), np.zeros(mask.shape, bool)
    at_border[[0, -1]] = at_border[:, [0, -1]] = True
    touching = np.unique(parts.labels()[at_border & mask])
    wanted = np.zeros(len(parts.sizes), bool)
    wanted[touching.astype(np.intp) - 1] = True
    return parts.mask(wanted)
