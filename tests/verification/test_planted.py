"""Engines that are wrong on purpose fail the golden check and a run, by the limits of every precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import ParityFailedError
from molre_edge.parity import DEFAULT_LIMITS, Outputs
from molre_edge.specs import Precision
from molre_edge.verification.golden_check import LimitsChoice, check_golden, require_verified
from molre_edge.verification.passed import VerifiedRecord


def with_logits(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Outputs], Outputs]:
    return lambda outputs: Outputs(change(outputs.logits), outputs.embedding, outputs.gates)


def saturated(logits: np.ndarray) -> np.ndarray:
    return np.where(logits > 0, 30.0, -30.0)


WRONG = {
    "one logit more": with_logits(lambda logits: logits + 1),
    "one logit less": with_logits(lambda logits: logits - 1),
    "twice a finding's logit": with_logits(lambda logits: np.where(np.arange(logits.shape[1]) == 0, 2, 1) * logits),
    "saturated": with_logits(saturated),
    "findings turned": with_logits(lambda logits: np.roll(logits, 1, axis=1)),
}


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("what", WRONG)
def test_the_golden_check_refuses_a_wrong_engine(bundle: Bundle, altered: Any, what: str, precision: Precision) -> None:
    verdict = check_golden(bundle, altered(WRONG[what]), DEFAULT_LIMITS[precision]).verdict
    assert not verdict.passed
    assert "max_abs_dlogit" in {check.name for check in verdict.failed}


@pytest.mark.parametrize("precision", Precision)
def test_an_engine_one_logit_off_is_not_used(bundle: Bundle, altered: Any, precision: Precision) -> None:
    choice = LimitsChoice(DEFAULT_LIMITS[precision], "default")
    with pytest.raises(ParityFailedError, match="max_abs_dlogit: largest difference of a logit 1"):
        require_verified(bundle, altered(WRONG["one logit more"]), choice, VerifiedRecord(None))


@pytest.mark.parametrize("precision", Precision)
def test_a_run_of_an_engine_one_logit_off_fails(
    run: Callable[..., Any], altered: Any, tiny_scans: Path, precision: Precision
) -> None:
    summary = run(tiny_scans, runner=altered(WRONG["one logit more"]), limits=DEFAULT_LIMITS[precision])
    assert summary.exit_code == 3
    assert "max_abs_dlogit" in {check.name for check in summary.verdict.failed}
    assert "Largest |Δlogit|" in summary.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("precision", Precision)
def test_the_graph_itself_passes(bundle: Bundle, runner: Any, precision: Precision) -> None:
    assert check_golden(bundle, runner, DEFAULT_LIMITS[precision]).verdict.passed
