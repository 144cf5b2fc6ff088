"""Both sides of the first step that differs, as planes or as values for a page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from molre_edge.own_model.parting.chain import Array, Chain, Change
from molre_edge.own_model.parting.explanation import NAMES, Explanation
from molre_edge.own_model.parting.walk import Segment
from molre_edge.reports.explanation_page import Pair

__all__ = ["pictures_of"]

_IMAGES = ("hu", "grid", "windowed", "normalised")
_MADE = {"sample": "grid", "grid": "grid", "windowed": "windowed", "normalised": "normalised"}
"""What a change takes the place of -> the image that it makes."""
_RANGES = {"hu": (-20.0, 100.0), "grid": (-20.0, 100.0), "windowed": (0.0, 1.0), "normalised": (-2.2, 2.7)}
"""Black and white; HU by a window around the brain's."""
_FAR = 4.0
"""Channels with values so many times beyond white, such as 0 ... 255, are shown from their lowest to their highest."""


def pictures_of(chain: Chain, segments: Sequence[Segment], explanation: Explanation) -> list[Pair]:
    """What the page shows: the value at the end of the first part that differs, and what the cause changes."""
    differing = [each for each in segments if each.differs]
    parting = next((each for each in differing if explanation.step in each.steps), differing[0] if differing else None)
    if parting is None:
        return []
    scan = parting.worst
    state, target = parting.states[scan], parting.targets[scan]
    pairs = []
    ours = chain.run(state, parting.end)
    if target.value is not None and target.value.shape == ours.shape:
        pairs.append(_pair(parting.end, scan, ours, target.value, "saved by your program"))
    elif target.logits is not None:
        pairs.append(_pair("logits", scan, ours, target.nearest(ours), "your model's"))
    change: Change | None = explanation.causes[0].change if explanation.causes else None
    made = None if change is None else _MADE.get(change.where)
    if made is not None and made != parting.end:
        before, after = chain.run(state, made), chain.run(state, made, change)
        if before.shape == after.shape:
            pairs.append(_pair(made, scan, before, after, "with the change that was found"))
    return pairs


def _pair(point: str, scan: str, ours: Array, yours: Array, whose: str) -> Pair:
    """The middle slice of images, in the channel that differs most; else the values."""
    title = f"{NAMES[point][:1].upper()}{NAMES[point][1:]}, {scan}"
    if point not in _IMAGES:
        return Pair(title, whose, ours.ravel(), yours.ravel(), None)
    middle, more = len(ours) // 2, ""
    ours, yours = ours[middle], yours[middle]
    if ours.ndim == 3:
        channel = int(np.abs(ours - yours).max(axis=(1, 2)).argmax())
        ours, yours, more = ours[channel], yours[channel], f", channel {channel + 1}"
    low, high = _RANGES[point]
    if max(np.abs(ours).max(), np.abs(yours).max()) > _FAR * high and point in ("windowed", "normalised"):
        low, high = float(min(ours.min(), yours.min())), float(max(ours.max(), yours.max()))
    return Pair(f"{title}, slice {middle + 1}{more}", whose, ours, yours, (low, high))
