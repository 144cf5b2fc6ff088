"""Evaluation of a checkpoint: AUC per finding with intervals, calibration, and the behaviour of its routers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.parity import Outputs
from molre_edge.parity.auc import AucInterval, auc_interval

__all__ = ["Calibration", "Evaluation", "FindingResult", "RoutingResult", "evaluate_outputs"]

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
class RoutingResult:
    """Behaviour of the routers on these scans.

    Attributes:
        entropy: float64 [routers], mean entropy of the gates over log K: 1 is an even mixture, 0 a single expert.
        usage: float64 [routers, K], mean gate of each expert.
        leading: float64 [routers, K], share of gate vectors that each expert leads.
        with_finding: float64 [findings, routers, K], mean gate over the scans with it; NaN where there is none.
        by_finding: float64 [findings, routers, K], that minus the mean over the scans without; NaN where either is
            missing. An expert specialises in what raises its gate.
        spread: mean over routers of the standard deviation of gates between scans; 0 means that the router ignores its
            input.
    """

    entropy: npt.NDArray[np.float64]
    usage: npt.NDArray[np.float64]
    leading: npt.NDArray[np.float64]
    with_finding: npt.NDArray[np.float64]
    by_finding: npt.NDArray[np.float64]
    spread: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data; null for NaN."""

        def plain(values: npt.NDArray[np.float64]) -> Any:
            known = values.astype(object)
            known[np.isnan(values)] = None
            return known.tolist()

        return {
            "entropy": self.entropy.tolist(),
            "usage": self.usage.tolist(),
            "leading": self.leading.tolist(),
            "with_finding": plain(self.with_finding),
            "by_finding": plain(self.by_finding),
            "spread": self.spread,
        }


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
        routing=_routing(outputs.gates, labels),
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


def _routing(gates: npt.NDArray[Any] | None, labels: npt.NDArray[np.float32]) -> RoutingResult | None:
    if gates is None or gates.shape[-1] < 2:
        return None
    values = gates.astype(np.float64)  # [n, slices, routers, K]
    experts = values.shape[-1]
    per_scan = values.mean(axis=1)  # [n, routers, K]
    entropy = -(values * np.log(np.clip(values, 1e-12, None))).sum(-1) / np.log(experts)
    leads = np.eye(experts)[values.argmax(-1)]
    with_finding = np.full((labels.shape[1], *per_scan.shape[1:]), np.nan)
    by_finding = with_finding.copy()
    for i, column in enumerate(labels.T):
        with_it, without = column == 1, column == 0
        if with_it.any():
            with_finding[i] = per_scan[with_it].mean(0)
        if with_it.any() and without.any():
            by_finding[i] = with_finding[i] - per_scan[without].mean(0)
    return RoutingResult(
        entropy=entropy.mean(axis=(0, 1)),
        usage=per_scan.mean(axis=0),
        leading=leads.mean(axis=(0, 1)),
        with_finding=with_finding,
        by_finding=by_finding,
        spread=float(per_scan.std(axis=0).mean()),
    )
