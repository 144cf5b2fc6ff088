"""Judges by its values whether a volume is a head in Hounsfield units, and how much of the head it shows.

All measures are taken on the coarse copy. The thresholds are wide: they tell a head from an abdomen, a phantom or
an uncalibrated series, and are no diagnosis. Where each comes from is written beside it;
docs/concepts/scans.md has the policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.coarse import BONE_HU, Coarse, areas
from molre_edge.scans.head_place import find_head
from molre_edge.scans.scan_records import ScanWarning

__all__ = ["AIR_BELOW_HU", "MIN_AIR", "check_head"]

AIR_BELOW_HU = -850.0
MIN_AIR = 0.01
"""Part of the picture that is air: a head leaves more than a third of a usual field of view free."""
_MEDIAN_HU = (5.0, 65.0)
"""Median of what lies within the skull; brain with fluid is 10 to 45, with contrast somewhat more."""
_MAX_CUT_PART = 0.03
"""Of the values above air that equal the highest: more were cut off there. A skull is a tenth of a head and more."""
_MIN_BRAIN_ML = 150.0
"""Half the brain of a newborn; an abdomen between ribs and spine measures below 60."""
_MIN_BRAIN_AREA_CM2 = 10.0
_MIN_BRAIN_PART = 0.6
"""Of what bone encloses in a slice: brain slices have 0.9, an abdomen between ribs 0.5."""
_MIN_BONE_PART = 0.05
"""Of the body in a slice: 0.12 and more in heads, 0.03 to 0.05 in an abdomen."""
_MAX_HEAD_AREA_CM2 = 450.0
"""Of a slice: 20 cm x 25 cm with the jaw is 400; an abdomen has 500 to 1000."""
_VERTEX_AREA_CM2 = 30.0
_BASE_AREA_CM2 = 90.0
_CUT_MM = 30.0


@dataclass(frozen=True, eq=False)
class _Measures:
    """Per slice, float64 (slices,): areas in cm2; and the volume of brain slices in mL."""

    body: npt.NDArray[np.floating]
    brain: npt.NDArray[np.floating]
    brain_ml: float
    median_hu: float


def check_head(coarse: Coarse) -> tuple[ScanWarning, ...]:
    """Refuse what is no head in Hounsfield units.

    Args:
        coarse: from :func:`molre_edge.scans.coarse.shrink`.

    Returns:
        Warnings about coverage and values.

    Raises:
        ScanError: ``skull_stripped``, ``not_hounsfield``, ``not_head``, ``no_brain_tissue``, ``no_tissue`` or
            ``upside_down``.
    """
    _check_stripped(coarse)
    if (coarse.hu < AIR_BELOW_HU).mean() < MIN_AIR:
        low, high = (float(value) for value in np.percentile(coarse.hu, (1, 99.5)))
        raise ScanError(
            "not_hounsfield",
            f"the values run from {low:.0f} to {high:.0f} and nothing is near -1000, where air lies: they are not in "
            "Hounsfield units, or the picture ends within the head; give the original series, or convert the values",
        )
    place = find_head(coarse)
    if place.body is not coarse.body:
        coarse = replace(coarse, body=place.body)
    measures = _measure(coarse)
    if measures.brain_ml < _MIN_BRAIN_ML:
        area = float(np.median(measures.body))
        if area > _MAX_HEAD_AREA_CM2:
            raise ScanError("not_head", f"a slice shows {area:.0f} cm2 of body, more than a head has: give a head CT")
        raise ScanError(
            "no_brain_tissue",
            f"{measures.brain_ml:.0f} mL of brain-like tissue lie within bone; at least {_MIN_BRAIN_ML:.0f} mL are "
            "expected: this is another part of the body, a phantom, or not in Hounsfield units",
        )
    return (*place.warnings, *_warnings(coarse, measures))


def _check_stripped(coarse: Coarse) -> None:
    border = np.concatenate([coarse.hu[:, 0].ravel(), coarse.hu[:, -1].ravel(), coarse.hu[[0, -1]].ravel()])
    bones = np.count_nonzero(coarse.hu >= BONE_HU)
    if bones > 0.01 * np.count_nonzero(coarse.hu > AIR_BELOW_HU) + 1 and 2 * (border >= BONE_HU).sum() < border.size:
        return  # bone, as in nearly all; what follows would come to that more slowly
    values, counts = np.unique(border, return_counts=True)
    inside = coarse.hu[coarse.hu != values[np.argmax(counts)]]
    inside = inside[inside > AIR_BELOW_HU]
    if counts.max() < 0.5 * border.size or inside.size < 1000:
        return
    median, high = np.percentile(inside, (50, 99.5))
    if high >= BONE_HU or not _MEDIAN_HU[0] <= median <= _MEDIAN_HU[1]:
        return
    most = inside.max()
    if np.count_nonzero(inside == most) > _MAX_CUT_PART * inside.size:
        raise ScanError(
            "not_hounsfield",
            f"no value is above {most:.0f}, and many are just that: they were cut off for display, as by a window; "
            "give the original series",
        )
    raise ScanError(
        "skull_stripped", "the skull was removed; the model reads heads with their skull: give the original series"
    )


def _measure(coarse: Coarse) -> _Measures:
    brain, cm2 = coarse.brain, coarse.pixel_mm[0] * coarse.pixel_mm[1] / 100.0
    body, bones, closed, area = (pixels * cm2 for pixels in (*coarse.pixels, areas(brain)))
    brainy = (
        (area > _MIN_BRAIN_AREA_CM2) & (area > _MIN_BRAIN_PART * closed)
        & (bones > _MIN_BONE_PART * body) & (body < _MAX_HEAD_AREA_CM2)
    )  # fmt: skip
    volume = float((area * brainy * coarse.thickness_mm).sum() / 10.0)
    values = coarse.hu.ravel()[np.flatnonzero(brain & brainy[:, None, None])]  # far faster than by the mask itself
    return _Measures(body, area * brainy, volume, _median(values) if values.size else float("nan"))


def _median(values: npt.NDArray[np.float32]) -> float:
    """As NumPy's, of finite values: it looks for two middle ones at once, which is far slower than for one."""
    middle = len(values) // 2
    parted = np.partition(values, middle)
    two = parted[middle], parted[middle] if len(values) % 2 else parted[:middle].max()
    return float(np.mean(two, dtype=np.float32))


def _warnings(coarse: Coarse, measures: _Measures) -> list[ScanWarning]:
    found = []
    if measures.brain[-1] > _VERTEX_AREA_CM2:
        found.append(
            ScanWarning("vertex_missing", "the top slice still shows brain: the top of the head is not covered")
        )
    if measures.brain[0] > _BASE_AREA_CM2:
        found.append(
            ScanWarning("base_missing", "the lowest slice still shows much brain: its lower part is not covered")
        )
    if not _MEDIAN_HU[0] <= measures.median_hu <= _MEDIAN_HU[1]:
        found.append(
            ScanWarning(
                "unusual_brain_values", f"the median within the skull is {measures.median_hu:.0f} HU, usual is 10 to 45"
            )
        )
    body = coarse.body[measures.brain > 0]
    rows, cols = coarse.pixel_mm
    sides = (
        body[:, 0].sum(1) * cols,
        body[:, -1].sum(1) * cols,
        body[:, :, 0].sum(1) * rows,
        body[:, :, -1].sum(1) * rows,
    )
    if any((side > _CUT_MM).mean() > 0.1 for side in sides):
        found.append(ScanWarning("head_cut_off", "the head reaches beyond the picture's edge"))
    return found
