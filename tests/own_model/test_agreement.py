"""The rebuild beside the user's own model: planted differences are named, with numbers; rounding is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from molre_edge.errors import OwnModelError
from molre_edge.own_model.agreement import Agreement, agree
from molre_edge.own_model.answers import OwnAnswers
from molre_edge.own_model.rounded import LogitRange
from molre_edge.parity import DEFAULT_LIMITS, Outputs, sigmoid
from molre_edge.specs import Precision

FINDINGS = ("bleed", "infarct", "shift", "mass", "edema")
SCANS = ("scan-0001", "scan-0002", "scan-0003")
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (3, 5)).astype(np.float32)
REBUILD = Outputs(LOGITS, RNG.normal(size=(3, 8)), RNG.dirichlet([1, 1, 1], (3, 4, 2)))


def answered(logits: Any = LOGITS, findings: tuple[str, ...] = FINDINGS, **more: Any) -> OwnAnswers:
    given = logits if isinstance(logits, LogitRange) else LogitRange.of_logits(logits)
    settings: dict[str, Any] = {"scans": SCANS, **more}
    return OwnAnswers(file="answers.npz", sha256="0" * 64, given="path", findings=findings, logits=given, **settings)


def compared(answers: OwnAnswers, rebuild: Outputs = REBUILD) -> Agreement:
    limits = DEFAULT_LIMITS[Precision.FP32]
    thresholds = [0.5] * len(FINDINGS)
    return agree(answers, rebuild, scans=SCANS, findings=FINDINGS, thresholds=thresholds, limits=limits)


def test_equal_answers_agree_and_the_verdict_says_whose_they_are() -> None:
    agreement = compared(answered())
    assert agreement.passed and agreement.differing == ()
    assert agreement.verdict.headline == "Parity passed: as your model answered (answers.npz, 3 scans, from scan files)"
    golden = agreement.golden("from the study")
    assert (golden.outputs, golden.scans, golden.note) == (("logits",), 3, "from the study")
    assert golden.max_abs_dlogit == 0


def test_float32_probabilities_agree_wherever_the_logits_lie() -> None:
    logits = np.linspace(-25, 25, 15).reshape(3, 5).astype(np.float32)
    given = LogitRange.of_probabilities(sigmoid(logits).astype(np.float32))
    assert compared(answered(given), Outputs(logits, REBUILD.embedding, REBUILD.gates)).passed


def test_names_decide_and_not_places() -> None:
    order = [3, 1, 0, 2, 4]
    agreement = compared(answered(LOGITS[:, order], tuple(FINDINGS[i] for i in order)))
    assert agreement.passed
    rows = [2, 0, 1]
    assert compared(answered(LOGITS[rows], scans=tuple(SCANS[i] for i in rows))).passed


def test_a_finding_that_differs_is_named_with_its_numbers() -> None:
    own = LOGITS.copy()
    own[1, 2] += 0.25
    agreement = compared(answered(own))
    assert not agreement.passed and agreement.differing == (2,) and agreement.order is None
    message = agreement.message()
    assert "does not answer as your model answered (answers.npz, 3 scans, from scan files)" in message
    for words in ("1 of 5 findings differ", "  shift: |Δlogit| up to 0.25", "in scan-0002"):
        assert words in message
    found = agreement.to_dict()["findings"][2]
    assert found["differs"] and found["max_abs_dlogit"] == pytest.approx(0.25, rel=1e-4)
    assert not agreement.to_dict()["passed"]


def test_findings_in_reverse_are_recognised() -> None:
    agreement = compared(answered(LOGITS[:, ::-1]))
    assert agreement.order == FINDINGS[::-1]
    assert "in reverse order" in agreement.message()


def test_two_findings_that_changed_places_are_named() -> None:
    agreement = compared(answered(LOGITS[:, [1, 0, 2, 3, 4]]))
    assert agreement.order == ("infarct", "bleed", "shift", "mass", "edema")
    message = agreement.message()
    assert "bleed gives your model's answers of infarct; infarct gives your model's answers of bleed." in message


def test_another_order_is_not_claimed_when_it_does_not_explain_the_difference() -> None:
    agreement = compared(answered(LOGITS[:, ::-1] + 0.01))
    assert not agreement.passed and agreement.order is None


def test_given_gates_and_embedding_are_compared_and_become_the_reference() -> None:
    assert REBUILD.gates is not None
    same = compared(answered(embedding=REBUILD.embedding, gates=REBUILD.gates))
    assert same.passed and same.golden("").outputs == ("logits", "embedding", "gates")
    wrong = compared(answered(gates=REBUILD.gates[:, :, ::-1]))
    assert not wrong.passed and "routing_l1: largest L1 distance" in wrong.message()
    with pytest.raises(OwnModelError, match=r"embedding: expected \[3, 8\], got \[3, 9\]"):
        compared(answered(embedding=np.ones((3, 9), np.float32)))
    with pytest.raises(OwnModelError, match="gates: expected none, for the checkpoint has none"):
        compared(answered(gates=REBUILD.gates), Outputs(LOGITS, REBUILD.embedding))


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        (
            ("bleed", "infarct", "shift", "mass", "oedema"),
            r"1 missing \(edema\) and 1 unknown \(oedema\). Is 'oedema' 'edema'",
        ),
        (("bleed", "infarct", "shift", "mass"), r"1 missing \(edema\)\."),
    ],
)
def test_other_findings_are_refused(findings: tuple[str, ...], words: str) -> None:
    with pytest.raises(OwnModelError, match=words):
        compared(answered(LOGITS[:, : len(findings)], findings))


def test_other_scans_are_refused() -> None:
    with pytest.raises(
        OwnModelError, match=r"expected the 3 scans .* 1 missing \(scan-0003\) and 1 unknown \(scan-0009\)"
    ):
        compared(answered(scans=("scan-0001", "scan-0002", "scan-0009")))
