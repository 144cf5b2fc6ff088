"""What both reference and engine answered: from a run's own scans, or from the bundle's golden volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.parity import Outputs
from molre_edge.runs.answers import Record

__all__ = ["GOLDEN", "GOLDEN_FILE", "Labels", "Pair"]

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

    @classmethod
    def of_records(cls, records: Sequence[Record], labels: Labels) -> Pair | None:
        """Of a run's scans that the reference answered too; None where there is none."""
        both = [(record, record.reference) for record in records if record.reference is not None]
        if not both:
            return None
        names = tuple(record.scan for record, _ in both)
        expected = Outputs.stack([outputs for _, outputs in both])
        unknown = np.full(expected.logits.shape[1], np.nan)
        truth = np.stack([labels.get(name, unknown) for name in names]) if labels else None
        return cls(names, expected, Outputs.stack([record.engine for record, _ in both]), truth)
