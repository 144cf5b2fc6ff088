"""Notices two scans in one stack by their pixels: the last net, when nothing in the headers tells them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.hounsfield import Hounsfield

__all__ = ["check_interleaved"]

_MOST_SCANS = 4
_RATIO = 0.8
"""Every second slice differs by 1.2 to 2 times as much as neighbours in real heads, and by as much in pure noise."""
_SAMPLES = 128
_RANGE_HU = (-1000.0, 1000.0)
_NO_OVERFLOW = 8


def check_interleaved(hu: Hounsfield) -> None:
    """Refuse a stack whose neighbours differ more than slices farther apart: it holds several scans in turn.

    Args:
        hu: (slices, rows, cols), in order.

    Raises:
        ScanError: ``mixed_volumes``.
    """
    strides = [max(1, side // _SAMPLES) for side in hu.shape[1:]]
    low, high = (hu.dtype.type(end) for end in _RANGE_HU)
    small: npt.NDArray[Any] = np.clip(hu[:, :: strides[0], :: strides[1]], low, high)
    if len(small) < 2 * _MOST_SCANS:
        return
    apart = [_difference(small, lag) for lag in range(1, _MOST_SCANS + 1)]
    lag = int(np.argmin(apart)) + 1
    if lag > 1 and apart[lag - 1] < _RATIO * apart[0]:
        raise ScanError(
            "mixed_volumes",
            f"slices that are {lag} apart differ by {apart[lag - 1]:.0f} HU, but neighbours by {apart[0]:.0f} HU: "
            f"{lag} scans lie within each other, and no header tells them apart; give each a folder of its own",
        )


def _difference(hu: npt.NDArray[Any], lag: int) -> float:
    """Median over the slices of the mean absolute difference to the slice `lag` further, in HU.

    Of int16 the sums are exact: 8 differences of at most 2000 HU fit, and their sums are added up as int64.
    """
    apart: npt.NDArray[Any] = np.subtract(hu[lag:], hu[:-lag])
    np.abs(apart, out=apart)
    if apart.dtype == np.int16 and hu[0].size % _NO_OVERFLOW == 0:
        apart = np.add.reduce(apart.reshape(len(apart), _NO_OVERFLOW, -1), axis=1, dtype=np.int16)
    total = np.add.reduce(apart.reshape(len(apart), -1), axis=1, dtype=np.int64 if apart.dtype == np.int16 else None)
    median = float(np.median(total))
    return median / int(hu[0].size)
