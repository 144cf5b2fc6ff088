"""Whether the runners of a benchmark answer rightly at the batch sizes that they are timed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.golden_origin import golden_words
from molre_edge.engines.batches import answer_alone, answer_in_batches
from molre_edge.engines.runner import Runner
from molre_edge.parity.batches import BatchAnswers, BatchJudgement, judge_batches
from molre_edge.verification.golden_check import choose_limits

__all__ = ["RIGHT", "WRONG", "JudgedAnswers", "judge_answers"]

RIGHT, WRONG = "right", "wrong"


@dataclass(frozen=True, eq=False)
class JudgedAnswers:
    """A runner's answers to the golden volumes, alone and in every slot of a batch, judged by the bundle's limits.

    Attributes:
        by_batch: the judgement of the answers alone together with those at each batch size.
        limits: the source of the limits.
    """

    by_batch: Mapping[int, BatchJudgement]
    limits: str

    @property
    def passed(self) -> bool:
        """Whether every batch size is right."""
        return all(each.verdict.passed for each in self.by_batch.values())

    def word(self, batch: int) -> str:
        """``right`` or ``wrong``, at a batch size."""
        return RIGHT if self.by_batch[batch].verdict.passed else WRONG

    def problems(self) -> list[str]:
        """What is wrong, a sentence for each batch size."""
        wrong = {batch: each for batch, each in self.by_batch.items() if not each.verdict.passed}
        return [
            f"batch {batch}: {f'{each.fault}; ' if each.fault else ''}"
            + ("; ".join(check.text for check in each.verdict.failed) or each.verdict.summary)
            for batch, each in wrong.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``bench.json``; docs/reference/bench.md describes it."""
        return {
            "passed": self.passed,
            "limits": self.limits,
            "problems": self.problems(),
            "wrong_slots": {str(batch): list(each.wrong_slots) for batch, each in self.by_batch.items()},
        }


def judge_answers(bundle: Bundle, runner: Runner, batches: Sequence[int]) -> JudgedAnswers:
    """Judge a runner by the golden answers, at each batch size.

    Args:
        bundle: an open bundle, whose limits apply.
        runner: entered.
        batches: sizes.

    Raises:
        EngineError: the runner failed.
    """
    golden, choice = bundle.golden(), choose_limits(bundle, runner.precision, None)
    alone, _ = answer_alone(runner, golden.volumes)
    judged = {
        size: judge_batches(
            BatchAnswers(alone, answer_in_batches(runner, golden.volumes, size)),
            golden.outputs,
            choice.limits,
            golden_words(bundle.own_golden, len(golden.volumes)),
            findings=bundle.findings,
            thresholds=bundle.thresholds,
        )
        for size in batches
    }
    return JudgedAnswers(judged, choice.source)
