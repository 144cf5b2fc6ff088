"""The pictures draw what was measured: every point and line is where its number says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from molre_edge.parity import compare
from molre_edge.parity.logits import logit_differences
from molre_edge.reports import charts as drawn
from molre_edge.reports.parity_page import finite_probabilities
from molre_edge.reports.parity_report import Report

Painted = Callable[..., list[Any]]


@pytest.fixture
def report(full_report: Callable[..., Report]) -> Report:
    return full_report(size=0.2, n=6)


def logits_apart(report: Report) -> np.ndarray:
    assert report.reference_outputs is not None and report.engine_outputs is not None
    return logit_differences(report.reference_outputs.logits, report.engine_outputs.logits)


def probabilities(report: Report) -> tuple[Any, Any]:
    assert report.reference_outputs is not None and report.engine_outputs is not None
    return finite_probabilities(report.reference_outputs), finite_probabilities(report.engine_outputs)


def test_agreement_draws_every_pair_at_its_mean_and_difference(report: Report, painted: Painted) -> None:
    reference, engine = probabilities(report)
    numbers, limits = report.numbers, report.limits
    assert numbers is not None and limits is not None
    (figure,) = painted(drawn, lambda: drawn.agreement(reference, engine, np.array(report.thresholds), numbers, limits))
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    points = {(round(x, 9), round(y, 9)) for line in lines for x, y in zip(*line.get_data(), strict=True)}
    expected = zip(((reference + engine) / 2).ravel(), (engine - reference).ravel(), strict=True)
    assert points == {(round(float(x), 9), round(float(y), 9)) for x, y in expected}
    assert [len(line.get_xdata()) for line in lines] == [450 - len(numbers.flips), len(numbers.flips)]
    dashed = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert dashed == [-limits.max_abs_dp, limits.max_abs_dp]  # type: ignore[operator]


def test_limits_of_agreement_are_those_of_bland_and_altman(report: Report) -> None:
    reference, engine = probabilities(report)
    assert report.numbers is not None and report.limits is not None
    got = drawn.agreement(reference, engine, np.array(report.thresholds), report.numbers, report.limits)
    difference = (engine - reference).ravel()
    assert got is not None
    assert (got.low, got.high) == pytest.approx(
        [difference.mean() + sign * 1.96 * difference.std() for sign in (-1, 1)], rel=1e-4
    )


def test_a_lot_of_points_is_thinned_but_flips_and_the_largest_stay(full_report: Callable[..., Report]) -> None:
    report = full_report(size=0.05, n=100, gates=None)
    reference, engine = probabilities(report)
    assert report.numbers is not None and report.limits is not None
    got = drawn.agreement(reference, engine, np.array(report.thresholds), report.numbers, report.limits)
    assert got is not None
    assert drawn.POINTS - 300 <= got.shown <= drawn.POINTS < got.total == 7500
    marks = ElementTree.fromstring(got.svg).iter("use")
    assert got.shown <= len(list(marks)) <= got.shown + 20  # and the ticks


def test_the_line_of_the_spread_is_the_share_that_differs_by_more(painted: Painted) -> None:
    sizes = np.array([1e-5, 1e-4, 1e-4, 1e-3])
    (figure,) = painted(drawn, lambda: drawn.spread({"run": sizes}, {"run": 0.01}))
    line = figure.axes[0].lines[0]
    for x, y in zip(*line.get_data(), strict=True):
        assert 100 * np.mean(sizes > x) <= y <= 100 * np.mean(sizes >= x)
    assert figure.axes[0].get_xlim()[1] > 0.01  # the limit is in the picture


@pytest.mark.parametrize("differ", [False, True])
def test_limits_that_differ_have_the_colours_of_their_runs(painted: Painted, differ: bool) -> None:
    limits = {"fp32": 1e-4 if differ else 0.01, "fp16": 0.01}
    sizes = {"fp32": np.array([1e-6, 1e-5]), "fp16": np.array([1e-4, 1e-3])}
    (figure,) = painted(drawn, lambda: drawn.spread(sizes, limits))
    runs, lines = figure.axes[0].lines[:2], figure.axes[0].lines[2:]
    assert [line.get_xdata()[0] for line in lines] == sorted(set(limits.values()))
    assert [line.get_color() in {run.get_color() for run in runs} for line in lines] == [differ] * len(lines)
    if differ:
        assert [line.get_color() for line in lines] == [run.get_color() for run in runs]


def test_scans_beyond_a_limit_are_drawn_otherwise(report: Report, painted: Painted) -> None:
    reference, engine = probabilities(report)
    numbers, limits = report.numbers, report.limits
    assert numbers is not None and limits is not None
    assert numbers.gates is not None and numbers.attention is not None
    (figure,) = painted(drawn, lambda: drawn.scan_by_scan(numbers, engine - reference, logits_apart(report), limits))
    measured = [
        np.abs(engine - reference).max(axis=1),
        logits_apart(report).max(axis=1),
        1 - numbers.cosine,
        numbers.gates.l1.max(axis=1),
        numbers.attention.l1,
    ]
    least = 1 - (limits.min_cosine or 0)
    allowed = [limits.max_abs_dp, limits.max_abs_dlogit, least, limits.max_routing_l1, limits.max_attention_l1]
    assert len(figure.axes) == 5
    for axes, values, limit in zip(figure.axes, measured, allowed, strict=True):
        dashed, within, beyond = axes.lines
        assert dashed.get_ydata()[0] == pytest.approx(limit)
        assert sorted([*within.get_ydata(), *beyond.get_ydata()]) == pytest.approx(sorted(values))
        assert len(beyond.get_ydata()) == int((values > limit).sum())
        assert within.get_marker() != beyond.get_marker()


def test_times_and_intervals_lie_where_they_were_measured(painted: Painted) -> None:
    rows = [("a", "read", 10.0, 12.0, 20.0), ("a", "compute", 100.0, 110.0, 300.0), ("b", "compute", 50.0, 60.0, 70.0)]
    (figure,) = painted(drawn, lambda: drawn.times(rows))
    medians = {line.get_label(): line.get_xdata().tolist() for line in figure.axes[0].lines}
    assert medians == {"a": [10.0, 100.0], "b": [50.0]}
    (figure,) = painted(drawn, lambda: drawn.auc_differences([("x", -0.1, -0.3, 0.1), ("y", 0.0, 0.0, 0.0)]))
    assert figure.axes[0].lines[1].get_xdata().tolist() == [-0.1, 0.0]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["x", "y"]


def test_both_aucs_of_a_finding_lie_in_its_row_with_their_intervals(report: Report, painted: Painted) -> None:
    assert report.numbers is not None
    rows = report.numbers.aucs[:3]
    (figure,) = painted(drawn, lambda: drawn.auc_levels(rows))
    chance, reference, engine = figure.axes[0].lines
    assert chance.get_xdata()[0] == 0.5
    assert reference.get_xdata() == pytest.approx([auc.reference for _, auc in rows])
    assert engine.get_xdata() == pytest.approx([auc.engine for _, auc in rows])
    assert np.round(reference.get_ydata()).tolist() == np.round(engine.get_ydata()).tolist() == [2, 1, 0]
    ends = [line[:, 0].tolist() for lines in figure.axes[0].collections for line in lines.get_segments()]
    expected = [auc.reference_interval for _, auc in rows] + [auc.engine_interval for _, auc in rows]
    assert ends == [pytest.approx(each) for each in expected]


def test_nothing_to_draw_is_no_picture() -> None:
    assert drawn.times([]) is None
    assert drawn.auc_differences([]) is None
    assert drawn.spread({"same": np.zeros(4)}, {}) is None
    assert drawn.spread({}, {"run": 0.1}) is None


def test_an_engine_that_answers_the_same_and_one_that_answers_nothing_can_be_drawn(
    full_report: Callable[..., Report], make_outputs: Callable[..., Any]
) -> None:
    report = full_report(size=0.0, n=2)
    reference, engine = probabilities(report)
    assert report.numbers is not None and report.limits is not None
    svg = drawn.scan_by_scan(report.numbers, engine - reference, logits_apart(report), report.limits)
    nothing = make_outputs(n=2)
    nothing.logits[:] = np.nan
    cuts = np.array(report.thresholds)
    numbers = compare(nothing, nothing, findings=report.findings, thresholds=cuts)
    lost = np.full((2, 75), np.nan)
    assert drawn.agreement(lost, lost, cuts, numbers, report.limits) is None
    other = drawn.scan_by_scan(numbers, lost, lost, report.limits)
    for text in (svg, other):
        assert not re.search(r'="[^"]*\b(nan|inf)\b', text)
