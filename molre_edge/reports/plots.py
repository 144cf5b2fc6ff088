"""Pictures for pages: matplotlib figures as SVG that takes its colours, font and light or dark setting from the page.

Colours are drawn under stand-ins, which become the page's CSS variables. Nothing of a picture depends on the time or
on the machine, so that the same report is written the same way. Texts are never read as mathematics.
"""

from __future__ import annotations

import html
import io
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "SERIES", "WIDTH", "picture", "tidy"]

WIDTH = 480.0
"""Of a picture, in pixels of the page: two beside each other on a desk, and readable when scaled to a phone."""

_NAMES = ("ink", "soft", "line", "faint", "paper", "accent", "grey", "warm", "cool", "fail")
COLOURS = {name: f"#0e0d{place:02x}" for place, name in enumerate(_NAMES)}
"""Name of a CSS variable of the page -> what to hand to matplotlib for it."""

SERIES = tuple(f"#0e0e{place:02x}" for place in range(6))
"""The colours of runs side by side: ``--series-1`` and so on. Told apart by shape of the line or marker as well."""

_VARIABLES = {value: name for name, value in COLOURS.items()} | {
    value: f"series-{place + 1}" for place, value in enumerate(SERIES)
}
_SETTINGS: Any = {  # matplotlib types the names of its settings one by one
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["line"],
    "axes.facecolor": "none",
    "axes.labelcolor": COLOURS["soft"],
    "axes.labelsize": 12,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib; only measures the texts
    "font.size": 12,
    "grid.color": COLOURS["faint"],
    "legend.fontsize": 11.5,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
    "lines.linewidth": 1.6,
    "path.simplify": False,
    "svg.fonttype": "none",
    "text.color": COLOURS["soft"],
    "text.parse_math": False,
    "xtick.color": COLOURS["soft"],
    "xtick.labelsize": 11.5,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.color": COLOURS["soft"],
    "ytick.labelsize": 11.5,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}
_DPI = 72  # one unit of the SVG is one pixel


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
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache otherwise
    import matplotlib
    from matplotlib.figure import Figure

    file = io.StringIO()
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="constrained")
        paint(figure)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_page(file.getvalue(), alt, width, height)


def tidy(axes: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """A quiet frame: grid lines in the direction(s) given, behind everything."""
    axes.grid(axis=grid)


def _for_page(text: str, alt: str, width: float, height: float) -> str:
    """An SVG file of matplotlib as an element of a page: no ids twice, no style of its own, no needless digits."""
    body = text[text.index("<svg") : text.rindex("</svg>")]
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
    body = re.sub(
        r' (d|x|y|points|transform|width|height)="([^"]*)"',
        lambda found: f' {found[1]}="{_fewer_digits(found[2])}"',
        body,
    )
    body = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;\"]*", _font, body)
    body = re.sub(r"font-family: [^;\"]*(?:; )?", "", body)
    body = re.sub(r"#0e0[de][0-9a-f]{2}", lambda found: f"var(--{_VARIABLES[found[0]]})", body)
    body = re.sub(r">\s+<", "><", body).replace("<defs></defs>", "").replace("<g/>", "")
    body = re.sub(r"(?:<use [^>]*/>){8,}", _shared_style, body)
    head = f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" style="max-width: {1.15 * width:.0f}px" role="img"'
    return f'{head} aria-label="{html.escape(alt)}">{body}</svg>'


def _fewer_digits(path: str) -> str:
    """Coordinates with one decimal: a tenth of a pixel."""
    return re.sub(r"\s+", " ", re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), path))


def _font(found: re.Match[str]) -> str:
    weight = f"font-weight: {found[1]}; " if found[1] else ""
    return f"{weight}font-size: {found[2]}px"


def _shared_style(found: re.Match[str]) -> str:
    """A long row of equal marks says its style once."""
    styles = set(re.findall(r' style="([^"]*)"', found[0]))
    if len(styles) != 1:
        return found[0]
    return f'<g style="{styles.pop()}">' + re.sub(r' style="[^"]*"', "", found[0]) + "</g>"
