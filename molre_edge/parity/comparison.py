"""Measuring: reference and engine on the same volumes, in numbers and without an opinion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from molre_edge.findings import parents_of
from molre_edge.parity.attention import AttentionNumbers, compare_attention
from molre_edge.parity.auc import AucComparison, compare_auc
from molre_edge.parity.decisions import Decisions, decisions_of
from molre_edge.parity.logits import TIED, logit_differences, saturation, threshold_logits
from molre_edge.parity.numbers import (
    Differences,
    FindingNumbers,
    Flip,
    GateNumbers,
    LogitDifference,
    NonFinite,
    PairNumbers,
    ParityNumbers,
    Side,
    WorstScan,
    largest,
)
from molre_edge.parity.outputs import OUTPUT_NAMES, FloatArray, Outputs, ParityError, sigmoid

__all__ = ["compare", "embedding_cosines"]

_F64 = npt.NDArray[np.float64]
_WORST = 10  # scans named as the worst


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
        ParityError: there is no volume or no finding, or the shapes don't match, or a threshold or label has an
            impossible value.
    """
    names, only_logits = tuple(findings), reference.only_logits
    sides: tuple[tuple[Side, Outputs], ...] = (("reference", reference), ("engine", engine))
    attentive = tuple(name for name, side in sides if side.attention is not None)
    if only_logits:
        engine = Outputs(engine.logits, np.zeros((len(engine), 0)))
    cuts, truth = _checked(reference, engine, names, thresholds, labels)
    p_reference, p_engine = reference.probabilities, engine.probabilities
    finite = np.isfinite(reference.logits) & np.isfinite(engine.logits)  # (n, findings)
    dp = np.where(finite, p_engine - p_reference, np.nan)
    dlogit = logit_differences(reference.logits, engine.logits)
    decided = p_reference >= cuts, p_engine >= cuts
    flipped = finite & (decided[0] != decided[1])
    per_finding = tuple(
        FindingNumbers(
            finding=name,
            threshold=float(cuts[j]),
            dp=Differences.of(dp[:, j]),
            logit=_largest_logit(reference.logits[:, j], engine.logits[:, j], dlogit[:, j]),
            flips=_flips(reference, engine, flipped[:, j], j, float(cuts[j])),
            auc=None if truth is None else _auc(reference.logits[:, j], engine.logits[:, j], truth[:, j]),
            decisions=None if truth is None else _decisions(decided, finite, truth, j),
        )
        for j, name in enumerate(names)
    )
    cosine = embedding_cosines(reference.embedding, engine.embedding)
    gates = _gates(reference.gates, engine.gates)
    attention = compare_attention(reference.attention, engine.attention)
    nonfinite = (*_nonfinite("reference", reference, names), *_nonfinite("engine", engine, names))
    return ParityNumbers(
        n=len(reference),
        per_finding=per_finding,
        dp=Differences.of(dp),
        cosine=cosine,
        gates=gates,
        consistency=_consistency(reference.logits, engine.logits, names),
        worst=_worst(dp, dlogit, flipped, cosine, gates, attention, {each.scan for each in nonfinite}),
        nonfinite=nonfinite,
        labelled=truth is not None,
        only_logits=only_logits,
        attention=attention,
        attention_of=attentive,
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
    for name in OUTPUT_NAMES:
        ours, theirs = getattr(reference, name), getattr(engine, name)
        if name == "attention" and (ours is None or theirs is None):
            continue  # a graph exported before it was an output, or answers stored before that: not judged, and told
        shapes = tuple("none" if array is None else str(array.shape) for array in (ours, theirs))
        if shapes[0] != shapes[1]:
            raise ParityError(
                f"Output '{name}': the reference has shape {shapes[0]}, the engine {shapes[1]}. "
                "Compare an engine with the checkpoint that it was exported from, on the same volumes"
            )
    if not names:
        raise ParityError("No findings to compare: expected at least one")
    if reference.logits.shape[1] != len(names):
        raise ParityError(f"Expected {reference.logits.shape[1]} findings as in logits, got {len(names)} names")
    cuts = np.asarray(thresholds, dtype=np.float64)
    if cuts.shape != (len(names),):
        raise ParityError(f"Thresholds: expected shape ({len(names)},), one a finding, got {cuts.shape}")
    if not np.all((cuts >= 0) & (cuts <= 1)):
        raise ParityError("Thresholds: expected probabilities from 0 to 1")
    if labels is None:
        return cuts, None
    truth = np.asarray(labels, dtype=np.float64)
    if truth.shape != reference.logits.shape:
        raise ParityError(f"Labels: expected shape {reference.logits.shape} as logits, got {truth.shape}")
    if not np.all(np.isnan(truth) | (truth == 0) | (truth == 1)):
        raise ParityError("Labels: expected 0, 1 or nan (unknown)")
    return cuts, truth


def _largest_logit(reference: FloatArray, engine: FloatArray, dlogit: _F64) -> LogitDifference | None:
    """The largest difference of one finding; (n,) each."""
    known = np.flatnonzero(np.isfinite(dlogit))
    if not known.size:
        return None
    scan = int(known[dlogit[known].argmax()])
    return LogitDifference(float(dlogit[scan]), scan, float(reference[scan]), float(engine[scan]))


def _flips(
    reference: Outputs, engine: Outputs, flipped: npt.NDArray[np.bool_], finding: int, threshold: float
) -> tuple[Flip, ...]:
    """The flips of one finding; flipped (n,)."""
    scans = np.flatnonzero(flipped)
    if not scans.size:
        return ()
    cut = threshold_logits(np.array(threshold))
    pairs = [side.logits[scans, finding].astype(np.float64) for side in (reference, engine)]
    distances = np.maximum(*(np.abs(logits - cut) for logits in pairs)) / saturation(cut)
    tied = np.abs(pairs[0] - cut) <= TIED * saturation(cut)
    p_reference, p_engine = sigmoid(pairs[0]), sigmoid(pairs[1])
    return tuple(
        Flip(
            scan=int(scan),
            finding=finding,
            reference=float(p_reference[i]),
            engine=float(p_engine[i]),
            threshold=threshold,
            distance=float(distances[i]),
            tied=bool(tied[i]),
        )
        for i, scan in enumerate(scans)
    )


def _auc(reference: FloatArray, engine: FloatArray, truth: _F64) -> AucComparison | None:
    """AUC from logits, which order scans as probabilities do but don't saturate; (n,) each."""
    known = ~np.isnan(truth)
    if not (np.isfinite(reference[known]).all() and np.isfinite(engine[known]).all()):
        return None
    return compare_auc(reference[known], engine[known], truth[known] == 1)


def _decisions(
    decided: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]], finite: npt.NDArray[np.bool_], truth: _F64, j: int
) -> Decisions:
    """Of finding `j`, on the scans whose label is known and whose answers are finite; (n, findings) each."""
    known = ~np.isnan(truth[:, j]) & finite[:, j]
    return decisions_of(decided[0][known, j], decided[1][known, j], truth[known, j] == 1)


def embedding_cosines(reference: FloatArray, engine: FloatArray) -> _F64:
    """Cosine of two embeddings per volume, (n, d) -> float64 (n,): 1 for two zero vectors, 0 when one is zero.

    As 1 - |a - b|^2 / 2 of the unit vectors, which keeps its digits near 1 where the product loses them.
    """
    finite = np.isfinite(reference).all(axis=1) & np.isfinite(engine).all(axis=1)
    cosine = np.full(len(reference), np.nan)
    if not reference.shape[1]:
        return cosine
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
        leader_total=int(np.isfinite(apart).sum()),
        leader_moves=_leader_moves(a.argmax(axis=-1), changed, a.shape[3]),
        leader_margin=largest(lead),
        mean_reference=_mean_gates(a),
        mean_engine=_mean_gates(b),
        spread_reference=_spread(a),
        spread_engine=_spread(b),
    )


def _leader_moves(leader: npt.NDArray[np.intp], changed: npt.NDArray[np.bool_], experts: int) -> npt.NDArray[np.int64]:
    """Changes by router and the reference's leader; `leader` and `changed` (n, slices, routers)."""
    routers = leader.shape[2]
    moves = [np.bincount(leader[:, :, r][changed[:, :, r]], minlength=experts) for r in range(routers)]
    return np.array(moves, dtype=np.int64).reshape(routers, experts)


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
        return largest(np.abs(gates[1:] - gates[:1]).sum(axis=-1))


def _consistency(reference: FloatArray, engine: FloatArray, names: tuple[str, ...]) -> tuple[PairNumbers, ...]:
    """Where a child is likelier than its parent; logits (n, findings)."""
    found = []
    for child, parent in parents_of(names):
        ours, theirs = (logits[:, child] > logits[:, parent] for logits in (reference, engine))
        changed = int((ours != theirs).sum())
        found.append(PairNumbers(names[child], names[parent], int(ours.sum()), int(theirs.sum()), changed))
    return tuple(found)


def _nonfinite(side: Side, outputs: Outputs, names: tuple[str, ...]) -> list[NonFinite]:
    """NaN and infinities per output and volume."""
    found = []
    for output in OUTPUT_NAMES:
        array = getattr(outputs, output)
        if array is None:
            continue
        bad = ~np.isfinite(array.reshape(len(array), -1))
        for scan in np.flatnonzero(bad.any(axis=1)):
            which = tuple(names[j] for j in np.flatnonzero(bad[scan])) if output == "logits" else ()
            found.append(NonFinite(side, output, int(scan), int(bad[scan].sum()), which))
    return found


def _worst(
    dp: _F64,
    dlogit: _F64,
    flipped: npt.NDArray[np.bool_],
    cosine: _F64,
    gates: GateNumbers | None,
    attention: AttentionNumbers | None,
    broken: set[int],
) -> tuple[WorstScan, ...]:
    """Rank the scans; dp, dlogit and flipped (n, findings), cosine (n,)."""
    size = np.where(np.isfinite(dlogit), dlogit, -1.0)  # (n, findings); -1 sorts below every difference
    top = size.max(axis=1)
    top_dp = np.where(np.isfinite(dp), np.abs(dp), -1.0).max(axis=1)
    ranked = sorted(range(len(dp)), key=lambda i: (i not in broken, -top[i], i))[:_WORST]
    return tuple(
        WorstScan(
            scan=i,
            finite=i not in broken,
            max_abs_dp=float(top_dp[i]) if top_dp[i] >= 0 else None,
            max_abs_dlogit=float(top[i]) if top[i] >= 0 else None,
            finding=int(size[i].argmax()) if top[i] >= 0 else None,
            flips=int(flipped[i].sum()),
            cosine=float(cosine[i]) if np.isfinite(cosine[i]) else None,
            routing_l1=largest(gates.l1[i]) if gates else None,
            attention_l1=attention.per_scan[i] if attention else None,
        )
        for i in ranked
    )
