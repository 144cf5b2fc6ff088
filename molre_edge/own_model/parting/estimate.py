"""Estimates: the window, the mean and deviation, or the HU scale that would explain what the user's program saved.

And a search for one or two numbers of a change that make the end of a chain equal, where only the end is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from molre_edge.own_model.parting.chain import Array, Change
from molre_edge.own_model.parting.changes_intensity import normalisation_change, window_change
from molre_edge.own_model.parting.changes_volume import TURNS
from molre_edge.own_model.parting.steps import Step

__all__ = ["describe_hu", "fit", "from_channels", "from_normalised"]

_F64 = npt.NDArray[np.float64]
_LEAST = 50
"""A line is drawn through so many values at least."""
_SAME_HU = 0.05
"""Windows that differ by less are the same."""


def describe_hu(ours: Array, yours: Array) -> tuple[Step, str, str] | None:
    """What the user's volume is beside the one that was read: step, "your model ...", what to do; None if unknown.

    Args:
        ours: float32 [slices, rows, cols], HU.
        yours: of any shape.
    """
    for step, text, fix, turn in TURNS:
        if _near(turn(ours), yours):
            return step, text, f"in your code, {fix}; see axes in inputs.json"
    if (found := _units(ours, yours)) is not None:
        return Step.HU, *found
    for step, text, fix, turn in TURNS:  # both: turned, and in other units
        if (found := _units(turn(ours), yours)) is not None:
            return min(Step.HU, step, key=list(Step).index), f"{found[0]}, and {text}", f"{found[1]}; {fix}"
    if ours.shape != yours.shape:
        return (
            Step.FILES if len(ours) != len(yours) else Step.AXES,
            f"has a volume of {list(yours.shape)}, molre-edge reads {list(ours.shape)} [slices, rows, cols]",
            "read the files that inputs.json names, all of them, once",
        )
    return None


def _units(ours: Array, yours: Array) -> tuple[str, str] | None:
    """What the numbers are, where they lie as they should; None if unknown."""
    if ours.shape != yours.shape:
        return None
    slope, intercept = _line(ours, yours)
    rescale = "apply RescaleSlope and RescaleIntercept once, to whole HU"
    if _near(slope * ours + intercept, yours):
        if abs(slope - 1) < 1e-3:
            return f"has {intercept:+.4g} on HU", rescale
        return f"has {slope:.4g} x HU {intercept:+.4g}", rescale
    low, high = float(yours.min()), float(yours.max())
    if _near(ours.clip(low, high), yours) and (low > ours.min() or high < ours.max()):
        return f"clips HU to {low:g} ... {high:g}", "leave HU as they are"
    return None


def _near(ours: Array, yours: Array) -> bool:
    return ours.shape == yours.shape and float(np.abs(ours - yours).max()) <= 0.51


def from_channels(hu: Array, windowed: Array, windows: Sequence[tuple[float, float]]) -> Iterator[Change]:
    """Windows that lead from HU on the grid to saved channels.

    Args:
        hu: [slices, rows, cols].
        windowed: [slices, channels, rows, cols], the user's.
        windows: of the checkpoint.
    """
    found = {}
    for channel, (centre, width) in enumerate(windows):
        line = _between_ends(hu, windowed[:, channel])
        if line is None:
            return
        other = _window_of(*line)
        if abs(other[0] - centre) > _SAME_HU or abs(other[1] - width) > _SAME_HU:
            found[channel] = other
    if found:
        yield window_change(windows, found, "")


def from_normalised(windowed: Array, normalised: Array) -> Iterator[Change]:
    """Mean and deviation that lead from windowed channels to saved normalised ones.

    Args:
        windowed: [slices, channels, rows, cols].
        normalised: same shape, the user's.
    """
    mean, std = [], []
    for channel in range(windowed.shape[1]):
        slope, intercept = _line(windowed[:, channel], normalised[:, channel])
        if not slope > 0:
            return
        std.append(_tidy(1 / slope))
        mean.append(_tidy(-intercept / slope))
    yield normalisation_change(mean, std, len(mean), "")


def fit(
    start: Sequence[float],
    steps: Sequence[float],
    residual: Callable[[_F64], _F64],
    *,
    rounds: int = 12,
    good: float,
) -> _F64 | None:
    """Numbers that make a residual small, by Gauss and Newton with differences; None if they do not.

    Args:
        start: first guess.
        steps: for the differences, and a tenth of the longest step in one round.
        residual: of the numbers, float64 [n].
        rounds: at most.
        good: the residual's largest size to reach.
    """
    at, width = np.asarray(start, np.float64), np.asarray(steps, np.float64)
    now = residual(at)
    for _ in range(rounds):
        if np.abs(now).max() <= good:
            return at
        slopes = np.stack([(residual(at + step) - now) / step.sum() for step in np.diag(width)], axis=1)
        if not np.isfinite(slopes).all():
            return None
        move = np.linalg.lstsq(slopes, -now, rcond=None)[0]
        move = np.clip(move, -200 * width, 200 * width)
        for _ in range(4):  # shorter steps, as long as it gets worse
            there = residual(at + move)
            if np.isfinite(there).all() and np.square(there).sum() < np.square(now).sum():
                break
            move = move / 2
        else:
            return None
        at, now = at + move, there
    return at if np.abs(now).max() <= good else None


def _window_of(slope: float, intercept: float) -> tuple[float, float]:
    width = 1 / slope
    low = -intercept / slope
    return _tidy(low + width / 2), _tidy(width)


def _between_ends(x: Array, y: Array) -> tuple[float, float] | None:
    """Slope and intercept where y is at neither of its ends."""
    low, high = float(y.min()), float(y.max())
    inner = (y > low + 0.02 * (high - low)) & (y < high - 0.02 * (high - low))
    if inner.sum() < _LEAST:
        return None
    slope, intercept = _line(x[inner], y[inner])
    return (slope, intercept) if slope > 0 else None


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and intercept, by least squares."""
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    a0, b0 = a.mean(), b.mean()
    spread = np.square(a - a0).sum()
    slope = float(((a - a0) * (b - b0)).sum() / spread) if spread else 0.0
    return slope, float(b0 - slope * a0)


def _tidy(value: float) -> float:
    """A number as a person would have written it, if it is that close to one."""
    for digits in (0, 1, 2, 3):
        if abs(round(value, digits) - value) <= 2e-4 * max(1.0, abs(value)) * 10.0**-digits * 5:
            return round(value, digits)
    return float(f"{value:.6g}")
