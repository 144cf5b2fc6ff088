"""The page of a benchmark: figures, what each time includes, and the machine that they were measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molre_edge.files import write_json, write_whole
from molre_edge.machine import NOT_TOLD
from molre_edge.reports.figure import Figure
from molre_edge.reports.plots import COLOURS, SERIES, picture, tidy

__all__ = ["write_bench"]


def write_bench(folder: Path, result: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``bench.json`` and ``bench.html``, each whole; the page stands alone."""
    from molre_edge.reports.template import render_template

    write_json(folder / "bench.json", result)
    rows = result["rows"]
    chart = picture(
        lambda figure: _paint(figure, rows),
        name="bench",
        alt="Milliseconds per scan of each runner and batch size: quartiles, median and extremes of the rounds",
        width=760.0,
        height=70.0 + 34.0 * len(rows),
    )
    page = render_template("bench.html", {"bench": result, "chart": chart, "not_told": NOT_TOLD})
    with write_whole(folder / "bench.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return folder / "bench.json", folder / "bench.html"


def _paint(figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
    """A box a row, in milliseconds per scan: quartiles and median; a line to the extremes."""
    axes = figure.subplots()
    names = list(dict.fromkeys(row["name"] for row in rows))
    most = 0.0
    for place, row in enumerate(rows):
        values = np.asarray(row["total_ms"]) / row["batch"]
        low, first, median, third, high = (float(value) for value in np.percentile(values, (0, 25, 50, 75, 100)))
        ends = {"color": COLOURS["ink"], "linewidth": 1.0}
        axes.hlines(place, low, high, **ends)
        axes.vlines([low, high], place - 0.15, place + 0.15, **ends)
        axes.barh(place, third - first, 0.6, first, color=SERIES[names.index(row["name"]) % len(SERIES)], alpha=0.6)
        axes.vlines([median], place - 0.3, place + 0.3, color=COLOURS["ink"], linewidth=1.6)
        most = max(most, high)
    axes.set_yticks(range(len(rows)), [f"{row['name']}, batch {row['batch']}" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.05 * most or 1.0)
    axes.set_xlabel("milliseconds per scan (box: quartiles and median of the rounds; whiskers: all of them)")
    tidy(axes, "x")
