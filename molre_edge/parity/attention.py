"""The pooling's attention over slices in reference and engine, in numbers and without an opinion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.parity.outputs import FloatArray

__all__ = ["AttentionNumbers", "compare_attention"]


@dataclass(frozen=True, eq=False)
class AttentionNumbers:
    """The weights of the slices of both.

    Attributes:
        slices: of the model's grid.
        l1: float64 (n,), L1 distance between the weights (sum over slices); nan where a value is not finite.
        leader_changes: volumes in which another slice has the largest weight.
        leader_total: volumes compared, without those that are not finite in both.
    """

    slices: int
    l1: npt.NDArray[np.float64]
    leader_changes: int
    leader_total: int

    @property
    def per_scan(self) -> list[float | None]:
        """The L1 distance of each volume; ``None`` where a value is not finite."""
        return [float(value) if np.isfinite(value) else None for value in self.l1]

    @property
    def max_l1(self) -> float | None:
        """The largest L1 distance over the volumes."""
        return max((value for value in self.per_scan if value is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "slices": self.slices,
            "max_l1": self.max_l1,
            "max_l1_per_scan": self.per_scan,
            "leader_changes": self.leader_changes,
            "leader_total": self.leader_total,
        }


def compare_attention(reference: FloatArray | None, engine: FloatArray | None) -> AttentionNumbers | None:
    """Compare weights of slices, float (n, slices) each; ``None`` where one side gives none."""
    if reference is None or engine is None:
        return None
    a, b = reference.astype(np.float64), engine.astype(np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf; reported as not finite
        apart = np.abs(b - a).sum(axis=-1)
    known = np.isfinite(apart)
    apart[~known] = np.nan
    changed = known & (a.argmax(axis=-1) != b.argmax(axis=-1))
    return AttentionNumbers(a.shape[1], apart, int(changed.sum()), int(known.sum()))
