"""The pictures of a report: agreement, spread, AUC, scans and time. Other modules compute what they show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.findings import finding_words
from molre_edge.parity.auc import Z_95, AucComparison
from molre_edge.parity.limits import ParityLimits
from molre_edge.parity.numbers import ParityNumbers
from molre_edge.parity.text import milliseconds, number
from molre_edge.reports.axis import Axis
from molre_edge.reports.figure import Figure
from molre_edge.reports.plots import COLOURS, SERIES, picture, tidy

__all__ = ["POINTS", "Agreement", "agreement", "auc_differences", "auc_levels", "scan_by_scan", "spread", "times"]

POINTS = 1500
"""The most points in the agreement plot; more only make the file larger."""
_LARGEST = 300  # points of these for the largest differences
_FLOOR = 1e-9  # the place of "no difference" on a logarithmic scale
_MARKS = "osD^vP"
_LINES: tuple[str | tuple[float, tuple[float, ...]], ...] = ("-", "--", "-.", ":", (0, (6, 1.5)), (0, (1, 1)))

_F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """The agreement plot and what its caption says.

    Attributes:
        svg: the picture.
        shown: points drawn.
        total: scan-findings that are finite in both.
        flips: of them, decisions that changed.
        low: lower 95 % limit of agreement.
        high: upper one.
        limit_inside: whether the limit on |Δp| lies within the picture.
    """

    svg: str
    shown: int
    total: int
    flips: int
    low: float
    high: float
    limit_inside: bool


def agreement(
    reference: _F64, engine: _F64, thresholds: _F64, numbers: ParityNumbers, limits: ParityLimits
) -> Agreement | None:
    """Difference against mean, after J. M. Bland and D. G. Altman, Lancet 327 (1986) 307-310.

    Args:
        reference: probabilities, float64 (n, findings), nan where not finite.
        engine: the same.
        thresholds: float64 (findings,).
        numbers: of the two.
        limits: for the limit on |Δp|.
    """
    flipped = ((reference >= thresholds) != (engine >= thresholds)).ravel()
    mean, difference = ((reference + engine) / 2).ravel(), (engine - reference).ravel()
    known = np.flatnonzero(np.isfinite(difference))
    if not known.size:
        return None
    mean, difference, flipped = mean[known], difference[known], flipped[known]
    shown = _thin(difference, flipped)
    reach = _round_up(float(np.abs(difference).max()))
    centre, sd = numbers.dp.mean or 0.0, numbers.dp.sd or 0.0
    low, high = centre - Z_95 * sd, centre + Z_95 * sd
    inside = limits.max_abs_dp is not None and limits.max_abs_dp <= reach

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhspan(max(low, -reach), min(high, reach), color=COLOURS["accent"], alpha=0.1, linewidth=0)
        axes.axhline(centre, color=COLOURS["accent"], linewidth=1.2)
        if limits.max_abs_dp is not None and inside:
            for limit in (-limits.max_abs_dp, limits.max_abs_dp):
                axes.axhline(limit, color=COLOURS["fail"], linewidth=1.2, linestyle="--")
        for flip, colour, size, alpha, mark in (
            (False, COLOURS["accent"], 3.6, 0.42, "o"),
            (True, COLOURS["warm"], 6.5, 1.0, "D"),
        ):
            at = [i for i in shown if bool(flipped[i]) == flip]
            axes.plot(mean[at], difference[at], mark, markersize=size, color=colour, alpha=alpha, markeredgewidth=0)
        axes.set_xlim(0, 1)
        axes.set_ylim(-1.04 * reach, 1.04 * reach)
        tidy(axes)
        axes.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0", "0.25", "0.5", "0.75", "1"))
        at_ticks = [reach * share for share in (-1, -0.5, 0, 0.5, 1)]
        axes.set_yticks(at_ticks, [number(tick, signed=True) for tick in at_ticks])
        axes.set_xlabel("mean probability of reference and engine")
        axes.set_ylabel("Δp, engine − reference")

    alt = (
        f"Differences of {known.size} probabilities against their mean: mean difference {number(centre, signed=True)}, "
        f"95 % limits of agreement {number(low, signed=True)} to {number(high, signed=True)}, "
        f"{int(flipped.sum())} flips"
    )
    svg = picture(paint, name="agreement", alt=alt)
    return Agreement(svg, len(shown), int(known.size), int(flipped.sum()), low, high, inside)


def spread(sizes: Mapping[str, _F64], limits: Mapping[str, float]) -> str | None:
    """The share of |Δp| that is larger than each size, one line a run.

    Args:
        sizes: run -> absolute differences that are finite.
        limits: run -> its limit on |Δp|, a dashed line: red, or in the run's colour if the limits differ.
    """
    sizes = {name: np.sort(values) for name, values in sizes.items() if values.size}
    if not sizes:
        return None
    everything = np.concatenate([*sizes.values(), np.array(list(limits.values()))])
    positive = everything[everything > _FLOOR]
    if not positive.size:
        return None
    low, high = 10.0 ** math.floor(math.log10(positive.min())), 10.0 ** math.ceil(math.log10(positive.max()) + 0.01)
    low = max(low, high * 1e-7)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (name, values) in enumerate(sizes.items()):
            points = np.unique(np.linspace(0, values.size - 1, 400).astype(int))
            axes.plot(
                np.maximum(values[points], low / 10),
                100 * (1 - points / values.size),
                color=SERIES[place % len(SERIES)],
                linestyle=_LINES[place % len(_LINES)],
                label=_short(name),
            )
        for limit in sorted(set(limits.values())):
            its = [place for place, name in enumerate(sizes) if limits.get(name) == limit]
            alone = len(set(limits.values())) > 1 and len(its) == 1
            colour = SERIES[its[0] % len(SERIES)] if alone else COLOURS["fail"]
            axes.axvline(limit, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(-2, 102)
        tidy(axes)
        _powers(axes.xaxis, low, high)
        axes.set_xlabel("|Δp|")
        axes.set_ylabel("% of decisions differ by more")
        if len(sizes) > 1:
            _legend(figure, list(sizes))

    told = "; ".join(f"{name}: median {number(float(np.median(values)))}" for name, values in sizes.items())
    return picture(
        paint, name="spread", alt=f"Share of decisions whose probability differs by more than a size. {told}"
    )


def auc_differences(rows: Sequence[tuple[str, float, float, float]]) -> str | None:
    """A line a finding: engine's AUC minus the reference's with its 95 % interval.

    Args:
        rows: (finding, difference, low, high).
    """
    if not rows:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(rows))[::-1]
        middle = np.array([row[1] for row in rows])
        axes.axvline(0, color=COLOURS["line"], linewidth=1.2)
        axes.hlines(places, [row[2] for row in rows], [row[3] for row in rows], color=COLOURS["accent"], alpha=0.45)
        axes.plot(middle, places, "o", color=COLOURS["accent"], markersize=5, markeredgewidth=0)
        axes.set_yticks(places, [_short(finding_words(row[0])) for row in rows])
        axes.set_ylim(-0.7, len(rows) - 0.3)
        tidy(axes, grid="x")
        axes.set_xlabel("AUC, engine − reference")

    low = min(rows, key=lambda row: row[1])
    lowest = f"{number(low[1], signed=True)} in {finding_words(low[0])}"
    alt = f"AUC differences of {len(rows)} findings; the lowest is {lowest}"
    return picture(paint, name="auc", alt=alt, height=60 + 19.0 * len(rows))


def auc_levels(rows: Sequence[tuple[str, AucComparison]]) -> str:
    """Two lines a finding: the AUC of reference and engine, each with its 95 % interval; chance is a line.

    Args:
        rows: (finding, comparison), at least one.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(rows))[::-1]
        axes.axvline(0.5, color=COLOURS["line"], linewidth=1.2)
        sides = [
            ("reference", [each.reference for _, each in rows], [each.reference_interval for _, each in rows]),
            ("engine", [each.engine for _, each in rows], [each.engine_interval for _, each in rows]),
        ]
        for place, (name, values, intervals) in enumerate(sides):
            at, colour = places + 0.17 - 0.34 * place, SERIES[place]
            axes.hlines(at, [low for low, _ in intervals], [high for _, high in intervals], color=colour, alpha=0.5)
            axes.plot(values, at, _MARKS[place], color=colour, markersize=5, markeredgewidth=0, label=name)
        axes.set_yticks(places, [_short(finding_words(name)) for name, _ in rows])
        axes.set_ylim(-0.7, len(rows) - 0.3)
        tidy(axes, grid="x")
        axes.set_xlabel("AUC; the grey line is chance")
        _legend(figure, ["reference", "engine"])

    alt = f"AUC of reference and engine in {len(rows)} findings, with 95 % intervals; the table below has the numbers"
    return picture(paint, name="auc-levels", alt=alt, height=78 + 19.0 * len(rows))


def scan_by_scan(numbers: ParityNumbers, dp: _F64, dlogit: _F64, limits: ParityLimits) -> str:
    """Panels over the volumes in their order: largest |Δp|, |Δlogit|, 1 - cosine, routing and attention; logarithmic.

    Args:
        numbers: of the run.
        dp: engine minus reference, float64 (n, findings), nan if not finite.
        dlogit: of :func:`molre_edge.parity.logits.logit_differences`, float64 (n, findings).
        limits: drawn as dashed lines.
    """
    panels: list[tuple[str, _F64, float | None]] = [
        ("largest |Δp|", _rows_largest(np.abs(dp)), limits.max_abs_dp),
        ("largest |Δlogit|", _rows_largest(dlogit), limits.max_abs_dlogit),
        ("1 − cosine", 1 - numbers.cosine, None if limits.min_cosine is None else 1 - limits.min_cosine),
    ]
    if numbers.gates is not None and numbers.gates.experts > 1:
        panels.append(("routing, L1", _rows_largest(numbers.gates.l1), limits.max_routing_l1))
    if numbers.attention is not None:
        panels.append(("attention, L1", numbers.attention.l1, limits.max_attention_l1))

    beyond = np.zeros(numbers.n, dtype=bool)
    for _, values, limit in panels:
        beyond |= False if limit is None else values > limit
    drawn = np.array(_thin(np.nan_to_num(panels[1][1], nan=0.0), beyond))

    def paint(figure: Figure) -> None:
        every = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        at = drawn + 1
        for axes, (name, all_values, limit) in zip(every, panels, strict=True):
            values = all_values[drawn]
            shown = np.maximum(values, _FLOOR)
            known = [float(value) for value in (*shown[np.isfinite(shown)], *((limit,) if limit else ()))]
            low = 10.0 ** math.floor(math.log10(max(min(known, default=1e-6), _FLOOR)))
            high = 10.0 ** (math.floor(math.log10(max([*known, 10 * low]))) + 1)
            if limit:
                axes.axhline(limit, color=COLOURS["fail"], linewidth=1.2, linestyle="--")
            over = np.isfinite(shown) & (values > limit) if limit is not None else np.zeros(len(at), dtype=bool)
            for which, colour, mark in ((~over, COLOURS["accent"], "o"), (over, COLOURS["fail"], "D")):
                axes.plot(at[which], shown[which], mark, color=colour, markersize=_dot(numbers.n), markeredgewidth=0)
            axes.set_yscale("log")
            axes.set_ylim(low, high)
            _powers(axes.yaxis, low, high)
            axes.set_title(name, loc="left")
            tidy(axes, grid="y")
        every[-1].set_xlabel("volume")
        every[-1].set_xlim(0.4, numbers.n + 0.6)
        step = max(1, math.ceil(numbers.n / 8))
        every[-1].set_xticks(range(1, numbers.n + 1, step), [str(at) for at in range(1, numbers.n + 1, step)])

    alt = f"{', '.join(panel[0] for panel in panels)} of each of {numbers.n} volumes, and the limits"
    return picture(paint, name="scans", alt=alt, height=40 + 92.0 * len(panels))


def times(rows: Sequence[tuple[str, str, float, float, float]], name: str = "times") -> str | None:
    """A line a phase: median, and how far p95 and p99 lie from it; logarithmic.

    Args:
        rows: (who, phase, median, p95, p99), milliseconds.
        name: of the picture.
    """
    rows = [row for row in rows if all(math.isfinite(value) for value in row[2:])]
    who = list(dict.fromkeys(row[0] for row in rows))
    phases = list(dict.fromkeys(row[1] for row in rows))
    if not rows:
        return None
    step = 0.62 / max(len(who), 1)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, each in enumerate(who):
            colour, mark = SERIES[place % len(SERIES)], _MARKS[place % len(_MARKS)]
            mine = [row for row in rows if row[0] == each]
            at = np.array([phases.index(row[1]) + step * (place - (len(who) - 1) / 2) for row in mine])
            medians, p95s, p99s = (np.array([max(row[i], 1e-4) for row in mine]) for i in (2, 3, 4))
            axes.hlines(at, medians, p99s, color=colour, alpha=0.45, linewidth=1.4)
            axes.hlines(at, medians, p95s, color=colour, alpha=0.55, linewidth=4)
            axes.plot(medians, at, mark, color=colour, markersize=6, markeredgewidth=0, label=_short(each))
        axes.set_yticks(range(len(phases)), [_short(phase) for phase in phases])
        axes.set_ylim(len(phases) - 0.5, -0.5)
        axes.set_xscale("log")
        tidy(axes, grid="x")
        low, high = axes.get_xlim()
        _powers(axes.xaxis, low, high, show=milliseconds)
        axes.set_xlabel("milliseconds per scan: median, to p95 (thick) and p99 (thin)")
        if len(who) > 1:
            _legend(figure, who)

    told = "; ".join(f"{row[0]} {row[1].replace('_', ' ')} {milliseconds(row[2])}" for row in rows)
    height = 64 + max(26.0, 14.0 * len(who)) * len(phases) + 18.0 * (len(who) if len(who) > 1 else 0)
    return picture(paint, name=name, alt=f"Median milliseconds per scan: {told}", height=height)


def _powers(axis: Axis, low: float, high: float, show: object = None) -> None:
    """Ticks at powers of ten within two ends, at most seven of them, as the page writes numbers."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first) / 6))
    ticks = [10.0**power for power in range(first, last + 1, step)]
    write = show if callable(show) else number
    axis.set_ticks(ticks, [write(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def _legend(figure: Figure, names: Sequence[str]) -> None:
    """Above the axes, where it hides nothing."""
    figure.legend(loc="outside upper left", ncols=1 if max(map(len, names)) > 24 else 2)


def _short(name: str) -> str:
    name = name.replace("_", " ")
    return name if len(name) <= 32 else f"{name[:31]}…"


def _dot(n: int) -> float:
    return 6.0 if n <= 40 else 4.0 if n <= 200 else 2.4


def _rows_largest(values: _F64) -> _F64:
    """The largest finite value of each row, nan where there is none."""
    rows = np.where(np.isfinite(values), values, -1.0).max(axis=1)
    return np.where(rows < 0, np.nan, rows)


def _thin(difference: _F64, flipped: npt.NDArray[np.bool_]) -> list[int]:
    """Indices to draw: all when they are few, else flips, the largest differences and an even sample of the rest."""
    if difference.size <= POINTS:
        return list(range(difference.size))
    largest = np.argsort(-np.abs(difference), kind="stable")
    keep = {int(i) for i in np.flatnonzero(flipped)[: POINTS - _LARGEST]} | {int(i) for i in largest[:_LARGEST]}
    room = POINTS - len(keep)
    keep |= {int(i) for i in np.linspace(0, difference.size - 1, room).astype(int)} if room else set()
    return sorted(keep)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten; a millionth when there is no difference at all."""
    if value <= 0:
        return 1e-6
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if value <= step * power * (1 + 1e-9))
