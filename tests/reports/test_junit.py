"""junit.xml keeps to its schema, and its failures are those of the verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import xmlschema

from molre_edge.parity import DEFAULT_LIMITS, ParityLimits, compare, judge
from molre_edge.reports.junit import junit
from molre_edge.reports.parity_report import Report
from molre_edge.specs import Precision

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))
CASES: dict[str, dict[str, Any]] = {
    "pass": {},
    "fail": {"size": 0.2},
    "no reference": {"compared": False},
    "no experts": {"n": 3, "gates": None},
    "not finite": {"n": 3, "broken": True},
}


def cases_of(text: str, part: str) -> dict[str, str]:
    """Name of a test case -> passed, failure or skipped."""
    found = {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        if case.get("classname", "").endswith(f".{part}"):
            found[case.get("name", "")] = case[0].tag if len(case) else "passed"
    return found


@pytest.mark.parametrize("name", CASES)
def test_it_keeps_to_the_schema_and_counts_rightly(full_report: Callable[..., Report], name: str) -> None:
    text = junit([(name, full_report(**CASES[name])), ("again", full_report(n=2))])
    SCHEMA.validate(text)
    root = ElementTree.fromstring(text)
    for element in root:
        assert int(element.get("tests", "")) == len(list(element.iter("testcase")))
        assert int(element.get("failures", "")) == len(list(element.iter("failure")))
    assert len(root) == 2


@pytest.mark.parametrize("name", CASES)
def test_checks_fail_as_the_verdict_does_and_what_is_not_judged_is_skipped(
    full_report: Callable[..., Report], name: str
) -> None:
    report = full_report(**CASES[name])
    found = cases_of(junit([("run", report)]), "checks")
    if report.verdict is None:
        assert found == {"parity": "skipped"}
        return
    assert found == {
        check.name: "skipped" if not check.judged else "passed" if check.passed else "failure"
        for check in report.verdict.checks
    }
    assert ("failure" in found.values()) == (not report.verdict.passed)


def test_a_finding_fails_when_it_breaks_a_limit_by_itself(full_report: Callable[..., Report]) -> None:
    report = full_report(size=0.02)
    found = cases_of(junit([("run", report)]), "findings")
    assert report.numbers is not None and report.limits is not None and report.limits.max_abs_dp is not None
    assert list(found) == list(report.findings)
    for each in report.numbers.per_finding:
        broken = (
            (each.dp.max_abs or 0) > report.limits.max_abs_dp
            or (each.logit is not None and each.logit.size > (report.limits.max_abs_dlogit or 0))
            or any(flip.distance > report.limits.flip_margin_logit for flip in each.flips)
            or (each.auc is not None and each.auc.drop > (report.limits.max_finding_auc_drop or 0))
        )
        assert (found[each.finding] == "failure") == broken
    assert set(found.values()) == {"passed", "failure"}


@pytest.mark.parametrize("name", CASES)
def test_no_finding_fails_where_all_checks_pass(full_report: Callable[..., Report], name: str) -> None:
    text = junit([("run", full_report(**CASES[name]))])
    if "failure" not in cases_of(text, "checks").values():
        assert "failure" not in cases_of(text, "findings").values()


def test_flips_that_the_limits_allow_fail_no_finding(full_report: Callable[..., Report]) -> None:
    base = full_report(size=0.01)
    assert base.numbers is not None and base.numbers.flips
    limits = DEFAULT_LIMITS[Precision.INT8]
    report = full_report(size=0.01, limits=limits, verdict=judge(base.numbers, limits))
    assert report.verdict is not None
    assert {check.name: check.passed for check in report.verdict.checks}["flips"]
    flipped = {report.findings[flip.finding] for flip in base.numbers.flips}
    found = cases_of(junit([("run", report)]), "findings")
    assert "passed" in {found[name] for name in flipped}


def test_limits_of_which_none_could_be_judged_fail(full_report: Callable[..., Report]) -> None:
    base = full_report(n=2)
    limits = ParityLimits(name="areas", max_mean_auc_drop=0.01)
    assert base.reference_outputs is not None and base.engine_outputs is not None
    cuts = np.array(base.thresholds)
    numbers = compare(base.reference_outputs, base.engine_outputs, findings=base.findings, thresholds=cuts)
    found = cases_of(
        junit([("run", full_report(n=2, numbers=numbers, limits=limits, verdict=judge(numbers, limits)))]), "checks"
    )
    assert found["judged"] == "failure"


def test_signs_that_xml_can_not_hold_and_markup_are_no_danger(full_report: Callable[..., Report]) -> None:
    text = junit([('a\x00b <x> & "y" \ud800 ]]>', full_report(n=2, command="\x1b"))])
    SCHEMA.validate(text)
    assert ElementTree.fromstring(text)[0].get("name") == 'parity of a?b <x> & "y" ? ]]>, limits fp16'
