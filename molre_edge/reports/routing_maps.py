"""Maps of routers by experts: mean gates of the reference, and engine minus reference."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from molre_edge.parity.numbers import GateNumbers
from molre_edge.parity.text import number
from molre_edge.reports.figure import Axes, Figure
from molre_edge.reports.plots import COLOURS, picture

__all__ = ["gate_maps"]

_ROW = 24.0  # height of a row, pixels
_MANY = 8  # experts beside which a cell has no room for its number

_F64 = npt.NDArray[np.float64]


def gate_maps(gates: GateNumbers) -> tuple[str, str]:
    """Two maps of routers by experts: the reference's mean gates, and engine minus reference.

    The last column of the second map counts the gate vectors of each router that have another leading expert.
    """
    difference = gates.mean_engine - gates.mean_reference
    moves = gates.leader_moves.sum(axis=1)
    height = 46 + _ROW * gates.routers
    full, scale = _largest(gates.mean_reference), _largest(difference)

    def paint_mean(figure: Figure) -> None:
        axes = _map(figure, gates)
        _cells(axes, gates.mean_reference, full, signed=False)

    def paint_difference(figure: Figure) -> None:
        axes = _map(figure, gates)
        _cells(axes, difference, scale, signed=True)
        axes.set_xlim(-0.5, gates.experts + 0.5)
        axes.set_xticks([*axes.get_xticks(), gates.experts], [f"e{e + 1}" for e in range(gates.experts)] + ["moved"])
        for r, count in enumerate(moves):
            axes.text(gates.experts, r, str(count), ha="center", va="center", color=COLOURS["soft"], fontsize=11.5)

    alt = f"mean gate of {gates.routers} routers and {gates.experts} experts"
    return (
        picture(paint_mean, name="gates", alt=f"The reference's {alt}; the largest is {number(full)}", height=height),
        picture(
            paint_difference,
            name="gates-difference",
            alt=f"Engine minus reference, {alt}; the largest difference is {number(scale)}; "
            f"the leading expert changed in {int(moves.sum())} gate vectors",
            height=height,
        ),
    )


def _map(figure: Figure, gates: GateNumbers) -> Axes:
    axes: Axes = figure.subplots()
    axes.set_xlim(-0.5, gates.experts - 0.5)
    axes.set_ylim(gates.routers - 0.5, -0.5)
    axes.set_xticks(range(gates.experts), [f"e{e + 1}" for e in range(gates.experts)])
    axes.xaxis.tick_top()
    axes.set_yticks(range(gates.routers), [f"router {r + 1}" for r in range(gates.routers)])
    axes.spines[:].set_visible(False)
    return axes


def _cells(axes: Axes, values: _F64, scale: float, *, signed: bool) -> None:
    """A box with its number in each cell. Warm is more, cool is less; the number has the sign too."""
    few = values.shape[1] <= _MANY
    for (r, e), value in np.ndenumerate(values):
        strength = abs(value) / scale if np.isfinite(value) and scale > 0 else 0.0
        colour = COLOURS["grey"] if not signed else COLOURS["warm"] if value > 0 else COLOURS["cool"]
        for fill, alpha in ((COLOURS["faint"], 1.0), (colour, 0.72 * strength)):
            axes.barh(r, 0.96, 0.9, e - 0.48, color=fill, alpha=alpha, linewidth=0)
        text = _cell_text(float(value), signed)
        if few:
            axes.text(e, r, text, ha="center", va="center", color=COLOURS["ink"], fontsize=11)


def _cell_text(value: float, signed: bool) -> str:
    if not math.isfinite(value):
        return "–"
    return number(value, 2, signed=True) if signed else f"{value:.3f}"


def _largest(values: _F64) -> float:
    known = np.abs(values[np.isfinite(values)])
    return float(known.max()) if known.size else 0.0
