"""What both reference and engine answered: from a run's own scans, or from the bundle's golden volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.parity import Outputs
from molre_edge.runs.answers import Record

__all__ = ["GOLDEN", "GOLDEN_FILE", "Compared", "Labels", "Pair"]

GOLDEN = "golden"
GOLDEN_FILE = "golden.npz"
"""In a run that was compared with the golden answers: those, and the engine's for the same volumes."""

Labels = Mapping[str, npt.NDArray[np.float64]]
"""Scan id -> float64 [findings], NaN where unknown."""


@dataclass(frozen=True, eq=False)
class Pair:
    """What both answered.

    Attributes:
        names: anonymous ids of the volumes.
        expected: the reference's answers.
        got: the engine's.
        truth: labels, float64 [volumes, findings], NaN where unknown; None without any.
    """

    names: tuple[str, ...]
    expected: Outputs
    got: Outputs
    truth: npt.NDArray[np.float64] | None = None

    @classmethod
    def of_golden(cls, expected: Outputs, got: Outputs) -> Pair:
        """Of the golden volumes, which have no labels."""
        return cls(tuple(f"golden-{i + 1:02d}" for i in range(len(expected))), expected, got)


class Compared:
    """Collects the answers of scans that the reference answered too."""

    def __init__(self) -> None:
        """Hold none."""
        self._names: list[str] = []
        self._expected: list[Outputs] = []
        self._got: list[Outputs] = []

    def add(self, record: Record) -> None:
        """Take over a scan's answers, if the reference's are among them."""
        if record.reference is not None:
            self._names.append(record.scan)
            self._expected.append(record.reference)
            self._got.append(record.engine)

    def pair(self, labels: Labels) -> Pair | None:
        """What both answered; None where the reference answered no scan."""
        if not self._names:
            return None
        expected = Outputs.stack(self._expected)
        unknown = np.full(expected.logits.shape[1], np.nan)
        truth = np.stack([labels.get(name, unknown) for name in self._names]) if labels else None
        return Pair(tuple(self._names), expected, Outputs.stack(self._got), truth)
