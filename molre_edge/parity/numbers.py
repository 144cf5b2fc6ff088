"""Measuring: reference and engine on the same volumes, in numbers and without an opinion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from molre_edge.findings import parents_of
from molre_edge.parity.auc import AucComparison, compare_auc
from molre_edge.parity.outputs import FloatArray, Outputs, ParityError

__all__ = [
    "Differences",
    "FindingNumbers",
    "Flip",
    "GateNumbers",
    "NonFinite",
    "ParityNumbers",
    "WorstScan",
    "compare",
]

Side = Literal["reference", "engine"]
_F64 = npt.NDArray[np.float64]

_WORST = 10  # scans named as the worst


@dataclass(frozen=True)
class Differences:
    """Engine minus reference, as probabilities. ``None`` where no pair of finite values exists.

    Attributes:
        max_abs: largest absolute difference.
        p99_abs: 99th percentile of it.
        mean_abs: mean of it.
        mean: mean signed difference: a shift of all answers to one side.
        sd: standard deviation of the signed difference.
    """

    max_abs: float | None
    p99_abs: float | None
    mean_abs: float | None
    mean: float | None
    sd: float | None

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
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "max_abs_dp": self.max_abs,
            "p99_abs_dp": self.p99_abs,
            "mean_abs_dp": self.mean_abs,
            "mean_dp": self.mean,
            "sd_dp": self.sd,
        }


@dataclass(frozen=True)
class Flip:
    """A decision that changed: reference and engine lie on two sides of the threshold.

    Attributes:
        scan: index of the volume.
        finding: index of the finding.
        reference: probability of the reference.
        engine: probability of the engine.
        threshold: decided positive at or above it.
    """

    scan: int
    finding: int
    reference: float
    engine: float
    threshold: float

    @property
    def distance(self) -> float:
        """Distance to the threshold of whichever probability is farther from it."""
        return max(abs(self.reference - self.threshold), abs(self.engine - self.threshold))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"scan": self.scan, "reference": self.reference, "engine": self.engine, "distance": self.distance}


@dataclass(frozen=True)
class FindingNumbers:
    """One finding over all scans.

    Attributes:
        finding: its name.
        threshold: its decision threshold, a probability.
        dp: engine minus reference.
        flips: decisions that changed.
        auc: of both, where the labels allow it.
    """

    finding: str
    threshold: float
    dp: Differences
    flips: tuple[Flip, ...]
    auc: AucComparison | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "finding": self.finding,
            "threshold": self.threshold,
            **self.dp.to_dict(),
            "flips": [flip.to_dict() for flip in self.flips],
            "auc": self.auc.to_dict() if self.auc else None,
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
        leader_total: gate vectors compared: n * slices * routers.
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
    leader_margin: float | None
    mean_reference: _F64
    mean_engine: _F64
    spread_reference: float | None
    spread_engine: float | None

    @property
    def max_l1(self) -> float | None:
        """The largest L1 distance over volumes, slices and routers."""
        return _max(self.l1)

    @property
    def leader_fraction(self) -> float:
        """Gate vectors with another leading expert, as a fraction of all."""
        return self.leader_changes / self.leader_total

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "slices": self.slices,
            "routers": self.routers,
            "experts": self.experts,
            "max_l1": self.max_l1,
            "max_l1_per_scan": [_max(row) for row in self.l1],
            "max_l1_per_router": [_max(column) for column in self.l1.T],
            "leader_changes": self.leader_changes,
            "leader_total": self.leader_total,
            "leader_fraction": self.leader_fraction,
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
        output: ``logits``, ``embedding`` or ``gates``.
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
        return {
            "side": self.side,
            "output": self.output,
            "scan": self.scan,
            "count": self.count,
            "findings": list(self.findings),
        }


@dataclass(frozen=True)
class WorstScan:
    """A scan, for the ranking: those with values that are not finite first, then by their largest |dp|.

    Attributes:
        scan: index of the volume.
        finite: whether all of its values are finite, in the reference and in the engine.
        max_abs_dp: its largest |dp|, and
        finding: the index of the finding it belongs to.
        flips: its decisions that changed.
        cosine: of its embeddings.
        gate_l1: its largest L1 distance between gate vectors; ``None`` without gates.
    """

    scan: int
    finite: bool
    max_abs_dp: float | None
    finding: int | None
    flips: int
    cosine: float | None
    gate_l1: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "scan": self.scan,
            "finite": self.finite,
            "max_abs_dp": self.max_abs_dp,
            "finding": self.finding,
            "flips": self.flips,
            "cosine": self.cosine,
            "gate_l1": self.gate_l1,
        }


@dataclass(frozen=True, eq=False)
class ParityNumbers:
    """Everything measured between reference and engine. Scans and findings are indices into what was compared.

    Attributes:
        n: volumes compared.
        per_finding: one entry a finding, in the order of the model's outputs.
        dp: engine minus reference over all scans and findings.
        cosine: float64 (n,), cosine of the embeddings; nan where a value is not finite.
        gates: ``None`` for a model without experts.
        pairs: (child, parent) pairs of findings, each compared on every scan.
        inconsistent_reference: scans times pairs where the child is likelier than its parent, in the reference.
        inconsistent_engine: the same in the engine.
        worst: the worst scans first, at most ten.
        nonfinite: NaN and infinities found.
        labelled: whether labels were given.
    """

    n: int
    per_finding: tuple[FindingNumbers, ...]
    dp: Differences
    cosine: _F64
    gates: GateNumbers | None
    pairs: int
    inconsistent_reference: int
    inconsistent_engine: int
    worst: tuple[WorstScan, ...]
    nonfinite: tuple[NonFinite, ...]
    labelled: bool

    @property
    def scan_findings(self) -> int:
        """Decisions compared: scans times findings."""
        return self.n * len(self.per_finding)

    @property
    def flips(self) -> tuple[Flip, ...]:
        """All decisions that changed, by finding, then by scan."""
        return tuple(flip for finding in self.per_finding for flip in finding.flips)

    def flips_beyond(self, margin: float) -> tuple[Flip, ...]:
        """Flips where either probability is farther than `margin` from the threshold; all of them for 0."""
        return tuple(flip for flip in self.flips if flip.distance > margin)

    @property
    def min_cosine(self) -> float | None:
        """The smallest cosine over the volumes."""
        known = self.cosine[np.isfinite(self.cosine)]
        return float(known.min()) if known.size else None

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
            "flips": len(self.flips),
            "min_cosine": self.min_cosine,
            "cosine": _finite(self.cosine),
            "gates": self.gates.to_dict() if self.gates else None,
            "auc": {
                "labelled": self.labelled,
                "findings": len(self.aucs),
                "mean_reference": self.mean_auc_reference,
                "mean_engine": self.mean_auc_engine,
                "mean_drop": self.mean_auc_drop,
                "max_finding_drop": self.max_finding_auc_drop,
            },
            "consistency": {
                "pairs": self.pairs,
                "compared": self.pairs * self.n,
                "violations_reference": self.inconsistent_reference,
                "violations_engine": self.inconsistent_engine,
            },
            "worst_scans": [scan.to_dict() for scan in self.worst],
            "nonfinite": [each.to_dict() for each in self.nonfinite],
            "per_finding": [finding.to_dict() for finding in self.per_finding],
        }


def compare(
    reference: Outputs,
    engine: Outputs,
    *,
    findings: Sequence[str],
    thresholds: FloatArray,
    labels: FloatArray | None = None,
) -> ParityNumbers:
    """Compare an engine with the reference on the same volumes.

    Args:
        reference: outputs of the reference, n volumes.
        engine: outputs of the engine for the same volumes in the same order.
        findings: names, in the order of the model's outputs.
        thresholds: float (findings,), probabilities; a decision is positive at or above its threshold.
        labels: float (n, findings): 1 with the finding, 0 without, nan unknown.

    Returns:
        Numbers without an opinion. Values that are not finite are listed and left out of the statistics.

    Raises:
        ParityError: there is no volume, or the shapes don't match, or a threshold or label has an impossible value.
    """
    names = tuple(findings)
    limits, truth = _checked(reference, engine, names, thresholds, labels)
    p_reference, p_engine = reference.probabilities, engine.probabilities
    finite = np.isfinite(reference.logits) & np.isfinite(engine.logits)  # (n, findings)
    dp = np.where(finite, p_engine - p_reference, np.nan)
    flipped = finite & ((p_reference >= limits) != (p_engine >= limits))
    per_finding = tuple(
        FindingNumbers(
            finding=name,
            threshold=float(limits[j]),
            dp=Differences.of(dp[:, j]),
            flips=tuple(
                Flip(int(i), j, float(p_reference[i, j]), float(p_engine[i, j]), float(limits[j]))
                for i in np.flatnonzero(flipped[:, j])
            ),
            auc=None if truth is None else _auc(reference.logits[:, j], engine.logits[:, j], truth[:, j]),
        )
        for j, name in enumerate(names)
    )
    cosine = _cosine(reference.embedding, engine.embedding)
    gates = _gates(reference.gates, engine.gates)
    nonfinite = (*_nonfinite("reference", reference, names), *_nonfinite("engine", engine, names))
    pairs = parents_of(names)
    return ParityNumbers(
        n=len(reference),
        per_finding=per_finding,
        dp=Differences.of(dp),
        cosine=cosine,
        gates=gates,
        pairs=len(pairs),
        inconsistent_reference=_inconsistent(reference.logits, pairs),
        inconsistent_engine=_inconsistent(engine.logits, pairs),
        worst=_worst(dp, flipped, cosine, gates, {each.scan for each in nonfinite}),
        nonfinite=nonfinite,
        labelled=truth is not None,
    )


def _checked(
    reference: Outputs,
    engine: Outputs,
    names: tuple[str, ...],
    thresholds: FloatArray,
    labels: FloatArray | None,
) -> tuple[_F64, _F64 | None]:
    """Refuse what can't be compared; returns thresholds and labels as float64."""
    if not len(reference) or not len(engine):
        raise ParityError("No volumes to compare: expected at least one that both reference and engine answered")
    for name in ("logits", "embedding", "gates"):
        ours, theirs = getattr(reference, name), getattr(engine, name)
        shapes = tuple("none" if array is None else str(array.shape) for array in (ours, theirs))
        if shapes[0] != shapes[1]:
            raise ParityError(
                f"Output '{name}': the reference has shape {shapes[0]}, the engine {shapes[1]}. "
                "Compare an engine with the checkpoint that it was exported from, on the same volumes"
            )
    if reference.logits.shape[1] != len(names):
        raise ParityError(f"Expected {reference.logits.shape[1]} findings as in logits, got {len(names)} names")
    limits = np.asarray(thresholds, dtype=np.float64)
    if limits.shape != (len(names),):
        raise ParityError(f"Thresholds: expected shape ({len(names)},), one a finding, got {limits.shape}")
    if not np.all((limits >= 0) & (limits <= 1)):
        raise ParityError("Thresholds: expected probabilities from 0 to 1")
    if labels is None:
        return limits, None
    truth = np.asarray(labels, dtype=np.float64)
    if truth.shape != reference.logits.shape:
        raise ParityError(f"Labels: expected shape {reference.logits.shape} as logits, got {truth.shape}")
    if not np.all(np.isnan(truth) | (truth == 0) | (truth == 1)):
        raise ParityError("Labels: expected 0, 1 or nan (unknown)")
    return limits, truth


def _auc(reference: FloatArray, engine: FloatArray, truth: _F64) -> AucComparison | None:
    """AUC from logits, which order scans as probabilities do but don't saturate; (n,) each."""
    known = ~np.isnan(truth)
    if not (np.isfinite(reference[known]).all() and np.isfinite(engine[known]).all()):
        return None
    return compare_auc(reference[known], engine[known], truth[known] == 1)


def _cosine(reference: FloatArray, engine: FloatArray) -> _F64:
    """Cosine of two embeddings per volume, (n, d) -> float64 (n,): 1 for two zero vectors, 0 when one is zero.

    As 1 - |a - b|^2 / 2 of the unit vectors, which keeps its digits near 1 where the product loses them.
    """
    finite = np.isfinite(reference).all(axis=1) & np.isfinite(engine).all(axis=1)
    cosine = np.full(len(reference), np.nan)
    for i in np.flatnonzero(finite):
        a, b = reference[i].astype(np.float64), engine[i].astype(np.float64)
        length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
        if length_a == 0 or length_b == 0:
            cosine[i] = float(length_a == length_b)
        else:
            cosine[i] = max(-1.0, 1.0 - float(np.sum((a / length_a - b / length_b) ** 2)) / 2.0)
    return cosine


def _gates(reference: FloatArray | None, engine: FloatArray | None) -> GateNumbers | None:
    """Compare gates (n, slices or 1, routers, experts)."""
    if reference is None or engine is None or not reference[0].size:
        return None
    a, b = reference.astype(np.float64), engine.astype(np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf; reported as not finite
        apart = np.abs(b - a).sum(axis=-1)  # (n, slices, routers)
    apart[~np.isfinite(apart)] = np.nan
    changed = np.isfinite(apart) & (a.argmax(axis=-1) != b.argmax(axis=-1))
    lead = np.zeros(0)
    if changed.any():
        lead = np.diff(np.sort(a[changed], axis=-1)[:, -2:], axis=-1)
    return GateNumbers(
        slices=a.shape[1],
        routers=a.shape[2],
        experts=a.shape[3],
        l1=apart.max(axis=1),
        leader_changes=int(changed.sum()),
        leader_total=int(apart.size),
        leader_margin=_max(lead),
        mean_reference=_mean_gates(a),
        mean_engine=_mean_gates(b),
        spread_reference=_spread(a),
        spread_engine=_spread(b),
    )


def _mean_gates(gates: _F64) -> _F64:
    """Mean over volumes and slices, (n, slices, routers, experts) -> (routers, experts); nan where not finite."""
    with np.errstate(invalid="ignore"):
        mean: _F64 = gates.mean(axis=(0, 1))
    return np.where(np.isfinite(mean), mean, np.nan)


def _spread(gates: _F64) -> float | None:
    """Largest L1 distance from the first volume's gate vectors, (n, slices, routers, experts)."""
    if len(gates) < 2:
        return None
    with np.errstate(invalid="ignore"):
        return _max(np.abs(gates[1:] - gates[:1]).sum(axis=-1))


def _inconsistent(logits: FloatArray, pairs: tuple[tuple[int, int], ...]) -> int:
    """Scans times (child, parent) pairs where the child is likelier than its parent; logits (n, findings)."""
    return sum(int((logits[:, child] > logits[:, parent]).sum()) for child, parent in pairs)


def _nonfinite(side: Side, outputs: Outputs, names: tuple[str, ...]) -> list[NonFinite]:
    """NaN and infinities per output and volume."""
    found = []
    for output in ("logits", "embedding", "gates"):
        array = getattr(outputs, output)
        if array is None:
            continue
        bad = ~np.isfinite(array.reshape(len(array), -1))
        for scan in np.flatnonzero(bad.any(axis=1)):
            which = tuple(names[j] for j in np.flatnonzero(bad[scan])) if output == "logits" else ()
            found.append(NonFinite(side, output, int(scan), int(bad[scan].sum()), which))
    return found


def _worst(
    dp: _F64, flipped: npt.NDArray[np.bool_], cosine: _F64, gates: GateNumbers | None, broken: set[int]
) -> tuple[WorstScan, ...]:
    """Rank the scans; dp and flipped (n, findings), cosine (n,)."""
    size = np.where(np.isfinite(dp), np.abs(dp), -1.0)  # (n, findings); -1 sorts below every difference
    top = size.max(axis=1)
    ranked = sorted(range(len(dp)), key=lambda i: (i not in broken, -top[i], i))[:_WORST]
    return tuple(
        WorstScan(
            scan=i,
            finite=i not in broken,
            max_abs_dp=float(top[i]) if top[i] >= 0 else None,
            finding=int(size[i].argmax()) if top[i] >= 0 else None,
            flips=int(flipped[i].sum()),
            cosine=float(cosine[i]) if np.isfinite(cosine[i]) else None,
            gate_l1=_max(gates.l1[i]) if gates else None,
        )
        for i in ranked
    )


def _max(values: _F64) -> float | None:
    """The largest finite value, or ``None``."""
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else None


def _mean(values: list[float]) -> float | None:
    """The mean, or ``None`` of nothing."""
    return float(np.mean(values)) if values else None


def _finite(values: _F64) -> list[Any]:
    """Nested lists with ``None`` for what is not finite."""
    return [_finite(row) if isinstance(row, np.ndarray) else float(row) if np.isfinite(row) else None for row in values]
