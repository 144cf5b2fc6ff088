"""The judgement of a graph: its comparisons with the reference, and the reason why it fails."""

from __future__ import annotations

from dataclasses import dataclass

from molre_edge.parity import Check, ParityNumbers, Verdict

__all__ = ["Comparison", "Judgement"]

_WORST = 3  # findings in a sentence


@dataclass(frozen=True, eq=False)
class Comparison:
    """One comparison of a graph with the reference.

    Attributes:
        what: the volumes and the mode, in words.
        reference: the source of the reference's answers, in words.
        numbers: the measured differences.
        verdict: by the limits that apply to this comparison.
    """

    what: str
    reference: str
    numbers: ParityNumbers
    verdict: Verdict

    @property
    def failed(self) -> bool:
        """Whether a limit is exceeded. A comparison in which nothing can be judged does not fail."""
        return bool(self.verdict.failed)


@dataclass(frozen=True, eq=False)
class Judgement:
    """All comparisons of a graph. It passes if none fails and at least one was judged."""

    comparisons: tuple[Comparison, ...]

    @property
    def passed(self) -> bool:
        """Whether the graph keeps the limits."""
        return not any(each.failed for each in self.comparisons) and any(
            each.verdict.passed for each in self.comparisons
        )

    @property
    def failure(self) -> str:
        """Why the graph fails, with the limits and the worst findings; empty for one that passes."""
        if self.passed:
            return ""
        failed = next((each for each in self.comparisons if each.failed), None)
        if failed is None:
            return "no limit could be judged"
        reasons = "; ".join(f"{check.text} (limit here {_limit(check)})" for check in failed.verdict.failed)
        ranked = sorted(failed.numbers.per_finding, key=lambda each: -(each.dp.max_abs or 0.0))[:_WORST]
        worst = ", ".join(f"{each.finding} ({each.dp.max_abs or 0.0:.3f})" for each in ranked)
        return f"{reasons} on {failed.what}, compared with {failed.reference}; worst findings {worst}"


def _limit(check: Check) -> str:
    if check.limit is None:
        return "none"
    return f"{check.limit:.2%}" if check.name == "flips" else f"{check.limit:.4g}"
