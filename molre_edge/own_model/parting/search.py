"""Searches for the one change of the chain that gives what the user's model had. It is run, never guessed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from molre_edge.own_model.parting.chain import Array, Chain, Change, State
from molre_edge.own_model.parting.changes_intensity import intensity_changes, normalisation_change, window_change
from molre_edge.own_model.parting.changes_model import model_changes, scale_change, temperature_change
from molre_edge.own_model.parting.changes_volume import volume_changes
from molre_edge.own_model.parting.estimate import fit, from_channels, from_normalised
from molre_edge.own_model.parting.steps import POINTS, Step
from molre_edge.own_model.parting.walk import Segment
from molre_edge.progress import Progress

if TYPE_CHECKING:
    from molre_edge.model.config import ModelConfig

__all__ = ["Cause", "Search"]

_CONFIRMED_BY = 8
"""Scans on which a change must give the user's values."""
_LESS = 0.3
"""It must leave at most this part of the difference."""
_FITTED_VALUES = 512
_AROUND = {"windowed": "grid", "normalised": "windowed", "model": "normalised", "embedding": "features"}
"""What a change takes the place of -> the point just before."""


@dataclass(frozen=True)
class Cause:
    """A change that makes both equal.

    Attributes:
        step: in which it lies.
        text: what the user's model does, for "Your model ...".
        fix: what would make both equal.
        left: the largest difference that is left, and `scans`: on how many it was tried.
        scans: see `left`.
        change: the change itself.
    """

    step: Step
    text: str
    fix: str
    left: float
    scans: int
    change: Change


class Search:
    """Over the changes that lie within one segment.

    Attributes:
        tried: changes so far.
        ended: whether the time was over before all were tried.
    """

    def __init__(
        self, chain: Chain, config: ModelConfig, segment: Segment, *, seconds: float, progress: Progress
    ) -> None:
        """Begin with nothing tried."""
        self.tried, self.ended = 0, False
        self._chain, self._config, self._segment, self._progress = chain, config, segment, progress
        self._end_at = time.monotonic() + seconds
        self._before: dict[tuple[str, str], State] = {}
        self._known = sum(1 for _ in volume_changes(config.grid, resampled=True)) + len(list(model_changes(config)))
        ranked = sorted(segment.differences, key=lambda scan: -segment.differences[scan].size)
        self._scans = ranked[:_CONFIRMED_BY]

    def causes(self) -> list[Cause]:
        """All changes of the first kind that has one, likelier kinds first."""
        for kind in self._kinds():
            found = [cause for change in kind if (cause := self._try(change)) is not None]
            if found or self.ended:
                return found
        return []

    def _kinds(self) -> Iterator[Iterable[Change]]:
        config, intensity = self._config, self._chain.model.intensity
        mean, std = intensity.mean.flatten().tolist(), intensity.std.flatten().tolist()
        model = list(model_changes(config))
        yield self._estimated()
        yield (change for change in model if change.step is Step.POOLING)
        yield intensity_changes(config.windows, mean, std)
        yield volume_changes(config.grid, resampled=False)
        yield (change for change in model if change.step is not Step.POOLING)
        yield volume_changes(config.grid, resampled=True)
        yield self._fitted()

    def _within(self, change: Change) -> bool:
        """Whether a change lies in the segment."""
        start, end = self._segment.states[self._scans[0]], POINTS.index(self._segment.end)
        at = POINTS.index(start.point)
        if change.where == "sample":
            return at == 0 and end >= 1
        if change.where == "grid":
            return at <= 1 <= end
        if change.where == "model":
            begins_before = at <= POINTS.index("normalised") and end >= POINTS.index("gates")
            # where the user's gates are in use, routers do nothing
            return begins_before and not (start.gates is not None and change.step is Step.GATES)
        makes = POINTS.index(change.where)
        return at < makes <= end

    def _try(self, change: Change) -> Cause | None:
        """The change as a cause, if it gives the user's values on every scan looked at."""
        if not self._within(change) or self.ended:
            return None
        if time.monotonic() > self._end_at:
            self.ended = True
            return None
        self.tried += 1
        self._progress.count(self.tried, max(self.tried, self._known), "changes")
        left = 0.0
        for scan in self._scans:
            before = self._segment.differences[scan]
            try:
                value = self._value(scan, change)
            except (RuntimeError, ValueError, IndexError):  # does not fit this model
                return None
            after = self._segment.targets[scan].compare(value)
            if not np.isfinite(after.size) or after.differs or (before.differs and after.size > _LESS * before.size):
                return None
            left = max(left, after.size)
        return Cause(change.step, change.text, change.fix, left, len(self._scans), change)

    def _value(self, scan: str, change: Change) -> Array:
        return self._chain.run(self._state(scan, change), self._segment.end, change)

    def _state(self, scan: str, change: Change) -> State:
        """The state of a scan just before the change, computed once."""
        state = self._segment.states[scan]
        wanted = _AROUND.get(change.where)
        if wanted is None or POINTS.index(state.point) >= POINTS.index(wanted):
            return state
        key = (scan, wanted)
        if key not in self._before:
            self._before[key] = replace(state, point=wanted, value=self._chain.run(state, wanted))
        return self._before[key]

    def _estimated(self) -> Iterator[Change]:
        """Changes that the saved values themselves suggest."""
        scan, windows = self._scans[0], self._config.windows
        state, target = self._segment.states[scan], self._segment.targets[scan]
        if target.value is None or not np.isfinite(self._segment.differences[scan].size):
            return
        if target.point == "windowed":
            seen = self._chain.model.intensity.unranged(target.value)
            yield from from_channels(self._chain.run(state, "grid"), seen, windows)
        elif target.point == "normalised":
            intensity = self._chain.model.intensity
            if state.point in ("hu", "grid"):
                as_windowed = target.value * intensity.std.numpy() + intensity.mean.numpy()
                yield from from_channels(self._chain.run(state, "grid"), intensity.unranged(as_windowed), windows)
            if state.point in ("hu", "grid", "windowed"):
                yield from from_normalised(self._chain.run(state, "windowed"), target.value)

    def _fitted(self) -> Iterator[Change]:
        """Changes with numbers that no list knows, fitted to the scan that differs most."""
        windows, config = self._config.windows, self._config
        intensity = self._chain.model.intensity
        means, deviations = intensity.mean.flatten().tolist(), intensity.std.flatten().tolist()
        for place, window in enumerate(windows):

            def windowed(numbers: Array, place: int = place) -> Change:
                centre, width = float(numbers[0]), max(float(numbers[1]), 1.0)
                return window_change(windows, {place: (centre, width)}, " (fitted)")

            yield from self._fit(windowed, window, (1.0, 2.0))

        def normalised(numbers: Array) -> Change:
            mean, std = [float(numbers[0])] * len(windows), [max(float(numbers[1]), 1e-3)] * len(windows)
            return normalisation_change(mean, std, len(windows), " (fitted)")

        yield from self._fit(normalised, (float(np.mean(means)), float(np.mean(deviations))), (0.01, 0.01))
        if config.adapter.experts > 1:
            yield from self._fit(
                lambda numbers: temperature_change(config, max(float(numbers[0]), 1e-3)),
                (config.router.temperature,),
                (0.02,),
            )
        if config.adapter.experts:
            yield from self._fit(
                lambda numbers: scale_change(config, float(numbers[0])),
                (config.adapter.alpha / config.adapter.rank,),
                (0.02,),
            )

    def _fit(
        self, change_of: Callable[[Array], Change], start: tuple[float, ...], steps: tuple[float, ...]
    ) -> Iterator[Change]:
        if not self._within(change_of(np.array(start))) or self.ended:
            return
        scan = self._scans[0]
        target = self._segment.targets[scan]

        def residual(numbers: Array) -> Array:
            if time.monotonic() > self._end_at:
                self.ended = True
            if self.ended:
                return np.full(1, np.inf)
            ours = self._value(scan, change_of(numbers)).astype(np.float64)
            difference = (ours - target.nearest(ours)).ravel()
            return difference[:: max(1, len(difference) // _FITTED_VALUES)]

        good = self._segment.differences[scan].allowed / 10
        found = fit(start, steps, residual, good=good)
        if found is None:
            return
        for digits in range(5):  # as a person would have written them, if that is as good
            rounded = np.round(found, digits)
            if np.abs(residual(rounded)).max() <= good:
                yield change_of(rounded)
                return
        yield change_of(found)
