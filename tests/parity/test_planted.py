"""Planted engines that answer wrongly fail at every precision, wherever their probabilities lie; honest ones pass.

The wrong engines leave the embedding and the gates as they are: only the answers show what was done.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from molre_edge.parity import DEFAULT_LIMITS, Outputs, Verdict, compare, judge, sigmoid
from molre_edge.specs import Precision

N, FINDINGS = 12, 8
NAMES = tuple(f"finding_{j}" for j in range(FINDINGS))
Logits = npt.NDArray[np.float64]


def spread_around(centre: float, width: float = 1.5) -> Logits:
    """Seeded logits of N scans and FINDINGS findings."""
    return np.random.default_rng(7).normal(centre, width, size=(N, FINDINGS))


def between(logits: Logits) -> Logits:
    """A threshold for each finding in the middle between two scans, as training sets it."""
    ordered = np.sort(logits, axis=0)
    return np.asarray(sigmoid((ordered[N // 2 - 1] + ordered[N // 2]) / 2))


def apart(logits: Logits) -> Logits:
    """A threshold for each finding in its widest gap, where a trained one separates the classes."""
    ordered = np.sort(logits, axis=0)
    at, j = np.diff(ordered, axis=0).argmax(axis=0), np.arange(FINDINGS)
    return np.asarray(sigmoid((ordered[at, j] + ordered[at + 1, j]) / 2))


def scaled(logits: Logits, factor: float) -> Logits:
    return np.where(np.arange(FINDINGS) == 2, factor * logits, logits)


def swapped(logits: Logits) -> Logits:
    return logits[:, [1, 0, *range(2, FINDINGS)]]


MIDDLE, RARE, TINY = spread_around(-0.5), spread_around(-8.0, 0.4), spread_around(-13.8, 0.3)
HIGH, HALF = np.full((N, FINDINGS), 50.0), np.full(FINDINGS, 0.5)
WRONG: dict[str, tuple[Logits, Logits, Logits]] = {
    "+1 logit everywhere": (MIDDLE, MIDDLE + 1, between(MIDDLE)),
    "+1 logit, thresholds below 0.001": (RARE, RARE + 1, between(RARE)),
    "-1 logit at p near 1": (-RARE, -RARE - 1, between(-RARE)),
    "+1 logit on logits of 50": (HIGH, HIGH + 1, HALF),
    "one finding's logit times 1.5": (MIDDLE, scaled(MIDDLE, 1.5), between(MIDDLE)),
    "one rare finding's logit times 0.9": (RARE, scaled(RARE, 0.9), between(RARE)),
    "p around 1e-6, logits off by 3": (TINY, TINY + 3, HALF),
    "p around 1e-6, one scan off by 3": (TINY, TINY + 3 * np.eye(N, FINDINGS), HALF),
    "logits of 50 that are 30": (HIGH, HIGH - 20, HALF),
    "logits of 30 that are 50": (HIGH - 20, HIGH, HALF),
    "thresholds below 0.001, one far flip": (
        RARE,
        np.where(np.eye(N, FINDINGS) * (np.arange(FINDINGS) == 3) > 0, -RARE, RARE),
        between(RARE),
    ),
    "two findings swapped": (MIDDLE, swapped(MIDDLE), between(MIDDLE)),
    "two rare findings swapped": (RARE, swapped(RARE), between(RARE)),
}
"""What was done -> logits of the reference, logits of the engine, thresholds."""

ROUNDING = {Precision.FP32: 5e-6, Precision.FP16: 2e-3, Precision.INT8: 0.02, Precision.FP8: 0.02}
"""Noise of an honest engine, in logits: about the largest median that tiny backbones and the INT8 demo show. FP8 has
the limits of INT8, so it must be as close."""


def verdict_of(reference: Logits, engine: Logits, thresholds: Logits, precision: Precision) -> Verdict:
    rest: Any = np.ones((N, 4)), np.full((N, 2, 1, 2), 0.5) + np.linspace(0, 0.4, N)[:, None, None, None] * [1, -1]
    numbers = compare(Outputs(reference, *rest), Outputs(engine, *rest), findings=NAMES, thresholds=thresholds)
    return judge(numbers, DEFAULT_LIMITS[precision])


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_engine_fails_at_every_precision(what: str, precision: Precision) -> None:
    verdict = verdict_of(*WRONG[what], precision)
    assert not verdict.passed
    assert "max_abs_dlogit" in {check.name for check in verdict.failed}


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("logits", [MIDDLE, RARE, -RARE, TINY, HIGH], ids=["middle", "rare", "sure", "tiny", "high"])
def test_honest_rounding_passes(logits: Logits, precision: Precision) -> None:
    wide = np.clip(np.abs(logits) / 8, 1, 4)
    noise = np.random.default_rng(11).uniform(-1, 1, size=logits.shape) * ROUNDING[precision] * wide
    verdict = verdict_of(logits, logits + noise, apart(logits), precision)
    assert verdict.passed, verdict.failed


@pytest.mark.parametrize("precision", Precision)
def test_many_flips_close_to_the_threshold_fail_though_no_logit_moves_far(precision: Precision) -> None:
    limits = DEFAULT_LIMITS[precision]
    assert limits.max_abs_dlogit is not None
    step = limits.max_abs_dlogit
    reference = np.random.default_rng(3).uniform(-0.5 * step, -0.4 * step, size=(N, FINDINGS))
    verdict = verdict_of(reference, reference + 0.9 * step, HALF, precision)
    assert [check.name for check in verdict.failed] == ["flips"]
    assert verdict.failed[0].measured == 1.0


@pytest.mark.parametrize("precision", Precision)
def test_a_tie_of_the_reference_may_flip(precision: Precision) -> None:
    """A threshold that is the probability of a scan: any rounding moves that scan to either side."""
    thresholds = np.asarray(sigmoid(np.float32(MIDDLE[4]).astype(np.float64)))
    engine = MIDDLE.copy()
    engine[4] -= 1e-5
    verdict = verdict_of(MIDDLE, engine, thresholds, precision)
    assert verdict.passed, verdict.failed
    flips = next(check for check in verdict.checks if check.name == "flips")
    assert flips.measured == 0.0 and re.search(r"without \d whose reference lies on the threshold", flips.text)


def test_the_page_lists_the_planted_engines() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "concepts" / "parity.md").read_text(encoding="utf-8")
    assert [what for what in WRONG if f"| {what} |" not in page] == []


def test_the_page_states_what_the_checks_of_the_planted_engines_measure() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "concepts" / "parity.md").read_text(encoding="utf-8")
    for what, (reference, engine, thresholds) in WRONG.items():
        verdict = verdict_of(reference, engine, thresholds, Precision.INT8)
        measured = {check.name: check.measured for check in verdict.checks}
        row = next(line for line in page.splitlines() if line.startswith(f"| {what} |"))
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        assert cells[:3] == [
            f"{measured['max_abs_dp']:.2g}",
            f"{measured['max_abs_dlogit']:.2g}",
            f"{measured['far_flips']:.0%}".replace("%", " %"),
        ], what
