"""What was measured between reference and engine: values without an opinion."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from molre_edge.findings import finding_words
from molre_edge.parity.attention import AttentionNumbers
from molre_edge.parity.auc import AucComparison
from molre_edge.parity.decisions import Decisions
from molre_edge.parity.limits import ParityLimits
from molre_edge.parity.outputs import FloatArray

__all__ = [
    "FEW_CASES",
    "Differences",
    "FindingNumbers",
    "Flip",
    "GateNumbers",
    "LogitDifference",
    "NonFinite",
    "PairNumbers",
    "ParityNumbers",
    "WorstScan",
    "largest",
]

FEW_CASES = 20
"""With fewer scans with a finding, or without it, its figures are marked; docs/reference/report.md says why so many."""

Side = Literal["reference", "engine"]
_F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Differences:
    """Engine minus reference, as probabilities. ``None`` where no pair of finite values exists.

    Attributes:
        max_abs: largest absolute difference.
        p99_abs: 99th percentile of it.
        mean_abs: mean of it.
        mean: mean signed difference: a shift of all answers to one side.
        sd: standard deviation of the signed difference.
        quantiles: of the signed difference: smallest, first quartile, median, third quartile, largest.
    """

    max_abs: float | None
    p99_abs: float | None
    mean_abs: float | None
    mean: float | None
    sd: float | None
    quantiles: tuple[float, ...] | None = None

    @classmethod
    def of(cls, dp: FloatArray) -> Differences:
        """Summary of an array of differences of any shape; values that are not finite are left out."""
        known = dp[np.isfinite(dp)]
        if not known.size:
            return cls(None, None, None, None, None)
        size = np.abs(known)
        return cls(
            float(size.max()),
            float(np.percentile(size, 99)),
            float(size.mean()),
            float(known.mean()),
            float(known.std()),
            tuple(float(value) for value in np.percentile(known, [0, 25, 50, 75, 100])),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "max_abs_dp": self.max_abs,
            "p99_abs_dp": self.p99_abs,
            "mean_abs_dp": self.mean_abs,
            "mean_dp": self.mean,
            "sd_dp": self.sd,
            "quantiles_dp": None if self.quantiles is None else list(self.quantiles),
        }


@dataclass(frozen=True)
class LogitDifference:
    """The largest difference of a logit.

    Attributes:
        size: |engine - reference| divided by :func:`molre_edge.parity.logits.saturation` of the reference.
        scan: index of the volume.
        reference: logit of the reference.
        engine: logit of the engine.
    """

    size: float
    scan: int
    reference: float
    engine: float


@dataclass(frozen=True)
class Flip:
    """A decision that changed: reference and engine lie on two sides of the threshold.

    Attributes:
        scan: index of the volume.
        finding: index of the finding.
        reference: probability of the reference.
        engine: probability of the engine.
        threshold: a probability; the decision is positive at or above it.
        distance: to the threshold, of the logit that is farther from it, divided by the saturation of the threshold's
            logit.
        tied: the reference lies on the threshold, as far as float32 can tell, so that any rounding may flip it.
    """

    scan: int
    finding: int
    reference: float
    engine: float
    threshold: float
    distance: float
    tied: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "scan": self.scan,
            "reference": self.reference,
            "engine": self.engine,
            "distance_logit": self.distance,
            "tied": self.tied,
        }


@dataclass(frozen=True)
class FindingNumbers:
    """One finding over all scans.

    Attributes:
        finding: its name.
        threshold: its decision threshold, a probability.
        dp: engine minus reference, as probabilities.
        logit: the largest difference of a logit; ``None`` if no pair of finite values exists.
        flips: decisions that changed.
        auc: of both, if the labels allow it.
        decisions: sensitivity and specificity of both; ``None`` without labels.
    """

    finding: str
    threshold: float
    dp: Differences
    logit: LogitDifference | None
    flips: tuple[Flip, ...]
    auc: AucComparison | None
    decisions: Decisions | None = None

    @property
    def labelled(self) -> bool:
        """Whether a label of this finding is known."""
        return self.decisions is not None and self.decisions.positives + self.decisions.negatives > 0

    @property
    def few_cases(self) -> bool:
        """Whether it has labels, but fewer than :data:`FEW_CASES` scans with the finding or without it."""
        known = self.decisions
        return known is not None and self.labelled and min(known.positives, known.negatives) < FEW_CASES

    @property
    def marks(self) -> tuple[str, ...]:
        """What makes the figures from labels weak, in words: ``few cases``, ``near chance``."""
        near = self.auc is not None and self.auc.near_chance
        return (*(["few cases"] if self.few_cases else []), *(["near chance"] if near else []))

    def beyond(self, limits: ParityLimits) -> bool:
        """Whether a difference of this finding alone, as a probability or as a logit, breaks its limit."""
        sizes = (
            (self.dp.max_abs, limits.max_abs_dp),
            (self.logit.size if self.logit else None, limits.max_abs_dlogit),
        )
        return any(size is not None and limit is not None and size > limit for size, limit in sizes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "finding": self.finding,
            "words": finding_words(self.finding),
            "threshold": self.threshold,
            **self.dp.to_dict(),
            "max_abs_dlogit": self.logit.size if self.logit else None,
            "flips": [flip.to_dict() for flip in self.flips],
            "auc": self.auc.to_dict() if self.auc else None,
            "decisions": self.decisions.to_dict() if self.decisions else None,
            "marks": list(self.marks),
        }


@dataclass(frozen=True, eq=False)
class GateNumbers:
    """The routers' gates of both.

    Attributes:
        slices: gate vectors per router along a volume (1 when a volume has one).
        routers: number of routers.
        experts: number of experts, K.
        l1: float64 (n, routers), L1 distance between the gate vectors (sum over experts), the largest over slices;
            nan where a value is not finite.
        leader_changes: gate vectors whose largest entry moved to another expert.
        leader_total: gate vectors compared: n * slices * routers, without those that are not finite in both.
        leader_moves: int64 (routers, experts), those that moved by the expert that leads in the reference.
        leader_margin: of those that changed, the largest lead that the reference's first expert had over its second;
            ``None`` without a change. A small margin means that the reference itself was undecided.
        mean_reference: float64 (routers, experts), mean gate over volumes and slices.
        mean_engine: the same for the engine.
        spread_reference: largest L1 distance between gate vectors of two volumes at the same slice and router, each
            compared with the first volume: how much routing depends on the scan. ``None`` for a single volume.
        spread_engine: the same for the engine.
    """

    slices: int
    routers: int
    experts: int
    l1: _F64
    leader_changes: int
    leader_total: int
    leader_moves: npt.NDArray[np.int64]
    leader_margin: float | None
    mean_reference: _F64
    mean_engine: _F64
    spread_reference: float | None
    spread_engine: float | None

    @property
    def max_l1(self) -> float | None:
        """The largest L1 distance over volumes, slices and routers."""
        return largest(self.l1)

    @property
    def leader_fraction(self) -> float | None:
        """Gate vectors with another leading expert, as a fraction of those compared."""
        return self.leader_changes / self.leader_total if self.leader_total else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "slices": self.slices,
            "routers": self.routers,
            "experts": self.experts,
            "max_l1": self.max_l1,
            "max_l1_per_scan": [largest(row) for row in self.l1],
            "max_l1_per_router": [largest(column) for column in self.l1.T],
            "leader_changes": self.leader_changes,
            "leader_total": self.leader_total,
            "leader_fraction": self.leader_fraction,
            "leader_moves": self.leader_moves.tolist(),
            "leader_margin": self.leader_margin,
            "mean_reference": _finite(self.mean_reference),
            "mean_engine": _finite(self.mean_engine),
            "spread_reference": self.spread_reference,
            "spread_engine": self.spread_engine,
        }


@dataclass(frozen=True)
class NonFinite:
    """NaN or infinity in an output of one volume.

    Attributes:
        side: whose output.
        output: ``logits``, ``embedding``, ``gates`` or ``attention``.
        scan: index of the volume.
        count: values that are not finite.
        findings: for logits, the findings concerned.
    """

    side: Side
    output: str
    scan: int
    count: int
    findings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "findings": list(self.findings)}


@dataclass(frozen=True)
class PairNumbers:
    """How often a finding is likelier than the one that it implies, over all scans.

    Attributes:
        child: the finding.
        parent: the finding that it implies.
        reference: scans where the child is likelier, in the reference.
        engine: the same in the engine.
        changed: scans where only one of the two has it so.
    """

    child: str
    parent: str
    reference: int
    engine: int
    changed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "child": self.child,
            "parent": self.parent,
            "violations_reference": self.reference,
            "violations_engine": self.engine,
            "changed": self.changed,
        }


@dataclass(frozen=True)
class WorstScan:
    """A scan in the ranking: first scans with values that are not finite, then by the largest difference of a logit.

    Attributes:
        scan: index of the volume.
        finite: whether all of its values are finite, in the reference and in the engine.
        max_abs_dp: its largest |dp|.
        max_abs_dlogit: its largest difference of a logit.
        finding: index of the finding with that difference of a logit.
        flips: its decisions that changed.
        cosine: of its embeddings.
        routing_l1: its largest L1 distance between gate vectors; ``None`` without gates.
        attention_l1: L1 distance between its weights of the slices; ``None`` without attention.
    """

    scan: int
    finite: bool
    max_abs_dp: float | None
    max_abs_dlogit: float | None
    finding: int | None
    flips: int
    cosine: float | None
    routing_l1: float | None
    attention_l1: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class ParityNumbers:
    """Everything measured between reference and engine. Scans and findings are indices into what was compared.

    Attributes:
        n: volumes compared.
        per_finding: one entry a finding, in the order of the model's outputs.
        dp: engine minus reference over all scans and findings.
        cosine: float64 (n,), cosine of the embeddings; nan where a value is not finite.
        gates: ``None`` for a model without experts.
        consistency: one entry a (child, parent) pair of findings.
        worst: the worst scans first, at most ten.
        nonfinite: NaN and infinities found.
        labelled: whether labels were given.
        only_logits: the reference gave neither embedding nor gates, so those are not compared.
        attention: ``None`` where one of both gave none.
        attention_of: who gave attention over slices.
    """

    n: int
    per_finding: tuple[FindingNumbers, ...]
    dp: Differences
    cosine: _F64
    gates: GateNumbers | None
    consistency: tuple[PairNumbers, ...]
    worst: tuple[WorstScan, ...]
    nonfinite: tuple[NonFinite, ...]
    labelled: bool
    only_logits: bool = False
    attention: AttentionNumbers | None = None
    attention_of: tuple[Side, ...] = ()

    @property
    def scan_findings(self) -> int:
        """Decisions compared: scans times findings."""
        return self.n * len(self.per_finding)

    @property
    def flips(self) -> tuple[Flip, ...]:
        """All decisions that changed, by finding, then by scan."""
        return tuple(flip for finding in self.per_finding for flip in finding.flips)

    @property
    def untied_flips(self) -> tuple[Flip, ...]:
        """Flips of decisions whose reference does not lie on the threshold."""
        return tuple(flip for flip in self.flips if not flip.tied)

    def flips_beyond(self, margin: float) -> tuple[Flip, ...]:
        """Flips where the logit of the reference or of the engine is farther than `margin` from the threshold's."""
        return tuple(flip for flip in self.flips if flip.distance > margin)

    @property
    def worst_logit(self) -> tuple[str, LogitDifference] | None:
        """The finding with the largest difference of a logit, and that difference."""
        known = [(each.finding, each.logit) for each in self.per_finding if each.logit is not None]
        return max(known, key=lambda each: each[1].size, default=None)

    @property
    def max_abs_dlogit(self) -> float | None:
        """The largest difference of a logit over all scans and findings."""
        return self.worst_logit[1].size if self.worst_logit else None

    @property
    def min_cosine(self) -> float | None:
        """The smallest cosine over the volumes."""
        known = self.cosine[np.isfinite(self.cosine)]
        return float(known.min()) if known.size else None

    @property
    def inconsistent_reference(self) -> int:
        """Scans times pairs where the child is likelier than its parent, in the reference."""
        return sum(pair.reference for pair in self.consistency)

    @property
    def inconsistent_engine(self) -> int:
        """The same in the engine."""
        return sum(pair.engine for pair in self.consistency)

    @property
    def aucs(self) -> tuple[tuple[str, AucComparison], ...]:
        """(finding, comparison) for the findings whose labels allow one."""
        return tuple((each.finding, each.auc) for each in self.per_finding if each.auc)

    @property
    def mean_auc_reference(self) -> float | None:
        """Mean AUC of the reference over :attr:`aucs`."""
        return _mean([each.reference for _, each in self.aucs])

    @property
    def mean_auc_engine(self) -> float | None:
        """Mean AUC of the engine over :attr:`aucs`."""
        return _mean([each.engine for _, each in self.aucs])

    @property
    def mean_auc_drop(self) -> float | None:
        """Mean of reference minus engine; positive when the engine is worse."""
        return _mean([each.drop for _, each in self.aucs])

    @property
    def max_finding_auc_drop(self) -> float | None:
        """Reference minus engine of the finding that lost most."""
        return max((each.drop for _, each in self.aucs), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without NaN or infinity."""
        return {
            "n": self.n,
            "scan_findings": self.scan_findings,
            **self.dp.to_dict(),
            "max_abs_dlogit": self.max_abs_dlogit,
            "flips": len(self.flips),
            "tied_flips": len(self.flips) - len(self.untied_flips),
            "min_cosine": self.min_cosine,
            "cosine": _finite(self.cosine),
            "gates": self.gates.to_dict() if self.gates else None,
            "attention": self.attention.to_dict() if self.attention else None,
            "auc": {
                "labelled": self.labelled,
                "findings": len(self.aucs),
                "mean_reference": self.mean_auc_reference,
                "mean_engine": self.mean_auc_engine,
                "mean_drop": self.mean_auc_drop,
                "max_finding_drop": self.max_finding_auc_drop,
            },
            "consistency": {
                "pairs": len(self.consistency),
                "compared": len(self.consistency) * self.n,
                "violations_reference": self.inconsistent_reference,
                "violations_engine": self.inconsistent_engine,
                "per_pair": [pair.to_dict() for pair in self.consistency],
            },
            "worst_scans": [scan.to_dict() for scan in self.worst],
            "nonfinite": [each.to_dict() for each in self.nonfinite],
            "per_finding": [finding.to_dict() for finding in self.per_finding],
        }


def largest(values: _F64) -> float | None:
    """The largest finite value of an array of any shape, or ``None``."""
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else None


def _mean(values: list[float]) -> float | None:
    """The mean, or ``None`` of nothing."""
    return float(np.mean(values)) if values else None


def _finite(values: _F64) -> list[Any]:
    """Nested lists with ``None`` for what is not finite."""
    return [_finite(row) if isinstance(row, np.ndarray) else float(row) if np.isfinite(row) else None for row in values]
