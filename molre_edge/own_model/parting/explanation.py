"""What ``molre-edge reference --explain`` found, as values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molre_edge.own_model.parting.search import Cause
from molre_edge.own_model.parting.steps import Step
from molre_edge.own_model.parting.walk import Segment
from molre_edge.specs import DISCLAIMER

__all__ = ["Explanation", "Row", "rows_of"]

NAMES = {
    "files": "the scan's files",
    "hu": "the HU volume",
    "grid": "the volume on the grid",
    "windowed": "windowed channels",
    "normalised": "normalised channels",
    "gates": "gates",
    "features": "backbone features",
    "embedding": "pooled embedding",
    "logits": "logits",
}
"""Points of the chain, for people."""


@dataclass(frozen=True)
class Row:
    """One part of the chain, compared.

    Attributes:
        start, end: points between which the user's program gave no value.
        steps: that lie between.
        differs: whether it parts here.
        scan: that differs most.
        size: the largest difference there; infinite where the shapes differ.
        allowed: differences up to this are rounding.
        yours, ours: both values at that place; nan where the shapes differ.
    """

    start: str
    end: str
    steps: tuple[Step, ...]
    differs: bool
    scan: str
    size: float
    allowed: float
    yours: float
    ours: float

    @property
    def where(self) -> str:
        """For people."""
        if self.start == self.end:
            return NAMES[self.end]
        return f"{NAMES[self.start]} to {NAMES[self.end]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data; numbers that do not exist are null."""
        numbers = {name: getattr(self, name) for name in ("size", "allowed", "yours", "ours")}
        return {
            "start": self.start,
            "end": self.end,
            "steps": [str(step) for step in self.steps],
            "differs": self.differs,
            "scan": self.scan,
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
        }


def rows_of(segments: Sequence[Segment]) -> tuple[Row, ...]:
    """The rows of walked segments."""
    rows = []
    for segment in segments:
        worst = segment.differences[segment.worst]
        rows.append(
            Row(
                start=segment.start,
                end=segment.end,
                steps=segment.steps,
                differs=segment.differs,
                scan=segment.worst,
                size=worst.size,
                allowed=worst.allowed,
                yours=worst.yours,
                ours=worst.ours,
            )
        )
    return tuple(rows)


@dataclass(frozen=True)
class Explanation:
    """Where the user's own model and the rebuild of a checkpoint part.

    Attributes:
        folder: with ``explanation.json`` and ``explanation.html``.
        headline: of the verdict on the answers.
        answers_agree: whether all answers are within the limits.
        step: the first step that differs; None if none does, or if what was saved can't tell.
        text: what was found, a sentence.
        causes: changes that make both equal; several if these scans can't tell them apart.
        rows: the parts of the chain, in order.
        notes: what else should be known.
        tried: how many changes were tried.
    """

    folder: Path
    headline: str
    answers_agree: bool
    step: Step | None
    text: str
    causes: tuple[Cause, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    tried: int

    @property
    def exit_code(self) -> int:
        """3 if answers differ, else 0."""
        return 0 if self.answers_agree else 3

    def to_dict(self) -> dict[str, Any]:
        """Plain data: ``explanation.json``, and what ``reference --explain --json`` prints."""
        return {
            "folder": str(self.folder),
            "headline": self.headline,
            "answers_agree": self.answers_agree,
            "step": None if self.step is None else str(self.step),
            "text": self.text,
            "causes": [
                {
                    "step": str(each.step),
                    "your_model": each.text,
                    "to_fix": each.fix,
                    "difference_left": each.left,
                    "scans": each.scans,
                }
                for each in self.causes
            ],
            "chain": [row.to_dict() for row in self.rows],
            "notes": list(self.notes),
            "changes_tried": self.tried,
            "exit_code": self.exit_code,
            "disclaimer": DISCLAIMER,
        }
