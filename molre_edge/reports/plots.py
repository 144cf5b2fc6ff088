"""Pictures for pages: SVG that takes its colours, font and light or dark setting from the page.

Colours are drawn under stand-ins, which become the page's CSS variables. Nothing of a picture depends on the time or
on the machine, so that the same report is written the same way.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Literal

from molre_edge.reports.figure import Axes, Figure

__all__ = ["COLOURS", "SERIES", "WIDTH", "picture", "tidy"]

WIDTH = 480.0
"""Of a picture, in pixels of the page: two beside each other on a desk, and readable when scaled to a phone."""

_NAMES = ("ink", "soft", "line", "faint", "paper", "accent", "grey", "warm", "cool", "fail")
COLOURS = {name: f"#0e0d{place:02x}" for place, name in enumerate(_NAMES)}
"""Name of a CSS variable of the page -> the colour to draw with for it."""

SERIES = tuple(f"#0e0e{place:02x}" for place in range(6))
"""The colours of runs side by side: ``--series-1`` and so on. Told apart by shape of the line or marker as well."""

_VARIABLES = {value: name for name, value in COLOURS.items()} | {
    value: f"series-{place + 1}" for place, value in enumerate(SERIES)
}


def picture(
    paint: Callable[[Figure], None], *, name: str, alt: str, width: float = WIDTH, height: float = 280.0
) -> str:
    """Draw a figure and give it as an SVG element to put into a page.

    Args:
        paint: draws on the empty figure, with colours out of :data:`COLOURS` and :data:`SERIES`.
        name: of the picture, unique in its page: ids in the SVG are made of it.
        alt: what the picture shows, for those who can't see it.
        width: pixels.
        height: pixels.
    """
    figure = Figure(name, width, height, COLOURS)
    paint(figure)
    body = re.sub(r"#0e0[de][0-9a-f]{2}", lambda found: f"var(--{_VARIABLES[found[0]]})", figure.svg())
    head = f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" style="max-width: {1.15 * width:.0f}px" role="img"'
    return f'{head} aria-label="{html.escape(alt)}">{body}</svg>'


def tidy(axes: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """A quiet frame: grid lines in the direction(s) given, behind everything."""
    axes.grid(axis=grid)
