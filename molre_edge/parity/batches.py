"""Answers in batches: a runner that is right for one volume at a time may be wrong in some slots of a batch.

Public reports of TensorRT have such engines (NVIDIA/TensorRT 3689, 3744, 3855, 4813). So golden volumes are also
answered in every slot of a batch, in changing order, and the worst of a volume's answers is the one that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.parity.comparison import compare, embedding_cosines
from molre_edge.parity.limits import ParityLimits
from molre_edge.parity.logits import logit_differences
from molre_edge.parity.numbers import ParityNumbers
from molre_edge.parity.outputs import FloatArray, Outputs
from molre_edge.parity.verdict import Verdict, judge

__all__ = ["BatchAnswers", "BatchJudgement", "batch_orders", "judge_batches"]

_F64 = npt.NDArray[np.float64]


def batch_orders(volumes: int, size: int) -> tuple[tuple[int, ...], ...]:
    """The volume in each slot of each batch, so that every slot answers different volumes in changing order.

    There are as many batches as slots, or as volumes if those are fewer. No slot gets a volume twice; where there are
    no more volumes than slots, every volume visits every slot. A batch of one is no batch: there are none then.

    Args:
        volumes: how many there are.
        size: slots of a batch. With more slots than volumes, volumes repeat within a batch.
    """
    if size < 2:
        return ()
    batches = min(size, volumes)
    return tuple(tuple((k * volumes // batches + slot) % volumes for slot in range(size)) for k in range(batches))


@dataclass(frozen=True, eq=False)
class BatchAnswers:
    """A runner's answers to the same volumes, alone and in batches.

    Attributes:
        alone: to each of n volumes in a call of its own.
        batches: for each batch, the volume in each slot, from 0, and the answers.
    """

    alone: Outputs
    batches: tuple[tuple[tuple[int, ...], Outputs], ...] = ()

    @property
    def size(self) -> int:
        """Slots of a batch; 1 where there are no batches."""
        return len(self.batches[0][0]) if self.batches else 1

    @property
    def more(self) -> int:
        """How many answers there are besides those alone."""
        return sum(len(order) for order, _ in self.batches)

    def of_slot(self, slot: int) -> BatchAnswers:
        """The answers alone and those of one slot."""
        return BatchAnswers(
            self.alone, tuple(((order[slot],), outputs.take([slot])) for order, outputs in self.batches)
        )

    def worst(self, reference: Outputs) -> Outputs:
        """Of each volume's answers the one farthest from the reference: each finding's logit and each other output.

        Values that are not finite are farther than all others. An output of other shapes than the reference's is left
        as it is alone.

        Args:
            reference: n volumes.
        """
        return Outputs(
            self._farthest_logits(reference.logits),
            self._farthest("embedding", reference.embedding, lambda a, b: 1 - embedding_cosines(a, b)),
            None if self.alone.gates is None else self._farthest("gates", reference.gates, _largest_l1),
            None if self.alone.attention is None else self._farthest("attention", reference.attention, _largest_l1),
        )

    def _farthest_logits(self, reference: FloatArray) -> FloatArray:
        """Finding by finding, since the worst of one must not hide that of another."""
        alone = self.alone.logits
        if reference.shape != alone.shape:
            return alone
        kept: FloatArray = alone.copy()
        size = _far(logit_differences(reference, alone))
        for order, outputs in self.batches:
            sizes = _far(logit_differences(reference[list(order)], outputs.logits))
            for slot, volume in enumerate(order):
                farther = sizes[slot] > size[volume]
                kept[volume][farther], size[volume][farther] = outputs.logits[slot][farther], sizes[slot][farther]
        return kept

    def _farthest(
        self, name: str, reference: FloatArray | None, distance: Callable[[FloatArray, FloatArray], _F64]
    ) -> FloatArray:
        alone: FloatArray = getattr(self.alone, name)
        if reference is None or reference.shape != alone.shape or not alone[0].size:
            return alone
        kept: FloatArray = alone.copy()
        size = _far(distance(reference, alone))
        for order, outputs in self.batches:
            answers: FloatArray = getattr(outputs, name)
            sizes = _far(distance(reference[list(order)], answers))
            for slot, volume in enumerate(order):
                if sizes[slot] > size[volume]:
                    kept[volume], size[volume] = answers[slot], sizes[slot]
        return kept


@dataclass(frozen=True, eq=False)
class BatchJudgement:
    """The verdict on a runner's answers alone and in batches.

    Attributes:
        numbers: of the worst answer to each volume.
        verdict: on those.
        size: slots of a batch that were judged; 1 if there were no batches.
        more: answers in batches, besides one for each volume alone.
        wrong_slots: if the answers alone pass and those in batches do not, the slots that are wrong, from 1; none if no
            single one is.
        right_alone: whether the answers alone pass.
    """

    numbers: ParityNumbers
    verdict: Verdict
    size: int
    more: int
    wrong_slots: tuple[int, ...]
    right_alone: bool

    @property
    def fault(self) -> str:
        """What is wrong in batches alone; nothing if the answers pass, or fail alone already."""
        if self.verdict.passed or not self.right_alone:
            return ""
        where = "in no slot by itself, but in all together"
        if self.wrong_slots:
            where = f"in slot{'s' * (len(self.wrong_slots) > 1)} {', '.join(map(str, self.wrong_slots))}"
        return f"it answers rightly one volume at a time, and wrongly {where} of a batch of {self.size}"


def judge_batches(
    answers: BatchAnswers,
    reference: Outputs,
    limits: ParityLimits,
    words: str,
    *,
    findings: Sequence[str],
    thresholds: FloatArray,
) -> BatchJudgement:
    """Judge a runner's answers alone and in batches as one: the worst answer to each volume counts.

    Args:
        answers: of the runner to n volumes.
        reference: the reference's answers to them.
        limits: the parity limits.
        words: whose answers the reference's are.
        findings: names, in the order of the model's outputs.
        thresholds: float (findings,), probabilities.

    Raises:
        ParityError: as :func:`molre_edge.parity.compare`.
    """

    def judged(one: BatchAnswers) -> tuple[ParityNumbers, Verdict]:
        numbers = compare(reference, one.worst(reference), findings=findings, thresholds=thresholds)
        return numbers, judge(numbers, limits, words)

    numbers, verdict = judged(answers)
    right_alone = verdict.passed or (bool(answers.batches) and judged(BatchAnswers(answers.alone))[1].passed)
    wrong: tuple[int, ...] = ()
    if right_alone and not verdict.passed:
        slots = range(answers.size)
        wrong = tuple(slot + 1 for slot in slots if not judged(answers.of_slot(slot))[1].passed)
    return BatchJudgement(numbers, verdict, answers.size, answers.more, wrong, right_alone)


def _largest_l1(reference: FloatArray, gates: FloatArray) -> _F64:
    """The largest L1 distance of a volume's gate vectors, float64 (n,)."""
    with np.errstate(invalid="ignore"):  # inf - inf; counts as farthest
        apart = np.abs(gates.astype(np.float64) - reference.astype(np.float64)).sum(axis=-1)
    largest: _F64 = apart.reshape(len(apart), -1).max(axis=1)
    return largest


def _far(distances: _F64) -> _F64:
    """Distances that are not finite as infinite ones."""
    return np.where(np.isfinite(distances), distances, np.inf)
