"""The page of a benchmark: figures, what each time includes, and the machine that they were measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.files import write_json, write_whole
from molre_edge.machine import NOT_TOLD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_bench"]


def write_bench(folder: Path, result: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``bench.json`` and ``bench.html``, each whole; the page stands alone."""
    from molre_edge.reports.plots import picture
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
    """A box a row, in milliseconds per scan."""
    from molre_edge.reports.plots import COLOURS, SERIES, tidy

    axes = figure.add_subplot()
    names = list(dict.fromkeys(row["name"] for row in rows))
    line = {"color": COLOURS["ink"]}
    boxes = axes.boxplot(
        [[value / row["batch"] for value in row["total_ms"]] for row in reversed(rows)],
        orientation="horizontal",
        whis=(0, 100),
        widths=0.6,
        patch_artist=True,
        medianprops=line,
        whiskerprops=line,
        capprops=line,
    )
    for box, row in zip(boxes["boxes"], reversed(rows), strict=True):
        box.set(facecolor=SERIES[names.index(row["name"]) % len(SERIES)], edgecolor=COLOURS["ink"])
    axes.set_yticks(range(1, len(rows) + 1), [f"{row['name']}, batch {row['batch']}" for row in reversed(rows)])
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds per scan (box: quartiles and median of the rounds; whiskers: all of them)")
    tidy(axes, "x")
