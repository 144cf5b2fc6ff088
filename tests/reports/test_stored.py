"""A report.json of this version and of the one before is read; other files are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from molre_edge.errors import ConfigError
from molre_edge.reports.parity_report import Report
from molre_edge.reports.stored import read_report


def as_version_1(report: Report) -> dict[str, Any]:
    """What the version before wrote for the same report."""
    data = report.to_dict()
    limits, source = data.pop("limits"), data.pop("limits_source")
    if limits is not None:
        limits["max_gate_l1"] = limits.pop("max_routing_l1")
        limits["source"] = source
    return {**data, "schema_version": 1, "gate": limits}


@pytest.mark.parametrize("changes", [{}, {"compared": False}])
def test_a_report_of_this_version_is_read_as_it_is(full_report: Callable[..., Report], changes: dict[str, Any]) -> None:
    report = full_report(n=2, **changes)
    content, notes = read_report(report.to_dict())
    assert notes == ()
    assert content["limits"] == report.limits
    assert {**content, "limits": None} == {**report.to_dict(), "limits": None}


@pytest.mark.parametrize("changes", [{}, {"compared": False}])
def test_a_report_of_the_version_before_is_read_with_a_note(
    full_report: Callable[..., Report], changes: dict[str, Any]
) -> None:
    report = full_report(n=2, **changes)
    content, notes = read_report(as_version_1(report))
    assert len(notes) == 1 and "schema_version 1" in notes[0] and "next version" in notes[0]
    assert content["limits"] == report.limits
    assert content["limits_source"] == (report.limits_source if report.limits else None)
    assert "gate" not in content


def test_a_limit_of_a_later_version_is_noted(full_report: Callable[..., Report]) -> None:
    data = full_report(n=2).to_dict()
    data["limits"]["max_later"] = 0.1
    content, notes = read_report(data)
    assert content["limits"] == full_report(n=2).limits
    assert notes == ("'max_later' is a limit that this version does not know, so it is not judged",)


@pytest.mark.parametrize("change", [{"schema_version": 3}, {"schema_version": 0}, {"kind": "another report"}])
def test_another_kind_or_version_is_refused(full_report: Callable[..., Report], change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected 'molre-edge parity report' with schema_version 2 or 1, got"):
        read_report({**full_report(n=2).to_dict(), **change})


def test_limits_with_an_impossible_value_are_refused(full_report: Callable[..., Report]) -> None:
    data = full_report(n=2).to_dict()
    data["limits"]["max_abs_dp"] = -1.0
    with pytest.raises(ConfigError, match="max_abs_dp: expected a number from 0 to 1, got -1"):
        read_report(data)
