"""Evaluation of a checkpoint: AUC per finding with intervals, calibration, and the behaviour of its routers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.parity import Outputs
from molre_edge.parity.auc import AucInterval, auc_interval
from molre_edge.training.gates import RoutingResult, measure_routing

__all__ = ["Calibration", "Evaluation", "FindingResult", "evaluate_outputs"]

_HIGH_AUC = 0.90
_BINS = 10


@dataclass(frozen=True)
class FindingResult:
    """One finding.

    Attributes:
        finding: its name.
        positives, negatives: labelled scans with and without it.
        auc: with its 95 % interval (DeLong); None with fewer than two of either.
        sensitivity, specificity: at the checkpoint's threshold; None without positives or negatives.
    """

    finding: str
    positives: int
    negatives: int
    auc: AucInterval | None
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True)
class Calibration:
    """Calibration of the probabilities, over all known labels.

    Attributes:
        brier: mean squared difference of probability and label.
        expected_error: expected calibration error over ten bins of equal width.
        bins: (mean probability, share of positives, labels) of each bin that has any.
    """

    brier: float
    expected_error: float
    bins: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        scans: number of scans.
        findings: one result each.
        macro_auc: mean AUC over the findings that have one; None without any.
        macro_interval: its 95 % interval over the scans (bootstrap, seeded); None where there is no AUC.
        high: findings at an AUC of 0.90 or more.
        calibration: over all known labels.
        routing: None for K = 0 or 1.
    """

    scans: int
    findings: tuple[FindingResult, ...]
    macro_auc: float | None
    macro_interval: tuple[float, float] | None
    high: int
    calibration: Calibration
    routing: RoutingResult | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "scans": self.scans,
            "macro_auc": self.macro_auc,
            "macro_interval": self.macro_interval,
            "findings_at_auc_090": self.high,
            "findings": [asdict(result) for result in self.findings],
            "calibration": asdict(self.calibration),
            "routing": None if self.routing is None else self.routing.to_dict(),
        }


def evaluate_outputs(
    outputs: Outputs,
    labels: npt.NDArray[np.float32],
    findings: Sequence[str],
    thresholds: Sequence[float],
    *,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Measure answers against labels.

    Args:
        outputs: of n scans.
        labels: [n, findings], 1, 0 or NaN for unknown.
        findings: names.
        thresholds: of the checkpoint.
        resamples: of the scans, for the interval of the mean AUC.
        seed: of the resampling.
    """
    probabilities = outputs.probabilities
    results = tuple(_finding(name, probabilities[:, i], labels[:, i], thresholds[i]) for i, name in enumerate(findings))
    areas = [result.auc.auc for result in results if result.auc is not None]
    return Evaluation(
        scans=len(outputs),
        findings=results,
        macro_auc=float(np.mean(areas)) if areas else None,
        macro_interval=_bootstrap(probabilities, labels, results, resamples, seed) if areas else None,
        high=sum(area >= _HIGH_AUC for area in areas),
        calibration=_calibration(probabilities, labels),
        routing=measure_routing(outputs.gates, labels),
    )


def _finding(
    name: str, probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.float32], threshold: float
) -> FindingResult:
    known = ~np.isnan(labels)
    positive, p = labels[known] == 1, probabilities[known]
    hits = p >= threshold
    return FindingResult(
        finding=name,
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        auc=auc_interval(p, positive),
        sensitivity=float(hits[positive].mean()) if positive.any() else None,
        specificity=float((~hits[~positive]).mean()) if (~positive).any() else None,
    )


def _bootstrap(
    probabilities: npt.NDArray[np.float64],
    labels: npt.NDArray[np.float32],
    results: Sequence[FindingResult],
    resamples: int,
    seed: int,
) -> tuple[float, float] | None:
    """Percentiles of the mean AUC over resampled scans; findings that lose a class in a draw sit that draw out."""
    from molre_edge.parity import auc

    rng = np.random.default_rng(seed)
    columns = [i for i, result in enumerate(results) if result.auc is not None]
    means = []
    for _ in range(resamples):
        draw = rng.integers(0, len(labels), len(labels))
        areas = []
        for i in columns:
            column = labels[draw, i]
            known = ~np.isnan(column)
            positive = column[known] == 1
            if positive.any() and not positive.all():
                areas.append(auc(probabilities[draw, i][known], positive))
        if areas:
            means.append(np.mean(areas))
    if not means:
        return None
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _calibration(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.float32]) -> Calibration:
    known = ~np.isnan(labels)
    p, y = probabilities[known], labels[known].astype(np.float64)
    bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
    rows = tuple(
        (float(p[bins == b].mean()), float(y[bins == b].mean()), int((bins == b).sum()))
        for b in range(_BINS)
        if (bins == b).any()
    )
    error = sum(n * abs(mean - share) for mean, share, n in rows) / max(1, len(p))
    return Calibration(float(np.mean((p - y) ** 2)) if len(p) else 0.0, float(error), rows)
