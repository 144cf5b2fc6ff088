"""The page of a calibration, from a report made here; tests/calibration make it from a calibration."""

from __future__ import annotations

import html
import re

import pytest
from calibration_report import comparison, report

from molre_edge.reports.calibration_page import render


def cells_of(row: str) -> list[str]:
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in cells]


def test_the_parity_table_has_comparisons_as_rows_and_numbers_with_limits_as_columns() -> None:
    page = render(report())
    [table] = re.findall(r'aria-label="Parity by comparison"><table class="cards">(.*?)</table>', page, re.S)
    head, *rows = (cells_of(row) for row in re.findall(r"<tr>(.*?)</tr>", table, re.S))
    assert head == ["comparison", "volumes", "verdict", "largest |Δp|", "decision flips", "smallest cosine"]
    assert [row[0].split(" compared")[0] for row in rows] == ["golden volumes", "all 48 scans"]
    assert rows[0][2:] == ["✓ pass", "0.0123 ≤ 0.045", "0.667 % ≤ 1 %", "0.999543 ≥ 0.991000"]
    assert rows[1][3] == "0.0441 ≤ 0.045"
    assert "at 90 % of the" in page
    assert "a sentence" not in page, "the numbers say it"


def test_the_number_of_layers_has_one_wording() -> None:
    page = html.unescape(render(report()))
    assert page.count("5 of 23 layers in INT8, with 74.4% of the weights") == 1
    assert re.findall(r"\d+ of \d+ layers", page) == ["5 of 23 layers"]


def test_the_chart_says_which_items_are_int8_and_the_most_sensitive_come_first() -> None:
    page = render(report())
    [table] = re.findall(r'aria-label="Sensitivity by block and layer"><table class="cards">(.*?)</table>', page, re.S)
    rows = [cells_of(row)[:3] for row in re.findall(r"<tr>(.*?)</tr>", table, re.S)[1:]]
    assert rows == [
        ["block 4", "float16", "not finite"],
        ["block 3 (4 layers)", "INT8", "0.5"],
        ["block 1, MLP, first", "float16", "0.4"],
        ["block 2 (4 layers)", "INT8", "0.1"],
    ]
    assert re.findall(r"border-radius: 2px; width: ([\d.]+)%", table) == ["0.0", "100.0", "80.0", "20.0"]


def test_the_page_of_an_fp8_graph_never_says_int8() -> None:
    page = html.unescape(render(report("fp8")))
    assert "int8" not in page.lower()
    for words in ("FP8 calibration", "Sensitivity to FP8", "why not FP8", "rounds: fp8 is", "reference → fp8"):
        assert words in page


def test_every_wide_table_scrolls_by_itself_and_can_be_reached_by_keyboard() -> None:
    page = render(report())
    regions = re.findall(
        r'<div class="scroll" role="region" tabindex="0" aria-label="[^"]+"><table class="cards">.*?</table></div>',
        page,
        re.S,
    )
    rest = page
    for region in regions:
        rest = rest.replace(region, "")
    for table in re.findall(r"<table.*?</table>", rest, re.S):
        assert all(len(cells_of(row)) <= 2 for row in re.findall(r"<tr>(.*?)</tr>", table, re.S))
    assert len(regions) == 5 and "<svg" not in page


def test_names_are_escaped_and_no_header_is_empty() -> None:
    page = render(report())
    assert "<oedema>" not in page and "&lt;oedema&gt;" in page
    assert not re.search(r"<th[^>]*>\s*</th>", page)


@pytest.mark.parametrize("auc", [None, {"reference": 0.9, "engine": 0.89, "low": -0.02, "high": 0.01}])
def test_an_auc_is_shown_with_its_interval_and_marks_if_there_is_one(auc: dict[str, float] | None) -> None:
    data = report()
    data["comparisons"][1] = comparison("all 48 scans", 0.02, auc)
    data["comparisons"][1]["findings"][0]["marks"] = ["few cases"]
    [table] = re.findall(r'aria-label="Parity by finding">(.*?)</table>', render(data), re.S)
    shown = cells_of(table)[-1]
    assert shown == ("–" if auc is None else "0.900 → 0.890 [−0.0200, +0.0100] few cases")
