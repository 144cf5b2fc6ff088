"""Notices two scans in one stack by their pixels: the last net, when nothing in the headers tells them apart."""

from __future__ import annotations

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


def check_interleaved(hu: Hounsfield) -> None:
    """Refuse a stack whose neighbours differ more than slices farther apart: it holds several scans in turn.

    Args:
        hu: (slices, rows, cols), in order.

    Raises:
        ScanError: ``mixed_volumes``.
    """
    strides = [max(1, side // _SAMPLES) for side in hu.shape[1:]]
    small = hu[:, :: strides[0], :: strides[1]].astype(np.float32)
    np.clip(small, *_RANGE_HU, out=small)
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


def _difference(hu: npt.NDArray[np.float32], lag: int) -> float:
    """Median over the slices of the mean absolute difference to the slice `lag` further, in HU."""
    apart, means = np.empty_like(hu[0]), []
    for at in range(len(hu) - lag):
        np.subtract(hu[at + lag], hu[at], out=apart)
        means.append(np.abs(apart, out=apart).mean())
    return float(np.median(means))
