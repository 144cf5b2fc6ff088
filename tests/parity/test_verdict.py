"""A verdict follows from numbers and limits: at a limit passes, beyond it fails, nothing to judge is not a pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.parity import (
    DEFAULT_LIMITS,
    Check,
    Outputs,
    ParityError,
    ParityLimits,
    ParityNumbers,
    Verdict,
    compare,
    judge,
)
from molre_edge.parity.whose import as_own_answers, as_rebuild
from molre_edge.specs import Precision

FP16 = DEFAULT_LIMITS[Precision.FP16]
WIDE = ParityLimits("wide", 1.0, 100.0, 0.0, 1.0, 1.0, -1.0, 2.0, 1.0, 1.0, 2.0)
NAMES = ("a", "b", "c", "d", "e")
LIMIT_OF = {
    "max_abs_dp": "max_abs_dp",
    "max_abs_dlogit": "max_abs_dlogit",
    "far_flips": "max_far_flips_fraction",
    "flips": "max_flips_fraction",
    "cosine": "min_cosine",
    "routing_l1": "max_routing_l1",
    "attention_l1": "max_attention_l1",
    "mean_auc_drop": "max_mean_auc_drop",
    "finding_auc_drop": "max_finding_auc_drop",
}
CHECKS = ("finite", *LIMIT_OF)
Make = Callable[..., Outputs]


@pytest.fixture(scope="session")
def numbers_of(make_outputs: Make, disturb: Make) -> Callable[..., ParityNumbers]:
    """Numbers of an engine with noise: `size` of it, `n` volumes, labels or none."""

    def make(size: float = 0.5, n: int = 8, labelled: bool = True, broken: bool = False, **changes: Any) -> Any:
        reference = make_outputs(**{"seed": 0, "n": n, "findings": 5, "d": 4, "gates": (3, 2, 3), **changes})
        engine = disturb(reference, size)
        if broken:
            engine.logits[1, 2:] = np.nan
        labels = np.tile(np.array([[0.0], [1.0]]), (n // 2, 5)) if labelled else None
        return compare(reference, engine, findings=NAMES, thresholds=np.full(5, 0.15), labels=labels)

    return make


def named(verdict: Verdict) -> dict[str, Check]:
    return {check.name: check for check in verdict.checks}


def test_checks_come_in_a_fixed_order_with_their_limits(numbers_of: Any) -> None:
    verdict = judge(numbers_of(), FP16)
    assert tuple(check.name for check in verdict.checks) == CHECKS
    limits = {check.name: check.limit for check in verdict.checks}
    set_by_hand = {check: getattr(FP16, limit) for check, limit in LIMIT_OF.items()}
    assert limits == {"finite": 0.0, **set_by_hand, "flips": 1 / 40}  # one of 40 decisions may flip


def test_measured_values_are_those_of_the_numbers(numbers_of: Any) -> None:
    numbers = numbers_of()
    got = {check.name: check.measured for check in judge(numbers, FP16).checks}
    assert got == {
        "finite": 0.0,
        "max_abs_dp": numbers.dp.max_abs,
        "max_abs_dlogit": numbers.max_abs_dlogit,
        "far_flips": len(numbers.flips_beyond(FP16.flip_margin_logit)) / 40,
        "flips": len(numbers.untied_flips) / 40,
        "cosine": numbers.min_cosine,
        "routing_l1": numbers.gates.max_l1,
        "attention_l1": numbers.attention.max_l1,
        "mean_auc_drop": numbers.mean_auc_drop,
        "finding_auc_drop": numbers.max_finding_auc_drop,
    }
    assert got["flips"] > 0 and got["finding_auc_drop"] > 0  # so that the tests below can fail


def test_an_equal_engine_passes_all_default_limits(numbers_of: Any) -> None:
    numbers = numbers_of(size=0.0)
    for limits in DEFAULT_LIMITS.values():
        verdict = judge(numbers, limits)
        assert verdict.passed
        assert verdict.summary == "passed: 10 of 10 checks kept their limits"


@pytest.mark.parametrize("name", LIMIT_OF)
def test_a_value_at_its_limit_passes_and_one_beyond_it_fails_alone(numbers_of: Any, name: str) -> None:
    numbers = numbers_of()
    wide = WIDE
    assert judge(numbers, wide).passed
    measured = named(judge(numbers, wide))[name].measured
    assert measured is not None and measured > 0
    at, beyond = (
        judge(numbers, replace(wide, **{LIMIT_OF[name]: value}))
        for value in (measured, np.nextafter(measured, 2 if name == "cosine" else -1))
    )
    assert at.passed
    assert not beyond.passed
    assert [check.name for check in beyond.failed] == [name]
    assert beyond.summary == "failed: 9 of 10 checks kept their limits"


def test_a_value_that_is_not_finite_fails_whatever_the_limits(numbers_of: Any) -> None:
    verdict = judge(numbers_of(size=0.0, broken=True), WIDE)
    assert [check.name for check in verdict.failed] == ["finite"]
    assert verdict.failed[0].measured == 3.0
    assert verdict.failed[0].text == "NaN or infinity in engine logits of volume 2 (c, d, e)"


def test_many_values_that_are_not_finite_are_named_by_example(make_outputs: Make) -> None:
    reference = make_outputs(n=6, findings=5)
    engine = Outputs(np.full((6, 5), np.nan), reference.embedding, reference.gates)
    verdict = judge(compare(reference, engine, findings=NAMES, thresholds=np.full(5, 0.5)), FP16)
    text = named(verdict)["finite"].text
    assert text.startswith("NaN or infinity in engine logits of volume 1 (a, b, c and 2 more), ")
    assert text.endswith(" and 3 more")
    assert named(verdict)["max_abs_dp"].text == "not judged: no probability is finite in both"
    assert not verdict.passed


def test_a_limit_that_is_off_is_measured_but_not_judged(numbers_of: Any) -> None:
    verdict = judge(numbers_of(), ParityLimits("mine", min_cosine=0.0))
    assert verdict.passed
    check = named(verdict)["max_abs_dp"]
    assert not check.judged and not check.passed and check.measured is not None
    assert check.text.startswith("not judged: no limit is set; largest difference of a probability ")
    assert verdict.summary == "passed: 2 of 2 checks kept their limits, 8 not judged"


def test_without_labels_the_areas_are_not_judged(numbers_of: Any) -> None:
    checks = named(judge(numbers_of(size=0.0, labelled=False), FP16))
    for name in ("mean_auc_drop", "finding_auc_drop"):
        assert not checks[name].judged
        assert checks[name].text == "not judged: no labels"


def test_with_too_few_labels_the_areas_are_not_judged(numbers_of: Any) -> None:
    verdict = judge(numbers_of(size=0.0, n=2), FP16)
    assert "two labelled scans with it and two without" in named(verdict)["mean_auc_drop"].text
    assert verdict.passed and len(verdict.not_judged) == 2


@pytest.mark.parametrize(("gates", "why"), [(None, "no experts"), ((3, 2, 1), "a single expert")])
def test_without_experts_there_is_no_routing_to_prove(numbers_of: Any, gates: Any, why: str) -> None:
    verdict = judge(numbers_of(size=0.0, gates=gates), FP16)
    check = named(verdict)["routing_l1"]
    assert not check.judged
    assert check.text == f"not judged: {why}, no routing to prove"
    assert verdict.passed


@pytest.mark.parametrize(
    ("reference", "engine", "why"),
    [
        (None, None, "neither gives attention over slices; 3D models have none, and graphs of earlier versions do not"),
        (3, None, "the engine gives no attention over slices; graphs of earlier versions do not return it"),
        (None, 3, "the reference gives no attention over slices"),
    ],
)
def test_attention_that_one_of_both_does_not_give_is_not_judged(
    make_outputs: Make, reference: int | None, engine: int | None, why: str
) -> None:
    sides = [make_outputs(findings=5, attention=each) for each in (reference, engine)]
    verdict = judge(compare(*sides, findings=NAMES, thresholds=np.full(5, 0.15)), FP16)
    check = named(verdict)["attention_l1"]
    assert not check.judged and check.text.startswith(f"not judged: {why}")
    assert not verdict.failed


def test_attention_is_told_by_its_distance_and_by_the_slice_that_leads(make_outputs: Make) -> None:
    reference = make_outputs(n=2, findings=5, attention=3)
    turned = replace(reference, attention=np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], np.float32))
    reference = replace(reference, attention=np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]], np.float32))
    check = named(judge(compare(reference, turned, findings=NAMES, thresholds=np.full(5, 0.15)), FP16))["attention_l1"]
    assert check.measured == pytest.approx(0.6) and not check.passed
    assert check.text == (
        "largest L1 distance of the attention over slices 0.6; the slice with the most attention changed in 1 of 2 "
        "volumes"
    )


def test_only_finite_values_and_nothing_else_to_judge_is_no_pass(numbers_of: Any) -> None:
    verdict = judge(numbers_of(size=0.0, labelled=False), ParityLimits("areas", max_mean_auc_drop=0.01))
    assert not verdict.passed
    assert verdict.failed == ()
    assert verdict.summary == "failed: none of the limits could be judged, 9 checks not judged"


def test_gates_that_hardly_differ_between_volumes_prove_no_routing(numbers_of: Any, make_outputs: Make) -> None:
    single = named(judge(numbers_of(size=0.0, n=1, labelled=False), FP16))["routing_l1"]
    assert single.text.endswith("a single volume can't show that routing depends on the scan")
    still = make_outputs(n=4, findings=5)
    assert still.gates is not None
    still.gates[:] = still.gates[:1]
    check = named(judge(compare(still, still, findings=NAMES, thresholds=np.full(5, 0.5)), FP16))["routing_l1"]
    assert check.text.endswith("within the limit, so they can't show that routing depends on the scan")
    moving = named(judge(numbers_of(size=0.0), FP16))["routing_l1"]
    assert "can't show" not in moving.text


def test_flips_near_the_threshold_are_not_far(numbers_of: Any) -> None:
    numbers = numbers_of()
    near = min(flip.distance for flip in numbers.flips)
    checks = named(judge(numbers, replace(FP16, flip_margin_logit=near)))
    assert checks["far_flips"].measured == (len(numbers.flips) - 1) / 40
    assert f"farther than {near:g} logits" in checks["far_flips"].text
    assert checks["flips"].measured == len(numbers.flips) / 40
    every = named(judge(numbers, replace(FP16, flip_margin_logit=0.0)))["far_flips"]
    assert every.measured == len(numbers.flips) / 40


def test_the_farthest_flip_is_named_with_its_probabilities(numbers_of: Any) -> None:
    numbers = numbers_of()
    text = named(judge(numbers, FP16))["far_flips"].text
    worst = max(numbers.flips, key=lambda flip: flip.distance)
    assert f"the farthest in {NAMES[worst.finding]}: p {worst.reference:.3g} in the reference" in text
    none = named(judge(numbers_of(size=0.0), FP16))["far_flips"].text
    assert none == "0 of 40 decisions flipped farther than 0.04 logits from the threshold"


@pytest.mark.parametrize(("share", "allowed"), [(0.0, 0.0), (0.005, 1 / 40), (0.1, 0.1)])
def test_with_few_decisions_a_single_one_may_flip_unless_none_may(
    numbers_of: Any, share: float, allowed: float
) -> None:
    check = named(judge(numbers_of(), replace(FP16, max_flips_fraction=share)))["flips"]
    assert check.limit == allowed
    assert check.text.endswith("; with so few decisions, one may flip") == (allowed == 1 / 40)


def test_the_largest_difference_of_a_logit_is_named_with_both_logits(make_outputs: Make) -> None:
    reference = make_outputs(n=4, findings=5)
    reference.logits[2, 3] = 16.0
    engine = Outputs(reference.logits.copy(), reference.embedding, reference.gates)
    engine.logits[2, 3] = 17.0
    check = named(judge(compare(reference, engine, findings=NAMES, thresholds=np.full(5, 0.5)), FP16))["max_abs_dlogit"]
    assert check.measured == 0.5 and not check.passed
    assert check.text == (
        "largest difference of a logit 0.5, in d: 16 in the reference, 17 in the engine, a saturated logit, whose "
        "difference is divided by 2"
    )


def test_other_limits_can_help_unless_a_value_is_not_finite(numbers_of: Any) -> None:
    assert judge(numbers_of(), FP16).other_limits_can_help
    assert not judge(numbers_of(broken=True), FP16).other_limits_can_help
    assert not judge(numbers_of(size=0.0), FP16).other_limits_can_help


def test_the_worst_finding_is_named(numbers_of: Any) -> None:
    numbers = numbers_of()
    checks = named(judge(numbers, FP16))
    worst = max(numbers.per_finding, key=lambda each: each.dp.max_abs)
    assert checks["max_abs_dp"].text.endswith(f", in {worst.finding}")
    name, _ = max(numbers.aucs, key=lambda each: each[1].drop)
    assert checks["finding_auc_drop"].text.startswith(f"{name} ")
    assert "95 % interval" in checks["finding_auc_drop"].text


def test_no_volumes_can_not_be_judged(numbers_of: Any) -> None:
    with pytest.raises(ParityError, match="nothing to judge"):
        judge(replace(numbers_of(), n=0), FP16)


SHARE = st.floats(0, 1)
LIMITS = st.builds(
    lambda off, dp, margin, *others: ParityLimits(
        "any",
        **{"max_abs_dp": dp, "flip_margin_logit": margin}
        | {
            name: None if name in off else value
            for name, value in zip(list(LIMIT_OF.values())[1:], others, strict=True)
        },
    ),
    st.sets(st.sampled_from(list(LIMIT_OF.values())[1:])),
    *(SHARE,) * (1 + len(LIMIT_OF)),
)


@given(limits=LIMITS, size=st.sampled_from([0.0, 0.01, 0.3]), labelled=st.booleans(), broken=st.booleans())
def test_a_verdict_passes_exactly_when_no_judged_check_fails(
    numbers_of: Any, limits: ParityLimits, size: float, labelled: bool, broken: bool
) -> None:
    verdict = judge(numbers_of(size=size, labelled=labelled, broken=broken), limits)
    for check in verdict.checks:
        judged = check.limit is not None and check.measured is not None
        assert check.judged == judged
        if judged:
            worse = check.measured < check.limit if check.name == "cosine" else check.measured > check.limit  # type: ignore[operator]
            assert check.passed != worse
        else:
            assert not check.passed and check.text.startswith("not judged: ")
    assert verdict.passed == (not verdict.failed)
    assert len(verdict.failed) + len(verdict.not_judged) + sum(check.passed for check in verdict.checks) == len(CHECKS)


@given(limits=LIMITS, name=st.sampled_from(list(LIMIT_OF.values())), size=st.sampled_from([0.0, 0.01, 0.3]))
def test_a_stricter_limit_never_turns_a_failure_into_a_pass(
    numbers_of: Any, limits: ParityLimits, name: str, size: float
) -> None:
    strictest = replace(limits, **{name: 1.0 if name == "min_cosine" else 0.0})
    numbers = numbers_of(size=size)
    assert judge(numbers, limits).passed >= judge(numbers, strictest).passed


def test_the_first_line_names_the_reference(numbers_of: Any) -> None:
    words = as_own_answers("answers.npz", 40, "path")
    passed = judge(numbers_of(size=0.0), DEFAULT_LIMITS[Precision.FP16], words)
    assert passed.headline == "Parity passed: as your model answered (answers.npz, 40 scans, from scan files)"
    failed = judge(numbers_of(size=0.3), DEFAULT_LIMITS[Precision.FP16], as_rebuild("ckpt.pt"))
    assert failed.headline == (
        "Parity failed: not as molre-edge's rebuild of ckpt.pt answers: differences in preprocessing can't show here"
    )
    assert list(failed.to_dict())[:2] == ["headline", "reference"]
    assert judge(numbers_of(size=0.0), DEFAULT_LIMITS[Precision.FP16]).headline == "Parity passed"
