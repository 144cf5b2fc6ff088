"""Area under the ROC curve, and DeLong's interval for the difference of two readers of the same cases.

The structural components follow E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two
or more correlated receiver operating characteristic curves", Biometrics 44 (1988) 837-845; they are computed from
midranks as in X. Sun and W. Xu, "Fast implementation of DeLong's algorithm", IEEE Signal Processing Letters 21 (2014)
1389-1393, in O(n log n).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.parity.outputs import FloatArray, ParityError

__all__ = ["Z_95", "AucComparison", "AucInterval", "auc", "auc_interval", "compare_auc", "unseen"]

Z_95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution: two-sided intervals of 95 %."""

_FEWEST = 2  # a variance needs two cases of each class


@dataclass(frozen=True)
class AucComparison:
    """The AUC of reference and engine on the same labelled scans.

    Attributes:
        reference: AUC of the reference.
        engine: AUC of the engine.
        difference: engine minus reference; negative when the engine is worse.
        low: lower end of the 95 % interval of the difference (DeLong, paired).
        high: upper end of it.
        positives: scans with the finding.
        negatives: scans without it; scans of unknown label are in neither.
        reference_interval: low and high end of the 95 % interval of the reference's AUC; see :func:`auc_interval`.
        engine_interval: the same for the engine.
    """

    reference: float
    engine: float
    difference: float
    low: float
    high: float
    positives: int
    negatives: int
    reference_interval: tuple[float, float]
    engine_interval: tuple[float, float]

    @property
    def drop(self) -> float:
        """Reference minus engine: what the limits bound."""
        return self.reference - self.engine

    @property
    def near_chance(self) -> bool:
        """Whether the interval of the reference's or the engine's AUC contains 0.5."""
        return any(low <= 0.5 <= high for low, high in (self.reference_interval, self.engine_interval))

    @property
    def not_excluded(self) -> float | None:
        """The size of a difference that so few scans can't exclude, where DeLong's interval has no width.

        It has none if no pair of scans changed its order, which is no proof that none would: see :func:`unseen`.
        """
        return unseen(self.positives, self.negatives) if self.difference == 0 and self.low == self.high else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        intervals = {"reference_interval": list(self.reference_interval), "engine_interval": list(self.engine_interval)}
        return {**asdict(self), **intervals, "not_excluded": self.not_excluded}


@dataclass(frozen=True)
class AucInterval:
    """An AUC with its 95 % interval, both ends within 0 and 1; see :func:`auc_interval`."""

    auc: float
    low: float
    high: float


def _midranks(values: FloatArray) -> npt.NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of their ranks; (n,) -> float64 (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse.reshape(-1)]
    return ranks


def _components(
    scores: FloatArray, positive: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """DeLong's structural components.

    Returns:
        For each positive the share of negatives it beats, and for each negative the share of positives that beat
        it; ties count half. Both means are the AUC.
    """
    ranks = _midranks(scores)
    among_positives, among_negatives = _midranks(scores[positive]), _midranks(scores[~positive])
    m, n = len(among_positives), len(among_negatives)
    return (ranks[positive] - among_positives) / n, 1.0 - (ranks[~positive] - among_negatives) / m


def auc(scores: FloatArray, positive: npt.NDArray[np.bool_]) -> float:
    """The exact area under the ROC curve (Mann-Whitney, ties half).

    Args:
        scores: float (n,), finite; any monotone scale, so logits serve as well as probabilities.
        positive: bool (n,), with at least one of each class.

    Raises:
        ParityError: a class is empty; the area is then not defined.
    """
    if positive.all() or not positive.any():
        raise ParityError("AUC: expected at least one scan with the finding and one without")
    return float(_components(scores, positive)[0].mean())


def unseen(positives: int, negatives: int) -> float:
    """The largest share of pairs that may behave otherwise although none of those at hand does, at 95 %.

    The rule of three of J. A. Hanley and A. Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249
    (1983) 1743-1745, in its exact form, for as many independent pairs of a scan with the finding and one without as
    the scans give: the smaller of the two counts.

    Args:
        positives: scans with the finding, at least 1.
        negatives: scans without it, at least 1.
    """
    return float(1.0 - 0.05 ** (1.0 / min(positives, negatives)))


def auc_interval(scores: FloatArray, positive: npt.NDArray[np.bool_]) -> AucInterval | None:
    """The AUC of one set of scores and its 95 % interval.

    The interval is DeLong's. Its variance is 0 if all pairs of scans are ordered alike (an AUC of 1, 0, or 0.5 of equal
    scores), whatever their number; the rule of three bounds the interval then: see :func:`unseen`.

    Args:
        scores: float (n,), finite.
        positive: bool (n,).

    Returns:
        ``None`` with fewer than two positives or two negatives: no variance can be estimated.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if m < _FEWEST or n < _FEWEST:
        return None
    return _interval(_components(scores, positive))


def _interval(components: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> AucInterval:
    """Of the components of one set of scores, at least two of each class."""
    of_positives, of_negatives = components
    m, n = len(of_positives), len(of_negatives)
    area = float(of_positives.mean())
    if np.ptp(of_positives) == 0 and np.ptp(of_negatives) == 0:
        share = unseen(m, n)
        return AucInterval(area, area * (1 - share), area + (1 - area) * share)
    half = Z_95 * float(np.var(of_positives, ddof=1) / m + np.var(of_negatives, ddof=1) / n) ** 0.5
    return AucInterval(area, max(0.0, area - half), min(1.0, area + half))


def compare_auc(reference: FloatArray, engine: FloatArray, positive: npt.NDArray[np.bool_]) -> AucComparison | None:
    """AUC of both, and the paired 95 % interval of their difference.

    Args:
        reference: float (n,), finite scores of the reference.
        engine: float (n,), finite scores of the engine for the same scans.
        positive: bool (n,).

    Returns:
        ``None`` with fewer than two positives or two negatives: no variance can be estimated.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if m < _FEWEST or n < _FEWEST:
        return None
    of_reference, of_engine = _components(reference, positive), _components(engine, positive)
    interval_reference, interval_engine = _interval(of_reference), _interval(of_engine)
    area_reference, area_engine = interval_reference.auc, interval_engine.auc
    variance = float(
        np.var(of_engine[0] - of_reference[0], ddof=1) / m + np.var(of_engine[1] - of_reference[1], ddof=1) / n
    )
    difference, half = area_engine - area_reference, Z_95 * variance**0.5
    return AucComparison(
        reference=area_reference,
        engine=area_engine,
        difference=difference,
        low=max(-1.0, difference - half),
        high=min(1.0, difference + half),
        positives=m,
        negatives=n,
        reference_interval=(interval_reference.low, interval_reference.high),
        engine_interval=(interval_engine.low, interval_engine.high),
    )
