"""Walks the chain from one saved value to the next, each time from the user's own value on, so errors do not add up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from molre_edge.own_model.inputs_folder import HuVolume
from molre_edge.own_model.parting.chain import Array, Chain, State
from molre_edge.own_model.parting.steps import POINTS, Step, steps_between
from molre_edge.own_model.rounded import LogitRange
from molre_edge.parity import ParityLimits, sigmoid
from molre_edge.parity.logits import logit_differences

__all__ = ["Difference", "Segment", "Target", "walk"]

_GEOMETRY = 100.0
"""Resampling in half floats makes the next values so many times less exact."""
_EXACT = 1e-4


@dataclass(frozen=True)
class Difference:
    """The largest difference of two values.

    Attributes:
        size: in the unit of the value; of logits, over their saturation. Infinite where shapes differ.
        allowed: differences up to this are rounding.
        ours: the rebuild's value there; nan where shapes differ.
        yours: the user's.
        place: index of it.
    """

    size: float
    allowed: float
    ours: float = math.nan
    yours: float = math.nan
    place: tuple[int, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether it is more than rounding."""
        return not self.size <= self.allowed


@dataclass(frozen=True, eq=False)
class Target:
    """What the user's own model had at a point, for one scan.

    Attributes:
        point: of the chain.
        value: float array; for logits None.
        logits: [1, findings], for logits.
        coarse: whether resampling lies before it.
        limits: for logits.
    """

    point: str
    value: Array | None
    logits: LogitRange | None
    coarse: bool
    limits: ParityLimits

    def nearest(self, ours: Array) -> Array:
        """The user's value; of logits that a probability stands for, the one nearest to ours."""
        if self.logits is not None:
            nearest: Array = self.logits.nearest(ours[None])[0]
            return nearest
        assert self.value is not None
        return self.value

    def compare(self, ours: Array) -> Difference:
        """The rebuild's value beside it."""
        if self.logits is not None:
            own = self.nearest(ours)[None]
            size = logit_differences(own, ours[None])[0]
            at = int(size.argmax())
            allowed = math.inf if self.limits.max_abs_dlogit is None else self.limits.max_abs_dlogit
            dp = np.abs(sigmoid(own) - sigmoid(ours[None])).max()
            over = self.limits.max_abs_dp is not None and dp > self.limits.max_abs_dp
            allowed = min(allowed, float(size[at]) / 2) if over else allowed
            return Difference(float(size[at]), allowed, float(ours[at]), float(own[0, at]), (at,))
        assert self.value is not None
        if ours.shape != self.value.shape:
            return Difference(math.inf, 0.0)
        apart = np.abs(ours.astype(np.float64) - self.value)
        allowed_at = self._allowed(ours)
        over_it = apart / allowed_at
        place = np.unravel_index(int(over_it.argmax()), apart.shape)
        return Difference(
            float(apart[place]),
            float(np.broadcast_to(allowed_at, apart.shape)[place]),
            float(ours[place]),
            float(self.value[place]),
            tuple(int(i) for i in place),
        )

    def _allowed(self, ours: Array) -> Array:
        """What rounding may do, broadcast to the value's shape."""
        if self.point == "hu":
            return np.array(0.51)
        if self.point == "grid":
            return 0.51 + np.abs(ours.astype(np.float64)) / 1000
        factor = _EXACT * (_GEOMETRY if self.coarse else 1.0)
        if self.point == "windowed":
            return np.array(factor)
        if self.point == "normalised":
            return np.array(5 * factor)
        if self.point == "gates":
            return np.array(10 * factor)
        return np.array(10 * factor * max(float(np.sqrt(np.square(ours, dtype=np.float64).mean())), 1e-12))


@dataclass(frozen=True, eq=False)
class Segment:
    """From one point at which the user's value is known to the next.

    Attributes:
        start, end: points; ``files`` is before the first one.
        steps: that lie between.
        states: scan -> where the rebuild begins, from the user's own value if it was saved.
        targets: scan -> what the user's model had at the end.
        differences: scan -> at the end.
    """

    start: str
    end: str
    steps: tuple[Step, ...]
    states: Mapping[str, State]
    targets: Mapping[str, Target]
    differences: Mapping[str, Difference]

    @property
    def worst(self) -> str:
        """The scan that differs most."""
        return max(self.differences, key=lambda scan: _excess(self.differences[scan]))

    @property
    def differs(self) -> bool:
        """Whether the chain parts here."""
        return any(each.differs for each in self.differences.values())


def _excess(difference: Difference) -> float:
    return difference.size / difference.allowed if difference.allowed else math.inf


def walk(
    chain: Chain,
    volumes: Mapping[str, HuVolume | Array],
    saved: Mapping[str, Mapping[str, Array]],
    logits: Mapping[str, LogitRange],
    limits: ParityLimits,
) -> list[Segment]:
    """All segments, in order.

    Args:
        chain: of the checkpoint.
        volumes: scan -> what the user's model was given: the volume as read (also for files), or that on the grid.
        saved: scan -> point -> value, as the user's program saved it.
        logits: scan -> the user's answers [1, findings].
        limits: of float32.
    """
    first = "hu" if isinstance(next(iter(volumes.values())), HuVolume) else "grid"
    known = [point for point in POINTS if saved and all(point in values for values in saved.values())]
    known = [point for point in known if POINTS.index(point) >= POINTS.index(first)]
    if chain.model.config.adapter.experts < 2:  # one expert is always used in full: there are no gates to compare
        known = [point for point in known if point != "gates"]
    scans = list(saved) if known else list(volumes)
    states = {scan: State(first, volumes[scan]) for scan in scans}
    segments, start = [], "files" if first == "hu" else "grid"
    for point in [*known, "logits"]:
        coarse = start in ("files", "hu") and point != "hu"
        targets = {
            scan: Target(
                point, saved.get(scan, {}).get(point), logits[scan] if point == "logits" else None, coarse, limits
            )
            for scan in scans
        }
        segment = _segment(chain, start, point, states, targets)
        segments.append(segment)
        states, start = _onwards(chain, segment, saved), point
    return segments


def _segment(chain: Chain, start: str, end: str, states: Mapping[str, State], targets: Mapping[str, Target]) -> Segment:
    differences = {scan: target.compare(chain.run(states[scan], end)) for scan, target in targets.items()}
    if start == end:  # a volume that was given, saved again
        steps: tuple[Step, ...] = (Step.SLICES, Step.HU, Step.AXES)
    elif end == "hu":
        steps = (Step.FILES, Step.SLICES, Step.HU, Step.AXES)
    else:
        steps = steps_between(start, end)
    return Segment(start, end, steps, states, targets, differences)


def _onwards(chain: Chain, segment: Segment, saved: Mapping[str, Mapping[str, Array]]) -> dict[str, State]:
    """Where the next segment begins: at the user's own values."""
    states = dict(segment.states)
    for scan, state in states.items():
        value = saved.get(scan, {}).get(segment.end)
        if value is None or not math.isfinite(segment.differences[scan].size):
            continue
        if segment.end == "gates":
            if chain.gates_can_be_given:
                states[scan] = replace(state, gates=value)
        elif segment.end == "hu":
            assert isinstance(state.value, HuVolume)
            states[scan] = replace(state, value=replace(state.value, hu=value))
        else:
            states[scan] = replace(state, point=segment.end, value=value)
    return states
