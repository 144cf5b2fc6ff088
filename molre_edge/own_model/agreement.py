"""Does the rebuild of a checkpoint answer as the user's own model did? Numbers by finding, and what they suggest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.bundle.golden_origin import OwnGolden
from molre_edge.errors import OwnModelError
from molre_edge.own_model.answers import OwnAnswers
from molre_edge.own_model.assignment import best_assignment
from molre_edge.own_model.rounded import LogitRange
from molre_edge.parity import Outputs, ParityLimits, ParityNumbers, Verdict, compare, judge
from molre_edge.parity.logits import logit_differences
from molre_edge.parity.outputs import sigmoid
from molre_edge.parity.whose import as_own_answers

__all__ = ["Agreement", "agree"]

_SHOWN = 10  # findings in a message
_ROUNDING = 1e-6  # of a threshold


@dataclass(frozen=True, eq=False)
class Agreement:
    """The rebuild of a checkpoint beside the user's own model, on the same scans.

    Attributes:
        answers: of the user's own model.
        scans: names, in the order of the volumes.
        reference: what engines are judged by: the own model's logits, and what else it gave; the rest of the rebuild.
        rebuild: of the checkpoint, on the same scans.
        ranges: logits that the own model's answers stand for, [scans, findings], in the checkpoint's order.
        numbers: rebuild minus own model.
        verdict: the rebuild, judged as a float32 engine is.
        limits: by which it was judged.
        order: for each finding of the checkpoint, the finding of the own model whose answers it gives, if another
            order of the findings makes both agree; else None.
        thresholds: (finding, the own model's threshold, the checkpoint's) of each one that differs, if it gave any.
    """

    answers: OwnAnswers
    scans: tuple[str, ...]
    reference: Outputs
    rebuild: Outputs
    ranges: LogitRange
    numbers: ParityNumbers
    verdict: Verdict
    limits: ParityLimits
    order: tuple[str, ...] | None
    thresholds: tuple[tuple[str, float, float], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the rebuild answers, and decides, as the own model did."""
        return self.verdict.passed and not self.thresholds

    @property
    def differing(self) -> tuple[int, ...]:
        """Findings outside the limits on |dp| or |dlogit|, the largest difference first, as indices."""
        limits = (self.limits.max_abs_dp, self.limits.max_abs_dlogit)
        found = []
        for place, each in enumerate(self.numbers.per_finding):
            sizes = (each.dp.max_abs or 0.0, each.logit.size if each.logit else 0.0)
            if any(limit is not None and size > limit for size, limit in zip(sizes, limits, strict=True)):
                found.append((sizes[1], place))
        return tuple(place for _, place in sorted(found, key=lambda each: (-each[0], each[1])))

    def golden(self, note: str) -> OwnGolden:
        """What a bundle says of these answers."""
        return OwnGolden(
            file=self.answers.file,
            sha256=self.answers.sha256,
            scans=len(self.scans),
            given=self.answers.given,
            outputs=self.answers.outputs,
            max_abs_dp=self.numbers.dp.max_abs or 0.0,
            max_abs_dlogit=self.numbers.max_abs_dlogit or 0.0,
            note=note,
        )

    def message(self) -> str:
        """What differs, for a person."""
        if self.verdict.passed:
            return "\n".join(["The checkpoint decides otherwise than your model.", *self._other_thresholds()])
        count, all_findings = len(self.differing), len(self.numbers.per_finding)
        lines = [
            f"The checkpoint, rebuilt by molre-edge, does not answer {self.verdict.reference}.",
            f"{count} of {all_findings} findings differ by more than the limits of {self.limits.name} allow "
            f"(|Δlogit| {_limit(self.limits.max_abs_dlogit)}, |Δp| {_limit(self.limits.max_abs_dp)}):",
        ]
        for place in self.differing[:_SHOWN]:
            each = self.numbers.per_finding[place]
            assert each.logit is not None
            lines.append(
                f"  {each.finding}: |Δlogit| up to {each.logit.size:.3g}, |Δp| up to {each.dp.max_abs or 0.0:.3g}; in "
                f"{self.scans[each.logit.scan]} your model's logit is {each.logit.reference:.4g}, the rebuild's "
                f"{each.logit.engine:.4g}"
            )
        if count > _SHOWN:
            lines.append(f"  and {count - _SHOWN} findings more")
        others = ("max_abs_dp", "max_abs_dlogit", "far_flips", "flips")
        lines += [f"  {check.name}: {check.text}" for check in self.verdict.failed if check.name not in others]
        lines += self._suggestion() + self._other_thresholds()
        return "\n".join(lines)

    def _other_thresholds(self) -> list[str]:
        shown = [f"{name} {own:g}, not {ours:g}" for name, own, ours in self.thresholds[:_SHOWN]]
        more = f", and {len(self.thresholds) - _SHOWN} more" if len(self.thresholds) > _SHOWN else ""
        return [f"Thresholds of your model differ from the checkpoint's: {'; '.join(shown)}{more}."] if shown else []

    def _suggestion(self) -> list[str]:
        names = tuple(each.finding for each in self.numbers.per_finding)
        if self.order is None:
            return []
        if self.order == names[::-1]:
            return ["The findings of the checkpoint are in reverse order: reversed, both answer alike."]
        moved = [
            f"{name} gives your model's answers of {own}"
            for name, own in zip(names, self.order, strict=True)
            if name != own
        ]
        more = f", and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        return [
            f"The findings of the checkpoint are in another order than your model's; in the right order both answer "
            f"alike: in the checkpoint, {'; '.join(moved[:_SHOWN])}{more}."
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``comparison.json``."""
        return {
            "passed": self.passed,
            "headline": self.verdict.headline,
            "answers": {"file": self.answers.file, "sha256": self.answers.sha256, "given": self.answers.given},
            "scans": list(self.scans),
            "limits": self.limits.to_dict(),
            "verdict": self.verdict.to_dict(),
            "findings": [
                {
                    "finding": each.finding,
                    "max_abs_dlogit": None if each.logit is None else each.logit.size,
                    "max_abs_dp": each.dp.max_abs,
                    "scan": None if each.logit is None else self.scans[each.logit.scan],
                    "your_logit": None if each.logit is None else each.logit.reference,
                    "rebuild_logit": None if each.logit is None else each.logit.engine,
                    "differs": place in self.differing,
                }
                for place, each in enumerate(self.numbers.per_finding)
            ],
            "your_findings_in_the_checkpoint_s_order": None if self.order is None else list(self.order),
            "thresholds": [{"finding": name, "yours": own, "checkpoint": ours} for name, own, ours in self.thresholds],
        }


def agree(
    answers: OwnAnswers,
    rebuild: Outputs,
    *,
    scans: Sequence[str],
    findings: Sequence[str],
    thresholds: npt.ArrayLike,
    limits: ParityLimits,
) -> Agreement:
    """Compare the rebuild of a checkpoint with the user's own model.

    Args:
        answers: of the own model.
        rebuild: of the checkpoint, for `scans`.
        scans: names, in the order of `rebuild`.
        findings: of the checkpoint, in its order.
        thresholds: of the findings, probabilities.
        limits: those of a float32 engine.

    Raises:
        OwnModelError: other scans, other findings, or other shapes.
    """
    rows = _places("scan", answers.file, answers.scans, scans)
    columns = _places("finding", answers.file, answers.findings, findings)
    ranges = answers.logits.rows(rows).columns(columns)
    parts = {}
    for name in ("embedding", "gates"):
        given, ours = getattr(answers, name), getattr(rebuild, name)
        parts[name] = ours if given is None else given[rows]
        if given is not None and (ours is None or parts[name].shape != ours.shape):
            wanted = "none, for the checkpoint has none" if ours is None else str(list(ours.shape))
            raise OwnModelError(f"{answers.file}: {name}: expected {wanted}, got {list(parts[name].shape)}")
    reference = Outputs(ranges.nearest(rebuild.logits), parts["embedding"], parts["gates"], rebuild.attention)
    numbers = compare(reference, rebuild, findings=findings, thresholds=np.asarray(thresholds))
    judged = replace(limits, max_attention_l1=None)  # an own model gives none: these are the rebuild's on both sides
    if answers.embedding is None:
        judged = replace(judged, min_cosine=None)
    if answers.gates is None:
        judged = replace(judged, max_routing_l1=None)
    verdict = judge(numbers, judged, as_own_answers(answers.file, len(scans), answers.given))
    order = None if verdict.passed else _order(ranges, rebuild, tuple(findings), limits)
    own = None if answers.thresholds is None else answers.thresholds[columns]
    others = _other_thresholds(own, np.asarray(thresholds, dtype=np.float64), findings)
    return Agreement(answers, tuple(scans), reference, rebuild, ranges, numbers, verdict, judged, order, others)


def _other_thresholds(
    own: npt.NDArray[np.float64] | None, ours: npt.NDArray[np.float64], findings: Sequence[str]
) -> tuple[tuple[str, float, float], ...]:
    """Finding, own threshold and the checkpoint's, where they differ by more than float32 rounds."""
    if own is None:
        return ()
    apart = np.flatnonzero(np.abs(own - ours) > _ROUNDING).tolist()
    return tuple((findings[place], float(own[place]), float(ours[place])) for place in apart)


def _places(what: str, file: str, there: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where each wanted name is.

    Raises:
        OwnModelError: the names are not the same.
    """
    known, asked = set(there), set(wanted)
    missing, unknown = [n for n in wanted if n not in known], [n for n in there if n not in asked]
    if missing or unknown:
        parts = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
        parts += [f"{len(unknown)} unknown ({_some(unknown)})"] if unknown else []
        near = get_close_matches(unknown[0], missing, n=1) if missing and unknown else []
        hint = f" Is '{unknown[0]}' '{near[0]}'?" if near else ""
        raise OwnModelError(
            f"{file}: expected the {len(wanted)} {what}s of the checkpoint's inputs by name, in any order; "
            f"{' and '.join(parts)}.{hint}"
        )
    index = {name: place for place, name in enumerate(there)}
    return [index[name] for name in wanted]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(name[:100] for name in names[:5]) + more


def _order(
    ranges: LogitRange, rebuild: Outputs, findings: tuple[str, ...], limits: ParityLimits
) -> tuple[str, ...] | None:
    """The own model's findings in the order in which the checkpoint gives their answers, if that makes both agree."""
    n = len(findings)
    costs = np.empty((n, n))
    for ours in range(n):
        column = np.repeat(rebuild.logits[:, ours : ours + 1], n, axis=1)
        costs[ours] = logit_differences(ranges.nearest(column), column).mean(axis=0)
    chosen = best_assignment(costs)
    expected = ranges.columns(chosen).nearest(rebuild.logits)
    dlogit = logit_differences(expected, rebuild.logits).max()
    dp = np.abs(sigmoid(expected) - sigmoid(rebuild.logits)).max()
    within = all(
        limit is None or size <= limit for size, limit in ((dlogit, limits.max_abs_dlogit), (dp, limits.max_abs_dp))
    )
    return tuple(findings[place] for place in chosen) if within and (chosen != np.arange(n)).any() else None


def _limit(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"
