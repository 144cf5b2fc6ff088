"""Chooses the volume of a study that a head model should see, and says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from molre_edge.scans.kernel import is_bone_kernel
from molre_edge.scans.series import Series
from molre_edge.scans.stack import SAME_POSITION_MM, check_steps

__all__ = ["covered_mm", "reason_against", "sort_by_preference"]

_ENOUGH_MM = 160.0
_COVERAGE_STEP_MM = 20.0
_LARGE_FIELD_MM = 350.0
_THIN_ENOUGH_MM = 6.0


def covered_mm(series: Series) -> float:
    """The height that the slices show, from the lower face of the lowest to the upper face of the highest."""
    stack = series.stack
    assert stack is not None
    positions = stack.positions_mm
    distinct = np.concatenate([[True], np.diff(positions) > SAME_POSITION_MM])
    frames = [frame for frame, one in zip(stack.frames, distinct, strict=True) if one]
    thick, _ = check_steps(positions[distinct], [frame.thickness_mm for frame in frames])
    return float(positions[-1] - positions[0] + (thick[0] + thick[-1]) / 2)


def _crowded(series: Series) -> bool:
    """Whether different images lie at one position; files of one UID are copies."""
    assert series.stack is not None
    places = [(frame.sop_uid or str(frame.path), frame.index) for frame in series.frames]
    return len(set(places)) == len(places) and bool((np.diff(series.stack.positions_mm) < SAME_POSITION_MM).any())


def _large_field(series: Series) -> bool:
    stack, (rows, cols) = series.stack, series.frames[0].traits.size
    assert stack is not None
    return max(rows * stack.pixel_mm[0], cols * stack.pixel_mm[1]) > _LARGE_FIELD_MM


def _names_head(series: Series) -> bool:
    return any(word in series.headers[0].body_part for word in ("HEAD", "BRAIN", "SKULL"))


def _step_mm(series: Series) -> float:
    assert series.stack is not None
    return float(np.median(np.diff(series.stack.positions_mm)))


_CRITERIA: tuple[tuple[str, Callable[[Series, float], object]], ...] = (
    ("is a standard CT, not a multi-energy image", lambda one, _: any(f.traits.multi_energy for f in one.frames)),
    ("has one image at each position", lambda one, _: _crowded(one)),
    ("has original, not derived slices", lambda one, _: any(f.traits.derived for f in one.frames)),
    ("has a field of view of a head", lambda one, _: _large_field(one)),
    ("names the head as the body part", lambda one, _: not _names_head(one)),
    (
        "covers more of the head",
        lambda one, best: int((best - min(covered_mm(one), _ENOUGH_MM) + 1e-6) / _COVERAGE_STEP_MM),
    ),
    (f"has slices at most {_THIN_ENOUGH_MM:g} mm apart", lambda one, _: _step_mm(one) > _THIN_ENOUGH_MM),
    ("has a smooth kernel, not a sharp one", lambda one, _: any(is_bone_kernel(f.traits.kernel) for f in one.frames)),
    ("is without contrast agent", lambda one, _: any(f.traits.contrast for f in one.frames)),
    ("has finer slices", lambda one, _: round(_step_mm(one), 2)),
    ("has the lower series number", lambda one, _: one.headers[0].series_number),
)
"""In turn; the lower value is preferred. Coverage is counted in steps below the best of the study."""


def _ranks(series: Sequence[Series]) -> list[tuple[object, ...]]:
    best = max((min(covered_mm(one), _ENOUGH_MM) for one in series), default=0.0)
    return [
        (*(value(one, best) for _, value in _CRITERIA), one.headers[0].series, str(one.path), one.names)
        for one in series
    ]


def sort_by_preference(series: Sequence[Series]) -> list[Series]:
    """Usable volumes of one study, the one to read first.

    In turn: a standard CT; one image a position; original before derived; a field of view of a head; a header that
    names the head; coverage (up to 160 mm, in steps of 20 mm below the best); thin enough; a smooth kernel; no contrast
    agent; finer slices; and last the series number, UID and path, so that the choice is the same everywhere.
    """
    order = sorted(zip(_ranks(series), range(len(series)), strict=True))
    return [series[at] for _, at in order]


def reason_against(chosen: Series, other: Series, study: Sequence[Series]) -> str:
    """Why one volume of a study was preferred to another: the first criterion on which they differ.

    Args:
        chosen: the one that is read.
        other: the one that is not.
        study: all usable volumes of the study.
    """
    best = max(min(covered_mm(one), _ENOUGH_MM) for one in study)
    for words, value in _CRITERIA:
        if value(chosen, best) != value(other, best):
            return f"the chosen one {words}"
    return "the chosen one is equal in all that counts and comes first by UID, path or name"
