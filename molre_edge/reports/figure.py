"""Figures for pages, written as SVG: a small part of matplotlib's interface, without its second of work for a page.

A chart that is painted on a :class:`Figure` can be painted on matplotlib's, which is how tests look at what it draws.
Colours are drawn as they are given; :mod:`molre_edge.reports.plots` gives them those of the page.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.reports.axis import Axis

__all__ = ["Axes", "Figure"]

_FONT, _TICK_FONT = 12.0, 11.5
_CHARACTER = 0.62  # width of a character over the height of its font: of a wide font, such as DejaVu Sans
_GAP = 6.0
_MARKS = {  # within a circle of radius 1, y downwards
    "s": "M-.8 -.8H.8V.8H-.8Z",
    "D": "M0 -1L1 0L0 1L-1 0Z",
    "^": "M0 -.9L.9 .8H-.9Z",
    "v": "M0 .9L.9 -.8H-.9Z",
    "P": "M-.3 -.9H.3V-.3H.9V.3H.3V.9H-.3V.3H-.9V-.3H-.3Z",
}
_DASHES = {"-": "", "--": "3.7 1.6", "-.": "6.4 1.6 1 1.6", ":": "1 1.65"}  # in widths of the line

_Values = Any
_LineStyle = str | tuple[float, tuple[float, ...]]


class _Spines:
    """The frame's lines: all of them are there, or none."""

    def __init__(self) -> None:
        self.visible = True

    def __getitem__(self, which: slice) -> _Spines:
        return self

    def set_visible(self, visible: bool) -> None:
        self.visible = visible


class Axes:
    """A plot of a figure: lines, bands and marks on two axes."""

    def __init__(self, xaxis: Axis) -> None:
        """Nothing is drawn yet; an x axis may be shared."""
        self.xaxis, self.yaxis, self.spines = xaxis, Axis(), _Spines()
        self.title, self.xlabel, self.ylabel = "", "", ""
        self.labels: list[tuple[str, dict[str, Any]]] = []
        self._grid = ""
        self._behind: list[tuple[_Values, _Values, str]] = []
        self._lines: list[tuple[_Values, _Values, str]] = []
        self._marks: list[tuple[_Values, _Values, dict[str, Any]]] = []
        self._texts: list[tuple[float, float, str, str, float]] = []

    def set_xlim(self, left: float, right: float) -> None:
        """The values at both ends."""
        self.xaxis.limits = (float(left), float(right))

    def set_ylim(self, bottom: float, top: float) -> None:
        """The values at both ends."""
        self.yaxis.limits = (float(bottom), float(top))

    def get_xlim(self) -> tuple[float, float]:
        """The values at both ends."""
        return self.xaxis.ends()

    def set_xscale(self, scale: str) -> None:
        """``log`` or ``linear``."""
        self.xaxis.log = scale == "log"

    def set_yscale(self, scale: str) -> None:
        """``log`` or ``linear``."""
        self.yaxis.log = scale == "log"

    def set_xticks(self, ticks: Iterable[float], labels: Iterable[str] | None = None) -> None:
        """Ticks with their texts."""
        self.xaxis.set_ticks(ticks, labels)

    def set_yticks(self, ticks: Iterable[float], labels: Iterable[str] | None = None) -> None:
        """Ticks with their texts."""
        self.yaxis.set_ticks(ticks, labels)

    def get_xticks(self) -> list[float]:
        """Those that were set."""
        return [value for value, _ in self.xaxis.ticks or ()]

    def set_xlabel(self, text: str) -> None:
        """What the values are, with their unit."""
        self.xlabel = text

    def set_ylabel(self, text: str) -> None:
        """What the values are, with their unit."""
        self.ylabel = text

    def set_title(self, text: str, **_: Any) -> None:
        """Above the plot, on the left."""
        self.title = text

    def grid(self, *, axis: str = "both") -> None:
        """Lines behind everything: at the ticks of ``x``, ``y`` or ``both``."""
        self._grid = "xy" if axis == "both" else axis

    def axhline(self, y: float, **style: Any) -> None:
        """A line from end to end."""
        self._lines.append(((None, None), (y, y), _stroke(**style)))

    def axvline(self, x: float, **style: Any) -> None:
        """A line from end to end."""
        self._lines.append(((x, x), (None, None), _stroke(**style)))

    def axhspan(self, low: float, high: float, *, color: str, alpha: float = 1.0, linewidth: float = 0.0) -> None:
        """A band from end to end."""
        self._behind.append(((None, None), (low, high), _fill(color, alpha)))

    def barh(self, y: float, width: float, height: float, left: float, **style: Any) -> None:
        """A box around `y` that begins at `left`."""
        self.xaxis.see((left, left + width))
        self.yaxis.see((y - height / 2, y + height / 2))
        self._behind.append(((left, left + width), (y - height / 2, y + height / 2), _fill(**style)))

    def hlines(self, y: _Values, xmin: _Values, xmax: _Values, **style: Any) -> None:
        """A line for each of `y`."""
        y = self.yaxis.see(y)
        first_ends, last_ends = (np.broadcast_to(self.xaxis.see(x), y.shape) for x in (xmin, xmax))
        for at, first, last in zip(y, first_ends, last_ends, strict=True):
            self._lines.append(((first, last), (at, at), _stroke(**style)))

    def vlines(self, x: _Values, ymin: _Values, ymax: _Values, **style: Any) -> None:
        """A line for each of `x`."""
        x = self.xaxis.see(x)
        low, high = (np.broadcast_to(self.yaxis.see(y), x.shape) for y in (ymin, ymax))
        for at, first, last in zip(x, low, high, strict=True):
            self._lines.append(((at, at), (first, last), _stroke(**style)))

    def plot(self, x: _Values, y: _Values, mark: str = "", *, label: str = "", **style: Any) -> None:
        """A line through points; with a mark out of ``osD^vP``, the points alone."""
        x, y = self.xaxis.see(x), self.yaxis.see(y)
        if mark:
            self._marks.append((x, y, {"mark": mark, **style}))
        else:
            self._lines.append((x, y, _stroke(**style)))
        if label:
            self.labels.append((label, {"mark": mark, **style}))

    def text(self, x: float, y: float, text: str, *, color: str = "", fontsize: float = _FONT, **_: Any) -> None:
        """A text centred on a point."""
        self._texts.append((x, y, text, color, fontsize))

    def draw(self, box: tuple[float, float, float, float], look: _Look, clip: str) -> list[str]:
        """SVG elements.

        Args:
            box: left, top, width and height of the area that the axes span.
            look: of the figure.
            clip: id of the path that ends lines at the box.
        """
        left, top, width, height = box

        def place(x: _Values, y: _Values) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
            xs = np.array([0.0, 1.0]) if _from_end_to_end(x) else self.xaxis.share(x)
            ys = np.array([0.0, 1.0]) if _from_end_to_end(y) else self.yaxis.share(y)
            return left + width * xs, top + height * (1 - ys)

        drawn = [f'<clipPath id="{clip}"><rect {_rect(left - 1, top - 1, width + 2, height + 2)}/></clipPath>']
        drawn.append(f'<g clip-path="url(#{clip})">')
        for xs, ys, style in self._behind:
            (x0, x1), (y0, y1) = place(xs, ys)
            rect = _rect(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))
            drawn.append(f'<rect {rect} style="{style}"/>')
        drawn += self._ticks(box, look)
        drawn += [f'<path d="{_path(*place(x, y))}" style="{style}"/>' for x, y, style in self._lines if len(x)]
        drawn.append("</g>")
        for x, y, options in self._marks:
            drawn += look.marks(*place(x, y), **options)
        for x, y, text, colour, size in self._texts:
            (at_x,), (at_y,) = place([x], [y])
            drawn.append(look.text(at_x, at_y + 0.36 * size, text, "middle", size, colour))
        return drawn

    def _ticks(self, box: tuple[float, float, float, float], look: _Look) -> list[str]:
        """The grid, inside of the group of lines; ended there, since texts stand outside."""
        left, top, width, height = box
        xs = [left + width * share for share, _ in self.xaxis.shown()] if "x" in self._grid else []
        ys = [top + height * (1 - share) for share, _ in self.yaxis.shown()] if "y" in self._grid else []
        d = "".join(f"M{_n(x)} {_n(top)}V{_n(top + height)}" for x in xs)
        d += "".join(f"M{_n(left)} {_n(y)}H{_n(left + width)}" for y in ys)
        return [f'<path d="{d}" style="fill: none; stroke: {look.faint}; stroke-width: 0.8"/>'] if d else []


class _Look:
    """Colours of the parts that charts do not choose, texts, and the marks that a figure has used."""

    def __init__(self, name: str, colours: dict[str, str]) -> None:
        self.name = name
        self.line, self.faint, self.soft, self.ink = (colours[each] for each in ("line", "faint", "soft", "ink"))
        self.used: dict[str, str] = {}

    def text(self, x: float, y: float, text: str, anchor: str, size: float = _TICK_FONT, colour: str = "") -> str:
        style = f"font-size: {size:g}px; text-anchor: {anchor}; fill: {colour or self.soft}"
        return f'<text x="{_n(x)}" y="{_n(y)}" style="{style}">{html.escape(text)}</text>'

    def marks(self, xs: _Values, ys: _Values, *, mark: str, markersize: float = 6.0, **style: Any) -> list[str]:
        known = np.isfinite(xs) & np.isfinite(ys)
        key = f"{mark}{markersize:g}"
        if key not in self.used:
            radius = markersize / 2
            shape = f'<circle id="%s" r="{_n(radius, 2)}"/>'
            if mark != "o":
                shape = f'<path id="%s" d="{_MARKS[mark]}" transform="scale({_n(radius, 2)})"/>'
            self.used[key] = shape % f"{self.name}-m{len(self.used)}"
        number_of = list(self.used).index(key)
        places = zip(np.asarray(xs)[known], np.asarray(ys)[known], strict=True)
        uses = "".join(f'<use href="#{self.name}-m{number_of}" x="{_n(x)}" y="{_n(y)}"/>' for x, y in places)
        colour, alpha = style["color"], style.get("alpha", 1.0)
        return [f'<g style="{_fill(colour, alpha)}">{uses}</g>'] if uses else []


class Figure:
    """A picture with plots below each other, and a legend above them."""

    def __init__(self, name: str, width: float, height: float, colours: dict[str, str]) -> None:
        """Empty, in pixels.

        Args:
            name: of the picture: ids are made of it.
            width: pixels.
            height: pixels.
            colours: of ``line``, ``faint``, ``soft`` and ``ink``.
        """
        self.name, self.width, self.height = name, width, height
        self._look = _Look(name, colours)
        self._plots: list[Axes] = []
        self._columns = 0

    def subplots(self, rows: int = 1, columns: int = 1, *, sharex: bool = False, squeeze: bool = True) -> Any:
        """Plots below each other: one :class:`Axes`, or an array [rows, 1] of them."""
        shared = Axis()
        self._plots = [Axes(shared if sharex else Axis()) for _ in range(rows)]
        if squeeze and rows == 1:
            return self._plots[0]
        every = np.empty((rows, columns), dtype=object)
        every[:, 0] = self._plots
        return every

    def legend(self, *, loc: str = "", ncols: int = 1) -> None:
        """What each labelled line or mark is, above the plots, in so many columns."""
        self._columns = ncols

    def svg(self) -> str:
        """The elements of the picture, without the element around them."""
        entries = [entry for axes in self._plots for entry in axes.labels] if self._columns else []
        top, drawn = self._legend(entries)
        left = 4.0 + max(self._room_left(axes) for axes in self._plots)
        width = max(self.width - left - 12.0, 1.0)
        heads = [_FONT + _GAP + 2 if axes.title or axes.xaxis.at_end else 5.0 for axes in self._plots]
        feet = [self._foot(axes, axes is self._plots[-1]) for axes in self._plots]
        height = max((self.height - top - sum(heads) - sum(feet)) / len(self._plots), 1.0)
        for place, (axes, head, foot) in enumerate(zip(self._plots, heads, feet, strict=True)):
            top += head
            box = (left, top, width, height)
            drawn += axes.draw(box, self._look, f"{self.name}-c{place}")
            drawn += self._frame(axes, box, last=axes is self._plots[-1])
            top += height + foot
        marks = "".join(self._look.used.values())
        return (f"<defs>{marks}</defs>" if marks else "") + "".join(drawn)

    def _room_left(self, axes: Axes) -> float:
        texts = [_width(text, _TICK_FONT) for _, text in axes.yaxis.shown()]
        # the text of the first tick below is centred on it
        return max([*texts, 0.0]) + _GAP + (_FONT + _GAP if axes.ylabel else 0.0)

    def _foot(self, axes: Axes, last: bool) -> float:
        shares = last or axes.xaxis is not self._plots[-1].xaxis
        ticks = _TICK_FONT + _GAP if shares and not axes.xaxis.at_end else 0.0
        return ticks + (_FONT + _GAP if axes.xlabel else 0.0) + 5.0

    def _frame(self, axes: Axes, box: tuple[float, float, float, float], *, last: bool) -> list[str]:
        """Lines on the left and below, and all texts outside of them."""
        left, top, width, height = box
        bottom, look, drawn = top + height, self._look, list[str]()
        if axes.spines.visible:
            d = f"M{_n(left)} {_n(top)}V{_n(bottom)}H{_n(left + width)}"
            drawn.append(f'<path d="{d}" style="fill: none; stroke: {look.line}; stroke-width: 0.8"/>')
        for share, text in axes.yaxis.shown():
            drawn.append(look.text(left - _GAP, bottom - height * share + 0.36 * _TICK_FONT, text, "end"))
        if last or axes.xaxis is not self._plots[-1].xaxis:
            y = top - _GAP if axes.xaxis.at_end else bottom + _TICK_FONT + 3
            for share, text in axes.xaxis.shown():
                half = _width(text, _TICK_FONT) / 2
                x = min(max(left + width * share, half), self.width - half)
                drawn.append(look.text(x, y, text, "middle"))
        if axes.title:
            drawn.append(look.text(left, top - _GAP, axes.title, "start", _FONT))
        if axes.xlabel:
            half = _width(axes.xlabel, _FONT) / 2
            x = max(min(left + width / 2, self.width - half), half)
            drawn.append(look.text(x, bottom + _TICK_FONT + 3 + _GAP + _FONT - 2, axes.xlabel, "middle", _FONT))
        if axes.ylabel:
            style = f"font-size: {_FONT:g}px; text-anchor: middle; fill: {look.soft}"
            place = f'transform="translate({_n(_FONT)} {_n(top + height / 2)}) rotate(-90)"'
            drawn.append(f'<text {place} style="{style}">{html.escape(axes.ylabel)}</text>')
        return drawn

    def _legend(self, entries: Sequence[tuple[str, dict[str, Any]]]) -> tuple[float, list[str]]:
        """The height of the legend, and its elements."""
        drawn, row = list[str](), _FONT + _GAP
        for place, (label, style) in enumerate(entries):
            x = 8 + (self.width - 16) / self._columns * (place % self._columns)
            y = row * (place // self._columns) + row / 2
            if style["mark"]:
                drawn += self._look.marks([x + 10], [y], **style)
            else:
                stroke = _stroke(**{name: value for name, value in style.items() if name != "mark"})
                drawn.append(f'<path d="M{_n(x)} {_n(y)}H{_n(x + 20)}" style="{stroke}"/>')
            drawn.append(self._look.text(x + 26, y + 0.36 * _TICK_FONT, label, "start", _TICK_FONT, self._look.ink))
        return (row * math.ceil(len(entries) / self._columns) if entries else 0.0), drawn


def _from_end_to_end(values: _Values) -> bool:
    return isinstance(values, tuple) and values[0] is None


def _stroke(*, color: str, alpha: float = 1.0, linewidth: float = 1.6, linestyle: _LineStyle = "-", **_: Any) -> str:
    dash = _DASHES[linestyle] if isinstance(linestyle, str) else " ".join(f"{part:g}" for part in linestyle[1])
    lengths = " ".join(_n(float(part) * linewidth) for part in dash.split())
    words = [f"fill: none; stroke: {color}; stroke-width: {linewidth:g}"]
    words += [f"stroke-opacity: {alpha:g}"] if alpha < 1 else []
    words += [f"stroke-dasharray: {lengths}"] if lengths else []
    return "; ".join(words)


def _fill(color: str, alpha: float = 1.0, **_: Any) -> str:
    return f"fill: {color}" + (f"; fill-opacity: {alpha:.3g}" if alpha < 1 else "")


def _path(xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> str:
    """A line through points; it is cut where one has no place."""
    parts, pen = [], "M"
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            parts.append(f"{pen}{_n(x)} {_n(y)}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _rect(left: float, top: float, width: float, height: float) -> str:
    return f'x="{_n(left)}" y="{_n(top)}" width="{_n(width)}" height="{_n(height)}"'


def _width(text: str, size: float) -> float:
    return _CHARACTER * size * len(text)


def _n(value: float, digits: int = 1) -> str:
    """A tenth of a pixel is enough."""
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"
