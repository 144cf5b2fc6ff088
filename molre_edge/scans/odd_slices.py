"""Notices slices in the midst of a head that are blank, copies of their neighbour, or in another unit than the others.

A series that was sent or converted wrongly is whole by its headers; only its pixels tell.
"""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.anatomy import AIR_BELOW_HU, MIN_AIR
from molre_edge.scans.coarse import TISSUE_HU, Coarse, areas

__all__ = ["check_slices"]

_MUCH_AIR = 0.3
"""No slice without air follows one with so much of it: shoulders fill a picture more slowly."""
_BLANK_CM2, _SHOWN_CM2 = 5.0, 50.0
"""Tissue of a slice that shows none, but for a cable, and of one that shows a part of the body."""
_SKULL_CM2 = 25.0
"""What bone encloses in a slice that shows a skull."""


_NOISY = 0.7
"""Share of neighbouring pixels of tissue that differ, from which on a slice has noise."""


def check_slices(coarse: Coarse, *, copies: bool) -> None:
    """Refuse a volume in which slices do not show what lies there.

    Args:
        coarse: from :func:`molre_edge.scans.coarse.shrink`.
        copies: refuse slices with noise that are equal to the next one. Noise makes any two differ, but not if a volume
            was resampled by nearest neighbours, as NIfTI files sometimes are.

    Raises:
        ScanError: ``slices_damaged``; ``not_hounsfield``.
    """
    cm2 = coarse.pixel_mm[0] * coarse.pixel_mm[1] / 100.0
    tissue = areas(coarse.hu > TISSUE_HU) * cm2
    shown = np.flatnonzero(tissue > _SHOWN_CM2)
    blank = np.flatnonzero(tissue < _BLANK_CM2)
    if len(shown) and len(inside := blank[(blank > shown[0]) & (blank < shown[-1])]):
        raise _damaged(f"{_show(inside)} nothing but air in the midst of the body")
    air = areas(coarse.hu < AIR_BELOW_HU) / coarse.hu[0].size
    none, much = air < MIN_AIR, air > _MUCH_AIR
    if ((none[1:] & much[:-1]) | (none[:-1] & much[1:])).any():
        raise ScanError(
            "not_hounsfield",
            f"{_show(np.flatnonzero(none))} nothing near -1000, where air lies, and slices beside them do: they are "
            "not in one unit (RescaleSlope, RescaleIntercept); give the original series",
        )
    if copies:
        skull = coarse.pixels[2] * cm2 > _SKULL_CM2
        same = [
            at
            for at in np.flatnonzero(skull[1:] & skull[:-1])
            if np.array_equal(*coarse.hu[at : at + 2]) and _has_noise(coarse.hu[at])
        ]
        if same:
            raise _damaged(f"{_show(same)} the very pixels of the slice above")


def _has_noise(hu: npt.NDArray[np.float32]) -> bool:
    """Whether neighbours in the tissue of a slice differ, as everything does that was scanned; phantoms may not."""
    inside = (hu[:, 1:] > TISSUE_HU) & (hu[:, :-1] > TISSUE_HU)
    return bool(np.mean(np.diff(hu, axis=1)[inside] != 0) > _NOISY)


def _damaged(what: str) -> ScanError:
    return ScanError("slices_damaged", f"{what}: the series was damaged when it was sent or converted; copy it again")


def _show(slices: Sized) -> str:
    return "a slice shows" if len(slices) == 1 else f"{len(slices)} slices show"
