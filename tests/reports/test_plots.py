"""Pictures take colours and font from the page, carry no id twice, and are the same each time."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from molre_edge.reports.plots import COLOURS, SERIES, picture, tidy


def paint(figure: Any) -> None:
    axes = figure.subplots()
    axes.plot([0.1, 0.2, 0.3] * 5, range(15), "o", color=COLOURS["warm"], label="<b>$x^2$</b>")
    axes.plot([0, 1], [0, 1], color=SERIES[1])
    axes.set_xlabel("Δp, engine − reference")
    figure.legend(loc="outside upper left", ncols=1)
    tidy(axes)


@pytest.fixture(scope="module")
def svg() -> str:
    return picture(paint, name="first", alt='a "quoted" <picture>')


def test_a_picture_is_well_formed_and_says_what_it_shows(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    assert (root.get("role"), root.get("aria-label")) == ("img", 'a "quoted" <picture>')
    texts = {element.text for element in root.iter("text")}
    assert {"<b>$x^2$</b>", "Δp, engine − reference"} <= texts  # no mathematics, no markup


def test_colours_and_font_are_those_of_the_page(svg: str) -> None:
    assert "var(--warm)" in svg and "var(--series-2)" in svg and "var(--faint)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert "font-family" not in svg and "<style" not in svg


def test_nothing_in_it_tells_a_time_a_program_or_another_address(svg: str) -> None:
    assert not re.search(r"metadata|http|matplotlib|\d{4}-\d\d-\d\d", svg)


def test_the_same_picture_is_the_same_text_and_two_share_no_id(svg: str) -> None:
    assert picture(paint, name="first", alt='a "quoted" <picture>') == svg
    other = picture(paint, name="second", alt="")
    ids = [set(re.findall(r' id="([^"]*)"', text)) for text in (svg, other)]
    assert ids[0] and ids[1] and not ids[0] & ids[1]
    for text, own in zip((svg, other), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', text)) <= own


def test_a_row_of_marks_says_its_style_once(svg: str) -> None:
    (marks,) = re.findall(r'<g style="[^"]*">((?:<use [^>]*/>){15})</g>', svg)  # the legend's is another
    assert "style=" not in marks
