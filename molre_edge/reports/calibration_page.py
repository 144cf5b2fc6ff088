"""The page of a calibration: the content of ``calibration/report.json``, laid out for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from molre_edge.parity.text import cosine, number, percent, rounded
from molre_edge.reports.template import render_template

__all__ = ["render"]

_MAX_BARS = 60
_COLUMNS = {
    "max_abs_dp": "largest |Δp|",
    "flips": "decision flips",
    "cosine": "smallest cosine",
    "routing_l1": "routing L1",
    "attention_l1": "attention L1",
    "mean_auc_drop": "loss of mean AUC",
    "finding_auc_drop": "largest loss of AUC",
}


def render(report: Mapping[str, Any]) -> str:
    """One self-contained HTML page: it has no scripts, loads nothing, and escapes every text.

    Args:
        report: of a calibration; docs/reference/calibration.md describes it.
    """
    context = {
        "report": report,
        "bars": _bars(report),
        "parity": _parity(report),
        "findings": _findings(report),
    }
    return render_template("calibration.html", context)


def _bars(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sensitivity chart: one bar per item of the ranking, the most sensitive first."""
    ranked = report["ranking"][::-1][:_MAX_BARS]
    longest = max((item["sensitivity"] or 0.0 for item in ranked), default=0.0) or 1.0
    return [{**item, "width": round(100.0 * (item["sensitivity"] or 0.0) / longest, 1)} for item in ranked]


def _parity(report: Mapping[str, Any]) -> dict[str, Any]:
    """The parity table: comparisons as rows, judged checks as columns; a cell holds a number and its limit."""
    comparisons = report["comparisons"]
    judged = {check["name"] for each in comparisons for check in each["verdict"]["checks"] if check["judged"]}
    names = [name for name in _COLUMNS if name in judged]
    rows = []
    for each in comparisons:
        checks = {check["name"]: check for check in each["verdict"]["checks"]}
        cells = [_cell(checks[name]) for name in names]
        rows.append({**each, "cells": cells, "passed": each["verdict"]["passed"]})
    return {"columns": [_COLUMNS[name] for name in names], "rows": rows}


def _cell(check: Mapping[str, Any]) -> dict[str, Any]:
    """A measured number and its limit, in words; empty words for a check that was not judged."""
    if not check["judged"]:
        return {"measured": "–", "limit": "", "failed": False}
    measured, limit = check["measured"], check["limit"]
    if check["name"] == "cosine":
        words = cosine(measured), f"≥ {cosine(limit)}"
    elif check["name"] == "flips":
        words = percent(measured), f"≤ {percent(limit)}"
    else:
        words = rounded(measured, limit).replace("-", "−"), f"≤ {number(limit)}"
    return {"measured": words[0], "limit": words[1], "failed": not check["passed"]}


def _findings(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The findings of every comparison side by side, the worst first."""
    comparisons = report["comparisons"]
    rows = [
        {
            "finding": cells[0]["finding"],
            "cells": cells,
            "worst": max(cell["max_abs_dp"] or 0.0 for cell in cells),
            "marks": next((cell.get("marks", []) for cell in cells if cell["auc"]), []),
        }
        for cells in zip(*(each["findings"] for each in comparisons), strict=True)
    ]
    return sorted(rows, key=lambda row: -row["worst"])
