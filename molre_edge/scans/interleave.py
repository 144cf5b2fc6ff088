"""Notices by their pixels two scans in one stack, and slices that do not belong where they lie: the last net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.hounsfield import Hounsfield

__all__ = ["check_neighbours"]

_MOST_SCANS = 4
_RATIO = 0.8
"""Every second slice differs by 1.2 to 2 times as much as neighbours in real heads, and by as much in pure noise."""
_ODD_RATIO, _ODD_HU = 2.0, 50.0
"""A slice is unlike both neighbours when it differs so many times as much from each as they do from each other, and by
so much; in real heads it differs 0.8 times as much, and in noise as much."""
_SAMPLES = 128
_RANGE_HU = (-1000.0, 1000.0)
_NO_OVERFLOW = 8


def check_neighbours(hu: Hounsfield) -> None:
    """Compare slices with the next ones, on a sample of their pixels.

    Neighbours that differ more than slices farther apart are several scans in turn. A slice that differs far more from
    both neighbours than these from each other has lost its pixels, or others stand there.

    Args:
        hu: (slices, rows, cols), in order.

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
    _check_unlike(*apart[:2])


def _check_unlike(next_one: npt.NDArray[np.float64], next_but_one: npt.NDArray[np.float64]) -> None:
    both = np.minimum(next_one[1:], next_one[:-1])
    odd = np.flatnonzero((both > _ODD_HU) & (both > _ODD_RATIO * next_but_one))
    if len(odd):
        at = int(odd[np.argmax(both[odd])])
        raise ScanError(
            "slices_damaged",
            f"slice {at + 2} of {len(next_one) + 1} differs by {both[at]:.0f} HU from both its neighbours, and they by "
            f"{next_but_one[at]:.0f} HU from each other: its pixels were lost or are another's; copy the series again",
        )


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
