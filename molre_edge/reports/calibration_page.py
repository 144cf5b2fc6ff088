"""The page of a calibration: what ``calibration/report.json`` says, laid out for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from molre_edge.reports.template import render_template

__all__ = ["render"]

_BAR = 420.0  # pixels of the longest bar
_MOST_BARS = 60


def render(report: Mapping[str, Any]) -> str:
    """One self-contained HTML page: no scripts, nothing loaded, every text escaped."""
    return render_template("calibration.html", {"report": report, "bars": _bars(report), "findings": _findings(report)})


def _bars(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sensitivity chart: a bar an item of the ranking, the most harmful first."""
    ranked = list(enumerate(report["ranked"]))[::-1][:_MOST_BARS]
    longest = max((item["strain"] or 0.0 for _, item in ranked), default=0.0) or 1.0
    return [
        {
            "name": item["name"],
            "layers": item["layers"],
            "strain": item["strain"],
            "width": round(_BAR * (item["strain"] or 0.0) / longest, 1),
            "taken": place < report["taken"],
        }
        for place, item in ranked
    ]


def _findings(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The findings of every comparison side by side, the worst first."""
    parts = report["judged"]
    rows = [
        {"finding": cells[0]["finding"], "cells": cells, "worst": max(cell["max_abs_dp"] or 0.0 for cell in cells)}
        for cells in zip(*(part["findings"] for part in parts), strict=True)
    ]
    return sorted(rows, key=lambda row: -row["worst"])
