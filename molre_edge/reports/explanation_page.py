"""The page of an explanation: the first step that differs, the chain, and both sides in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.files import write_whole

if TYPE_CHECKING:
    from molre_edge.reports.figure import Figure

__all__ = ["Pair", "write_explanation"]

_MOST_POINTS = 2000


@dataclass(frozen=True, eq=False)
class Pair:
    """A value on both sides.

    Attributes:
        title: what it is.
        whose: the second side, in words.
        ours: [rows, cols], or [n] values.
        yours: same shape.
        range: values shown as black and white; None for values that are no image.
    """

    title: str
    whose: str
    ours: npt.NDArray[Any]
    yours: npt.NDArray[Any]
    range: tuple[float, float] | None


def write_explanation(
    folder: Path, explanation: Mapping[str, Any], places: Sequence[str], pairs: Sequence[Pair]
) -> Path:
    """Write ``explanation.html``, whole; the page stands alone.

    Args:
        folder: to write to.
        explanation: as :meth:`molre_edge.own_model.parting.explanation.Explanation.to_dict` gives it.
        places: what each part of its chain is, in words.
        pairs: both sides in pictures.
    """
    from molre_edge.reports.template import render_template

    shown = [_shown(pair, f"pair-{place}") for place, pair in enumerate(pairs)]
    rows = list(zip(places, explanation["chain"], strict=True))
    page = render_template("explanation.html", {"found": explanation, "rows": rows, "pairs": shown, "pictures": True})
    path = folder / "explanation.html"
    with write_whole(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _shown(pair: Pair, name: str) -> dict[str, Any]:
    """A pair for the template."""
    from molre_edge.reports.images import as_png
    from molre_edge.reports.plots import picture

    if pair.range is None:
        chart = picture(
            lambda figure: _paint(figure, pair), name=name, alt=f"{pair.title}: yours against the rebuild's"
        )
        return {"title": pair.title, "whose": pair.whose, "chart": chart, "images": []}
    apart = np.abs(pair.ours.astype(np.float64) - pair.yours)
    low, high = pair.range
    images = [
        ("the rebuild's", as_png(pair.ours, low, high)),
        (pair.whose, as_png(pair.yours, low, high)),
        (f"difference, white is {(high - low) / 2:.3g}", as_png(apart, 0.0, (high - low) / 2)),
    ]
    return {"title": pair.title, "whose": pair.whose, "chart": None, "images": images}


def _paint(figure: Figure, pair: Pair) -> None:
    """Yours against the rebuild's, and the line on which equal values lie."""
    from molre_edge.reports.plots import COLOURS, tidy

    axes = figure.subplots()
    step = max(1, len(pair.ours) // _MOST_POINTS)
    ours, yours = pair.ours[::step], pair.yours[::step]
    ends = [float(min(ours.min(), yours.min())), float(max(ours.max(), yours.max()))]
    axes.plot(ends, ends, color=COLOURS["grey"], linestyle="--", linewidth=1.0)
    axes.plot(ours, yours, "o", markersize=3.6, color=COLOURS["accent"], markeredgewidth=0)
    axes.set_xlabel("the rebuild's")
    axes.set_ylabel("yours")
    tidy(axes)
