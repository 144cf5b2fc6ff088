"""Judging: numbers against limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from molre_edge.findings import finding_words
from molre_edge.parity.limits import ParityLimits
from molre_edge.parity.logits import saturation
from molre_edge.parity.numbers import FEW_CASES, NonFinite, ParityNumbers
from molre_edge.parity.outputs import ParityError
from molre_edge.parity.text import cosine, percent, plain, rounded

__all__ = ["Check", "Verdict", "judge"]

_NAMED = 3  # examples in a sentence before "and N more"


@dataclass(frozen=True)
class Check:
    """One line of a verdict.

    Attributes:
        name: a stable word: ``finite``, ``max_abs_dp``, ``max_abs_dlogit``, ``far_flips``, ``flips``, ``cosine``,
            ``routing_l1``, ``attention_l1``, ``mean_auc_drop`` or ``finding_auc_drop``.
        measured: the value, ``None`` where there was nothing to measure.
        limit: what it may be at most (for ``cosine`` at least), ``None`` if there is none.
        passed: true only for a check that was judged and kept its limit.
        text: one sentence for people.
        judged: false if there is no limit or nothing to measure; such a check is not a pass.
    """

    name: str
    measured: float | None
    limit: float | None
    passed: bool
    text: str
    judged: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """The answer to "may this engine replace the reference, by these limits".

    Attributes:
        passed: every judged check passed, and at least one limit was judged.
        checks: all checks in a fixed order, including those that were not judged.
        reference: whose answers the reference's are, in the words of :mod:`molre_edge.parity.whose`; empty if not told.
    """

    passed: bool
    checks: tuple[Check, ...]
    reference: str = ""

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that were judged and broke their limit."""
        return tuple(check for check in self.checks if check.judged and not check.passed)

    @property
    def not_judged(self) -> tuple[Check, ...]:
        """Checks without a limit or without anything to measure."""
        return tuple(check for check in self.checks if not check.judged)

    @property
    def other_limits_can_help(self) -> bool:
        """Whether other limits could turn a failure into a pass. No limit allows NaN or infinity."""
        return bool(self.failed) and all(check.name != "finite" for check in self.failed)

    @property
    def headline(self) -> str:
        """The first line: passed or failed, and measured by whose answers."""
        word = "Parity passed" if self.passed else "Parity failed"
        return f"{word}: {self.whose}" if self.whose else word

    @property
    def whose(self) -> str:
        """The reference in words; for a verdict that failed, that the engine does not answer so."""
        return f"not {self.reference}" if self.reference and not self.passed else self.reference

    @property
    def summary(self) -> str:
        """One line: passed or failed, and how many checks were not judged."""
        judged = len(self.checks) - len(self.not_judged)
        if not self.passed and not self.failed:
            return f"failed: none of the limits could be judged, {len(self.not_judged)} checks not judged"
        words = (
            f"{'passed' if self.passed else 'failed'}: {judged - len(self.failed)} of {judged} checks kept their limits"
        )
        return words + (f", {len(self.not_judged)} not judged" if self.not_judged else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "headline": self.headline,
            "reference": self.reference,
            "passed": self.passed,
            "summary": self.summary,
            "checks": [check.to_dict() for check in self.checks],
        }


def judge(numbers: ParityNumbers, limits: ParityLimits, reference: str = "") -> Verdict:
    """Compare numbers with limits.

    Args:
        numbers: what was measured.
        limits: what is allowed.
        reference: whose answers the reference's are, in the words of :mod:`molre_edge.parity.whose`.

    Raises:
        ParityError: no volume was compared: nothing can pass on no evidence.
    """
    if numbers.n < 1:
        raise ParityError("No volumes were compared, so there is nothing to judge")
    checks = (
        _finite(numbers),
        _max_abs_dp(numbers, limits),
        _max_abs_dlogit(numbers, limits),
        _far_flips(numbers, limits),
        _flips(numbers, limits),
        _cosine(numbers, limits),
        _routing_l1(numbers, limits),
        _attention_l1(numbers, limits),
        _mean_auc(numbers, limits),
        _finding_auc(numbers, limits),
    )
    evidence = any(check.judged for check in checks[1:])  # finite values alone are no parity
    return Verdict(evidence and all(check.passed for check in checks if check.judged), checks, reference)


def _check(name: str, measured: float | None, limit: float | None, text: str, *, least: bool = False) -> Check:
    """A check, judged if it has a measured value and a limit."""
    if limit is None:
        told = "not judged: no limit is set" + (f"; {text}" if measured is not None else "")
        return Check(name, measured, None, False, told, judged=False)
    if measured is None:
        return Check(name, None, limit, False, text, judged=False)
    return Check(name, measured, limit, measured >= limit if least else measured <= limit, text)


def _finite(numbers: ParityNumbers) -> Check:
    count = sum(each.count for each in numbers.nonfinite)
    text = "every value of reference and engine is finite"
    if count:
        text = f"NaN or infinity in {_some([_where(each) for each in numbers.nonfinite])}"
    return Check("finite", float(count), 0.0, not count, text)


def _where(each: NonFinite) -> str:
    """``engine logits of volume 3 (midline_shift, mass_effect and 2 more)``; volumes counted from 1."""
    findings = f" ({_some([finding_words(name) for name in each.findings])})" if each.findings else ""
    return f"{each.side} {each.output} of volume {each.scan + 1}{findings}"


def _percent(count: int, total: int) -> str:
    return percent(count / total).replace("−", "-")


def _some(words: list[str]) -> str:
    rest = len(words) - _NAMED
    return ", ".join(words[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _max_abs_dp(numbers: ParityNumbers, limits: ParityLimits) -> Check:
    measured = numbers.dp.max_abs
    if measured is None:
        text = "not judged: no probability is finite in both"
    else:
        worst = max(numbers.per_finding, key=lambda each: -1.0 if each.dp.max_abs is None else each.dp.max_abs)
        shown = rounded(measured, limits.max_abs_dp)
        text = f"largest difference of a probability {shown}, in {finding_words(worst.finding)}"
    return _check("max_abs_dp", measured, limits.max_abs_dp, text)


def _max_abs_dlogit(numbers: ParityNumbers, limits: ParityLimits) -> Check:
    limit, worst = limits.max_abs_dlogit, numbers.worst_logit
    if worst is None:
        return _check("max_abs_dlogit", None, limit, "not judged: no logit is finite in both")
    finding, found = worst
    text = (
        f"largest difference of a logit {rounded(found.size, limit)}, in {finding_words(finding)}: "
        f"{plain(found.reference, 4)} in the reference, {plain(found.engine, 4)} in the engine"
    )
    wider = float(saturation(np.array(found.reference)))
    if wider > 1:
        text += f", a saturated logit, whose difference is divided by {wider:.3g}"
    return _check("max_abs_dlogit", found.size, limit, text)


def _far_flips(numbers: ParityNumbers, limits: ParityLimits) -> Check:
    flips, total = numbers.flips_beyond(limits.flip_margin_logit), numbers.scan_findings
    text = (
        f"{len(flips)} of {total} decisions flipped farther than {limits.flip_margin_logit:g} logits from the threshold"
    )
    if flips:
        worst = max(flips, key=lambda flip: flip.distance)
        finding = finding_words(numbers.per_finding[worst.finding].finding)
        text += (
            f" ({_percent(len(flips), total)}); the farthest in {finding}: p {plain(worst.reference)} in the "
            f"reference, {plain(worst.engine)} in the engine, threshold {plain(worst.threshold)}"
        )
    return _check("far_flips", len(flips) / total, limits.max_far_flips_fraction, text)


def _flips(numbers: ParityNumbers, limits: ParityLimits) -> Check:
    flips, total, limit = len(numbers.untied_flips), numbers.scan_findings, limits.max_flips_fraction
    text = f"{flips} of {total} decisions flipped at any distance from the threshold ({_percent(flips, total)})"
    tied = len(numbers.flips) - flips
    if tied:
        text += f", without {tied} whose reference lies on the threshold"
    if limit and limit * total < 1:
        limit = 1 / total
        text += "; with so few decisions, one may flip"
    return _check("flips", flips / total, limit, text)


def _cosine(numbers: ParityNumbers, limits: ParityLimits) -> Check:
    measured = numbers.min_cosine
    text = (
        "not judged: the reference gives no embedding"
        if numbers.only_logits
        else "not judged: no embedding is finite in both"
        if measured is None
        else f"smallest cosine of the embeddings {cosine(measured)}"
    )
    return _check("cosine", measured, limits.min_cosine, text, least=True)


def _routing_l1(numbers: ParityNumbers, limits: ParityLimits) -> Check:
    gates = numbers.gates
    if numbers.only_logits:
        text = "not judged: the reference gives no gates"
        return Check("routing_l1", None, limits.max_routing_l1, False, text, judged=False)
    if gates is None or gates.experts <= 1:
        why = "no experts" if gates is None else "a single expert"
        text = f"not judged: {why}, no routing to prove"
        return Check("routing_l1", None, limits.max_routing_l1, False, text, judged=False)
    measured = gates.max_l1
    if measured is None:
        return _check("routing_l1", None, limits.max_routing_l1, "not judged: no gate vector is finite in both")
    text = (
        f"largest L1 distance of gates {rounded(measured, limits.max_routing_l1)}; the leading expert changed in "
        f"{gates.leader_changes} of {gates.leader_total} gate vectors"
    )
    if gates.spread_reference is None:
        text += "; a single volume can't show that routing depends on the scan"
    elif limits.max_routing_l1 is not None and gates.spread_reference <= limits.max_routing_l1:
        text += (
            f"; the reference's own gates differ by only {plain(gates.spread_reference)} between these volumes, which "
            "is within the limit, so they can't show that routing depends on the scan"
        )
    return _check("routing_l1", measured, limits.max_routing_l1, text)


_NO_ATTENTION = {
    (): "neither gives attention over slices; 3D models have none, and graphs of earlier versions do not return it",
    ("reference",): "the engine gives no attention over slices; graphs of earlier versions do not return it",
    ("engine",): "the reference gives no attention over slices",
}
"""By who gives it."""


def _attention_l1(numbers: ParityNumbers, limits: ParityLimits) -> Check:
    attention, limit = numbers.attention, limits.max_attention_l1
    if attention is None:
        text = f"not judged: {_NO_ATTENTION[numbers.attention_of]}"
        return Check("attention_l1", None, limit, False, text, judged=False)
    if attention.max_l1 is None:
        return _check("attention_l1", None, limit, "not judged: no attention over slices is finite in both")
    text = (
        f"largest L1 distance of the attention over slices {rounded(attention.max_l1, limit)}; the slice with the most "
        f"attention changed in {attention.leader_changes} of {attention.leader_total} "
        f"volume{'' if attention.leader_total == 1 else 's'}"
    )
    return _check("attention_l1", attention.max_l1, limit, text)


def _no_auc(numbers: ParityNumbers) -> str:
    if not numbers.labelled:
        return "not judged: no labels"
    return "not judged: no finding has finite answers for two labelled scans with it and two without"


def _few(numbers: ParityNumbers) -> str:
    """How many of the AUCs rest on few cases."""
    few = sum(each.auc is not None and each.few_cases for each in numbers.per_finding)
    return f"; {few} of them with few cases (fewer than {FEW_CASES} with the finding or without it)" if few else ""


def _mean_auc(numbers: ParityNumbers, limits: ParityLimits) -> Check:
    measured = numbers.mean_auc_drop
    text = _no_auc(numbers)
    if measured is not None:
        text = (
            f"mean AUC of {len(numbers.aucs)} findings {numbers.mean_auc_reference:.4f} in the reference, "
            f"{numbers.mean_auc_engine:.4f} in the engine{_few(numbers)}"
        )
    return _check("mean_auc_drop", measured, limits.max_mean_auc_drop, text)


def _finding_auc(numbers: ParityNumbers, limits: ParityLimits) -> Check:
    measured = numbers.max_finding_auc_drop
    text = _no_auc(numbers)
    if measured is not None and measured <= 0:
        text = f"none of {len(numbers.aucs)} findings has a lower AUC in the engine{_few(numbers)}"
    elif measured is not None:
        name, auc = min(numbers.aucs, key=lambda each: each[1].difference)
        text = (
            f"{finding_words(name)} {auc.reference:.4f} in the reference, {auc.engine:.4f} in the engine "
            f"(95 % interval of the difference {auc.low:+.4f} to {auc.high:+.4f}), the largest drop of "
            f"{len(numbers.aucs)} findings{_few(numbers)}"
        )
    return _check("finding_auc_drop", measured, limits.max_finding_auc_drop, text)
