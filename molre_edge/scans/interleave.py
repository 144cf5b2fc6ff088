"""Notices by their pixels two scans in one stack, and slices that do not belong where they lie: the last net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.hounsfield import Hounsfield
from molre_edge.scans.scan_records import ScanWarning

__all__ = ["check_neighbours"]

_MOST_SCANS = 4
_RATIO = 0.8
"""Every second slice differs by 1.2 to 2 times as much as neighbours in real heads, and by as much in pure noise."""
_ODD_RATIO, _ODD_HU = 2.0, 50.0
"""A slice is unlike both neighbours when it differs so many times as much from each as they do from each other, and by
so much; in real heads it differs 0.8 times as much, and in noise as much."""
_BACK = 0.4
"""Moving a slice back leaves so much of its difference at most, where the patient moved: of slices of real heads, moved
by 5 to 20 mm or turned by 10 or 20 degrees, 0.04 to 0.34. Of those that were cut off, inverted, in another unit or
noise it leaves 0.9 or more, and 0.32 to 0.98 of mirrored ones."""
_REACH, _TURN_DEGREES, _TURN_STEP = 10, 20, 5
"""It is moved back by up to a tenth of the picture's side (25 mm) and turned by so much."""
_SAMPLES = 128
_RANGE_HU = (-1000.0, 1000.0)
_NO_OVERFLOW = 8
_MOST_NAMED = 5


def check_neighbours(hu: Hounsfield) -> tuple[ScanWarning, ...]:
    """Compare slices with the next ones, on a sample of their pixels.

    Neighbours that differ more than slices farther apart are several scans in turn. A slice that differs far more from
    both neighbours than these from each other has lost its pixels, or others stand there; unless it fits them when it
    is moved and turned within its plane, for then the patient moved, which is common and no reason to refuse a head.

    Args:
        hu: (slices, rows, cols), in order.

    Returns:
        ``slice_moved``, where slices fit their neighbours only when moved.

    Raises:
        ScanError: ``mixed_volumes``; ``slices_damaged``.
    """
    strides = [max(1, side // _SAMPLES) for side in hu.shape[1:]]
    low, high = (hu.dtype.type(end) for end in _RANGE_HU)
    small: npt.NDArray[Any] = np.clip(hu[:, :: strides[0], :: strides[1]], low, high)
    lags = _MOST_SCANS if len(small) >= 2 * _MOST_SCANS else 2
    apart = [_differences(small, lag) for lag in range(1, lags + 1)]
    if lags == _MOST_SCANS:
        _check_interleaved(apart)
    return _check_unlike(small, *apart[:2])


def _check_unlike(
    small: npt.NDArray[Any], next_one: npt.NDArray[np.float64], next_but_one: npt.NDArray[np.float64]
) -> tuple[ScanWarning, ...]:
    both = np.minimum(next_one[1:], next_one[:-1])
    most = np.maximum(_ODD_HU, _ODD_RATIO * next_but_one)
    odd = np.flatnonzero(both > most)
    for at in odd[np.argsort(-both[odd])]:
        plane, *beside = (small[index].astype(np.float32) for index in (at + 1, at, at + 2))
        if min(_least_difference(plane, other) for other in beside) > min(most[at], _BACK * both[at]):
            raise ScanError(
                "slices_damaged",
                f"slice {at + 2} of {len(small)} differs by {both[at]:.0f} HU from both its neighbours, and they by "
                f"{next_but_one[at]:.0f} HU from each other: its pixels were lost, are another's, or the patient moved "
                "far; look at that slice, and copy the series again if it is damaged",
            )
    if not len(odd):
        return ()
    names = ", ".join(str(at + 2) for at in odd[:_MOST_NAMED]) + (" and others" if len(odd) > _MOST_NAMED else "")
    text = f"slices fit their neighbours only when they are moved or turned: the patient moved, look at slice {names}"
    return (ScanWarning("slice_moved", f"{len(odd)} of {len(small)} {text}"),)


def _least_difference(plane: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """The least mean absolute difference of two slices, in HU, one of them moved and turned within its plane.

    Args:
        plane: HU (rows, cols).
        other: the same, of the slice beside it.
    """
    rows, cols = plane.shape
    reach, step = max(rows, cols) // _REACH, max(1, round(max(rows, cols) / _SAMPLES))
    points = plane[:: 2 * step, :: 2 * step]
    padded = np.pad(other, reach, constant_values=_RANGE_HU[0])
    least = np.inf
    for degrees in range(-_TURN_DEGREES, _TURN_DEGREES + 1, _TURN_STEP):
        turned = _turned(padded, degrees)
        for down in range(0, 2 * reach + 1, step):
            for across in range(0, 2 * reach + 1, step):
                moved = turned[down : down + rows : 2 * step, across : across + cols : 2 * step]
                least = min(least, float(np.abs(points - moved).mean()))
    return least


def _turned(plane: npt.NDArray[np.float32], degrees: float) -> npt.NDArray[np.float32]:
    """A slice turned about its centre, by its nearest pixels; air comes in from outside."""
    rows, cols = plane.shape
    down, across = np.arange(rows)[:, None] - (rows - 1) / 2, np.arange(cols) - (cols - 1) / 2
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    row = np.rint(cosine * down - sine * across + (rows - 1) / 2).astype(np.intp)
    col = np.rint(sine * down + cosine * across + (cols - 1) / 2).astype(np.intp)
    inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
    picked: npt.NDArray[np.float32] = plane[row.clip(0, rows - 1), col.clip(0, cols - 1)]
    picked[~inside] = _RANGE_HU[0]
    return picked


def _check_interleaved(differences: Sequence[npt.NDArray[np.float64]]) -> None:
    apart = [float(np.median(each)) for each in differences]
    lag = int(np.argmin(apart)) + 1
    if lag > 1 and apart[lag - 1] < _RATIO * apart[0]:
        raise ScanError(
            "mixed_volumes",
            f"slices that are {lag} apart differ by {apart[lag - 1]:.0f} HU, but neighbours by {apart[0]:.0f} HU: "
            f"{lag} scans lie within each other, and no header tells them apart; give each a folder of its own",
        )


def _differences(hu: npt.NDArray[Any], lag: int) -> npt.NDArray[np.float64]:
    """The mean absolute difference of each slice to the slice `lag` further, in HU: float64 (slices - lag,).

    Of int16 the sums are exact: 8 differences of at most 2000 HU fit, and their sums are added up as int64.
    """
    apart: npt.NDArray[Any] = np.subtract(hu[lag:], hu[:-lag])
    np.abs(apart, out=apart)
    if apart.dtype == np.int16 and hu[0].size % _NO_OVERFLOW == 0:
        apart = np.add.reduce(apart.reshape(len(apart), _NO_OVERFLOW, -1), axis=1, dtype=np.int16)
    total = np.add.reduce(apart.reshape(len(apart), -1), axis=1, dtype=np.int64 if apart.dtype == np.int16 else None)
    return np.asarray(total, np.float64) / int(hu[0].size)
