"""Sensitivity and specificity at the threshold, of reference and engine, with their intervals.

The interval is the score interval of E. B. Wilson, "Probable inference, the law of succession, and statistical
inference", Journal of the American Statistical Association 22 (1927) 209-212. It keeps its coverage with few cases and
has a width at 0 and 1: L. D. Brown, T. T. Cai and A. DasGupta, "Interval estimation for a binomial proportion",
Statistical Science 16 (2001) 101-133.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.parity.auc import Z_95

__all__ = ["Decisions", "Share", "decisions_of", "share_of", "wilson"]

_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Share:
    """A share of scans with its 95 % interval (Wilson).

    Attributes:
        count: scans that were decided rightly.
        of: scans, at least 1.
        low: lower end of the interval.
        high: upper end of it.
    """

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """From 0 to 1."""
        return self.count / self.of

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "count": self.count, "of": self.of}


@dataclass(frozen=True)
class Decisions:
    """The decisions on the labelled scans of one finding: positive at or above its threshold.

    Attributes:
        positives: scans with the finding.
        negatives: scans without it. Scans of unknown label, or with an answer that is not finite, are in neither.
        reference: sensitivity and specificity of the reference; None without positives, or negatives.
        engine: the same for the engine.
    """

    positives: int
    negatives: int
    reference: tuple[Share | None, Share | None]
    engine: tuple[Share | None, Share | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        sides = {"reference": self.reference, "engine": self.engine}
        return {
            "positives": self.positives,
            "negatives": self.negatives,
            **{
                name: {
                    "sensitivity": sensitivity.to_dict() if sensitivity else None,
                    "specificity": specificity.to_dict() if specificity else None,
                }
                for name, (sensitivity, specificity) in sides.items()
            },
        }


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share.

    Args:
        count: from 0 to `of`.
        of: at least 1.
    """
    share, z2 = count / of, Z_95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z_95 / (1 + z2 / of) * (share * (1 - share) / of + z2 / (4 * of**2)) ** 0.5
    return (0.0 if count == 0 else middle - half), (1.0 if count == of else middle + half)


def share_of(right: _Bools) -> Share | None:
    """The share of what is true in bool (n,), None if it is empty."""
    count, of = int(right.sum()), len(right)
    return Share(count, of, *wilson(count, of)) if of else None


def decisions_of(reference: _Bools, engine: _Bools, positive: _Bools) -> Decisions:
    """Decisions on the labelled scans of one finding.

    Args:
        reference: bool (n,), the reference's decisions.
        engine: bool (n,), the engine's.
        positive: bool (n,), the labels.
    """

    def rates(decided: _Bools) -> tuple[Share | None, Share | None]:
        return share_of(decided[positive]), share_of(~decided[~positive])

    return Decisions(int(positive.sum()), int((~positive).sum()), rates(reference), rates(engine))
