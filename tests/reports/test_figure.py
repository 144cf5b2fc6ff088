"""What is drawn lies where its values say, and no text of a user becomes markup."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from molre_edge.reports.figure import Figure
from molre_edge.reports.plots import COLOURS

LINE, INK = COLOURS["line"], COLOURS["ink"]


def figure() -> Figure:
    return Figure("p", 400.0, 200.0, COLOURS)


def elements(drawn: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(f"<svg>{drawn.svg()}</svg>")


def box(root: ElementTree.Element) -> tuple[float, float, float, float]:
    """Left, top, width and height of the plot; lines are cut one pixel outside of it."""
    (rect,) = root.iter("rect")
    left, top, width, height = (float(rect.get(name) or "") for name in ("x", "y", "width", "height"))
    return left + 1, top + 1, width - 2, height - 2


@pytest.mark.parametrize(("scale", "share"), [("linear", 0.1), ("log", 0.5)])
def test_marks_lie_at_their_values_on_both_scales(scale: str, share: float) -> None:
    drawn = figure()
    axes: Any = drawn.subplots()
    axes.plot([1.09, 10.0, np.nan], [0.25, 0.25, 0.25], "o", color=INK)
    axes.set_xscale(scale)
    axes.set_xlim(1.0, 100.0)
    axes.set_ylim(1.0, 0.0)  # downwards
    root = elements(drawn)
    left, top, width, height = box(root)
    marks = [(float(mark.get("x") or ""), float(mark.get("y") or "")) for mark in root.iter("use")]
    assert len(marks) == 2  # one has no place
    at = share if scale == "log" else 9 / 99
    assert marks[1] == (pytest.approx(left + at * width, abs=0.2), pytest.approx(top + 0.25 * height, abs=0.2))


def test_a_line_is_cut_where_a_value_has_no_place_and_has_the_dashes_of_its_width() -> None:
    drawn = figure()
    axes: Any = drawn.subplots()
    axes.plot([0, 1, np.nan, 3], [0, 1, 2, 3], color=INK, linewidth=2.0, linestyle=(0, (4, 3)))
    (line,) = (path for path in elements(drawn).iter("path") if INK in (path.get("style") or ""))
    assert re.fullmatch(r"M\S+ \S+L\S+ \S+M\S+ \S+", line.get("d") or "")
    assert "stroke-dasharray: 8 6" in (line.get("style") or "")


def test_ticks_are_round_numbers_within_the_ends_or_those_that_were_set() -> None:
    drawn = figure()
    axes: Any = drawn.subplots()
    axes.set_xlim(-0.23, 0.41)
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([0.5, 7.0], ["<half>", "outside"])
    texts = [text.text for text in elements(drawn).iter("text")]
    assert texts == ["<half>", "−0.2", "−0.1", "0", "0.1", "0.2", "0.3", "0.4"]


def test_plots_below_each_other_share_the_ticks_of_the_last() -> None:
    drawn = figure()
    upper, lower = drawn.subplots(2, 1, sharex=True, squeeze=False)[:, 0]
    for axes in (upper, lower):
        axes.set_ylim(0.0, 1.0)
        axes.set_yticks([])
    lower.set_xlim(0.0, 4.0)
    assert [text.text for text in elements(drawn).iter("text")] == ["0", "1", "2", "3", "4"]
    assert drawn.svg().count("<clipPath") == 2


def test_nothing_at_all_can_be_drawn() -> None:
    drawn = figure()
    axes: Any = drawn.subplots()
    axes.plot([np.nan], [np.inf], "o", color=INK)
    axes.hlines([], [], [], color=INK)
    assert not re.search(r"\b(nan|inf)\b", drawn.svg())
