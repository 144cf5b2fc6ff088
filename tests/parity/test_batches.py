"""Answers in batches: every slot is judged, and the worst answer to a volume counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_fixtures import disturbed, outputs

from molre_edge.parity import DEFAULT_LIMITS, Outputs
from molre_edge.parity.batches import BatchAnswers, BatchJudgement, batch_orders, judge_batches
from molre_edge.specs import Precision

REFERENCE = outputs(n=6, findings=5)
SIZE = 4


@pytest.mark.parametrize("size", [2, 3, 4, 8, 32])
@pytest.mark.parametrize("volumes", [1, 2, 3, 8, 13])
def test_every_slot_gets_other_volumes_in_every_batch(volumes: int, size: int) -> None:
    orders = batch_orders(volumes, size)
    assert len(orders) == min(size, volumes) and {len(order) for order in orders} == {size}
    for slot in zip(*orders, strict=True):
        assert len(set(slot)) == len(orders)
        if volumes <= size:
            assert set(slot) == set(range(volumes))


def test_a_batch_of_one_is_no_batch() -> None:
    assert batch_orders(8, 1) == ()


def batches(of: Outputs, size: int = SIZE) -> tuple[tuple[tuple[int, ...], Outputs], ...]:
    return tuple((order, of.take(order)) for order in batch_orders(len(of), size))


def judged(answers: BatchAnswers, reference: Outputs = REFERENCE) -> BatchJudgement:
    limits = DEFAULT_LIMITS[Precision.FP16]
    findings = [f"finding {i}" for i in range(5)]
    return judge_batches(answers, reference, limits, "as golden", findings=findings, thresholds=np.full(5, 0.9999))


def wrong(kind: str, slot: int) -> BatchAnswers:
    """Right answers but for one output in one slot, from 1."""
    made = []
    for order, right in batches(REFERENCE):
        arrays = {name: array.copy() for name, array in right.arrays.items()}
        name = kind.split()[0]
        if kind == "logits of the neighbour":
            arrays[name][slot - 1] = arrays[name][slot - 2]
        elif kind == "logits not finite":
            arrays[name][slot - 1] = np.nan
        elif kind.endswith(" turned"):
            arrays[name][slot - 1] = np.roll(arrays[name][slot - 1], 1, axis=-1)
        else:
            arrays[name][slot - 1] *= -1
        made.append((order, Outputs(**arrays)))
    return BatchAnswers(REFERENCE, tuple(made))


@pytest.mark.parametrize("slot", [1, 4])
@pytest.mark.parametrize(
    "kind",
    ["logits of the neighbour", "logits not finite", "gates turned", "attention turned", "embedding turned round"],
)
def test_one_wrong_slot_is_found_and_named_whatever_is_wrong_in_it(kind: str, slot: int) -> None:
    judgement = judged(wrong(kind, slot))
    assert not judgement.verdict.passed
    assert (judgement.wrong_slots, judgement.right_alone, judgement.more) == ((slot,), True, 16)
    assert judgement.fault.endswith(f"wrongly in slot {slot} of a batch of 4")


def test_a_wrong_finding_in_a_batch_is_not_hidden_by_a_larger_error_of_another_finding_alone() -> None:
    alone = replace(REFERENCE, logits=REFERENCE.logits + np.float32(2) * (np.arange(5) == 0))
    order = (0, 1, 2, 3)
    batch = REFERENCE.take(order)
    batch.logits[:, 3] += 1
    worst = BatchAnswers(alone, ((order, batch),)).worst(REFERENCE).logits - REFERENCE.logits
    assert worst[:4].round(4).tolist() == [[2, 0, 0, 1, 0]] * 4 and worst[5].round(4).tolist() == [2, 0, 0, 0, 0]


def test_honest_rounding_passes_and_counts_each_volume_once() -> None:
    noisy = [disturbed(REFERENCE, 1e-4, seed) for seed in range(2)]
    judgement = judged(BatchAnswers(noisy[0], batches(noisy[1])))
    assert judgement.verdict.passed and judgement.numbers.n == 6 and judgement.fault == ""
    apart = max(np.abs(each.logits - REFERENCE.logits).max() for each in noisy)
    assert judgement.numbers.max_abs_dlogit == pytest.approx(apart)


def test_one_that_is_wrong_alone_is_not_blamed_on_a_batch() -> None:
    off = replace(REFERENCE, logits=REFERENCE.logits + 1)
    judgement = judged(BatchAnswers(off, batches(off)))
    assert not judgement.verdict.passed and not judgement.right_alone
    assert judgement.wrong_slots == () and judgement.fault == ""


def test_a_reference_of_logits_alone_judges_logits_alone() -> None:
    reference = Outputs(REFERENCE.logits, np.zeros((6, 0)))
    assert judged(BatchAnswers(REFERENCE, batches(REFERENCE)), reference).verdict.passed
    assert judged(wrong("logits of the neighbour", 2), reference).wrong_slots == (2,)
