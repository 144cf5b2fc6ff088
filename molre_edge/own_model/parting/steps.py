"""The chain from files to decisions: its steps by name, and the values between them."""

from __future__ import annotations

from enum import Enum

__all__ = ["POINTS", "STEPS_BETWEEN", "Step", "steps_between"]


class Step(str, Enum):
    """One step of the chain, in the order in which they happen."""

    FILES = "files"
    SLICES = "slice order"
    HU = "HU"
    AXES = "rows and columns"
    GRID = "field of view and resampling"
    WINDOWS = "windows"
    NORMALISATION = "normalisation"
    GATES = "gates"
    EXPERTS = "experts"
    BACKBONE = "backbone features"
    POOLING = "pooled embedding"
    HEAD = "logits"
    PROBABILITIES = "probabilities"
    ORDER = "order of findings"
    THRESHOLDS = "thresholds"

    def __str__(self) -> str:
        """The name of the step in messages."""
        return self.value


POINTS = ("hu", "grid", "windowed", "normalised", "gates", "features", "embedding", "logits")
"""Values between the steps, by the names of the arrays in which the user's program may save them."""

_VOLUME = (Step.SLICES, Step.HU, Step.AXES)
STEPS_BETWEEN: tuple[tuple[Step, ...], ...] = (
    (*_VOLUME, Step.GRID),
    (*_VOLUME, Step.WINDOWS),
    (Step.NORMALISATION,),
    (Step.GATES,),
    (Step.EXPERTS, Step.BACKBONE),
    (Step.POOLING,),
    (Step.HEAD, Step.PROBABILITIES, Step.ORDER),
)
"""Steps between each point and the next. A model may also turn the volume that it got on the grid."""


def steps_between(start: str, end: str) -> tuple[Step, ...]:
    """The steps between two points, in order; ``files`` is before the first point."""
    first, last = 0 if start == "files" else POINTS.index(start), POINTS.index(end)
    found = {step for steps in STEPS_BETWEEN[first:last] for step in steps}
    if start == "files":
        found.add(Step.FILES)
    return tuple(step for step in Step if step in found)
