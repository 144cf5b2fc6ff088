"""The HTML of a report: words, numbers and the geometry of its pictures. The template only lays them out."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.findings import default_findings
from molre_edge.parity.auc import Z_95
from molre_edge.parity.gate import Gate
from molre_edge.parity.numbers import GateNumbers, ParityNumbers
from molre_edge.parity.report import DISCLAIMER, Report
from molre_edge.parity.text import (
    auc_difference,
    cosine,
    digits_beside,
    milliseconds,
    number,
    percent,
    probability,
)
from molre_edge.parity.verdict import Check

__all__ = ["POINTS", "render"]

_TITLES = {
    "finite": "Finite values",
    "max_abs_dp": "Largest |Δp|",
    "flips": "Decision flips",
    "cosine": "Embedding cosine",
    "gate_l1": "Routing, L1",
    "mean_auc_drop": "Mean AUC drop",
    "finding_auc_drop": "Worst AUC drop",
}
POINTS = 1500
"""Drawn in the agreement plot at most; more only make the file heavy."""
_LARGEST = 300  # of them kept for the largest differences
_LIMIT_DIGITS = 8  # a limit is shown as it was set
_SHOWN_FLIPS = 4  # per finding; report.json has them all

_F64 = npt.NDArray[np.float64]


def render(report: Report) -> str:
    """One self-contained HTML page: no scripts, nothing loaded, every text escaped."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Callable[..., str]] = {
        "num": number,
        "signed": partial(number, signed=True),
        "dp": partial(number, aligned=True),
        "shift": partial(number, aligned=True, signed=True),
        "p": probability,
        "ms": milliseconds,
        "auc": auc_difference,
        "cosine": cosine,
    }
    environment.filters.update(filters)
    source = resources.files("molre_edge.parity").joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(_context(report))


def _context(report: Report) -> dict[str, Any]:
    numbers, name, precision = report.numbers, report.engine.name, report.engine.precision
    context: dict[str, Any] = {
        "report": report,
        "engine": name if name.endswith(precision) else f"{name} {precision}",
        "disclaimer": DISCLAIMER,
        "state": "none" if report.verdict is None else "pass" if report.verdict.passed else "fail",
        "checks": [_check_row(check) for check in report.verdict.checks] if report.verdict else [],
        "numbers": numbers,
        "warned": [(scan, texts) for scan, texts in report.warnings.items() if texts],
        "agreement": None,
        "groups": [],
        "routing": None,
        "worst": [],
        "shown_flips": _SHOWN_FLIPS,
    }
    if numbers is not None:
        context |= {
            "agreement": _agreement(report),
            "groups": _groups(report, numbers),
            "routing": _routing(numbers.gates, report.gate) if numbers.gates and numbers.gates.experts > 1 else None,
            "worst": [
                {
                    "scan": report.scans[each.scan],
                    "finding": None if each.finding is None else report.findings[each.finding],
                    "numbers": each,
                }
                for each in numbers.worst
            ],
        }
    return context


def _check_row(check: Check) -> dict[str, Any]:
    result = "not judged" if not check.judged else "pass" if check.passed else "fail"
    show = percent if check.name == "flips" else number
    if check.name == "cosine":
        measured, sign = cosine(check.measured), "≥"
    else:
        digits = 3 if check.measured is None else digits_beside(check.measured, check.limit)
        measured, sign = show(check.measured, digits), "≤"
    return {
        "title": _TITLES[check.name],
        "measured": measured,
        "limit": "none" if check.limit is None else f"{sign} {show(check.limit, _LIMIT_DIGITS)}",
        "result": result,
        "text": check.text,
    }


def _groups(report: Report, numbers: ParityNumbers) -> list[dict[str, Any]]:
    """Findings by group, in the order in which groups first appear, with bars on one common scale."""
    known = {finding.name: finding.group for finding in default_findings()} | dict(report.groups)
    scale = numbers.dp.max_abs or 1.0
    groups: dict[str, list[dict[str, Any]]] = {}
    for each in numbers.per_finding:
        flips = [
            {"scan": report.scans[flip.scan], "reference": flip.reference, "engine": flip.engine} for flip in each.flips
        ]
        groups.setdefault(known.get(each.finding, "other"), []).append(
            {
                "numbers": each,
                "flips": flips,
                "max": 100.0 * (each.dp.max_abs or 0.0) / scale,
                "p99": 100.0 * (each.dp.p99_abs or 0.0) / scale,
                "mean": 100.0 * (each.dp.mean_abs or 0.0) / scale,
            }
        )
    limit = report.gate.max_abs_dp if report.gate else None
    return [
        {
            "name": name.replace("_", " "),
            "rows": rows,
            "flips": sum(len(row["flips"]) for row in rows),
            "limit": 100.0 * limit / scale if limit is not None and limit <= (numbers.dp.max_abs or 0.0) else None,
        }
        for name, rows in groups.items()
    ]


def _agreement(report: Report) -> dict[str, Any] | None:
    """Geometry of the difference plot: difference against mean.

    After J. M. Bland and D. G. Altman, "Statistical methods for assessing agreement between two methods of clinical
    measurement", Lancet 327 (1986) 307-310.
    """
    numbers = report.numbers
    if numbers is None or report.reference_outputs is None or report.engine_outputs is None:
        return None
    outputs = report.reference_outputs, report.engine_outputs
    reference, engine = (each.probabilities for each in outputs)
    limits = np.asarray(report.thresholds, dtype=np.float64)
    flipped = ((reference >= limits) != (engine >= limits)).ravel()
    mean, difference = ((reference + engine) / 2).ravel(), (engine - reference).ravel()
    finite = np.flatnonzero(np.isfinite(outputs[0].logits) & np.isfinite(outputs[1].logits))
    if not finite.size:
        return None
    mean, difference, flipped = mean[finite], difference[finite], flipped[finite]
    shown = _thin(difference, flipped)
    reach = _round_up(float(np.abs(difference).max()))
    left, top, width, height = 92.0, 14.0, 536.0, 236.0
    middle = top + height / 2

    def y(value: float) -> float:
        return round(middle - value / reach * height / 2, 1)

    centre, sd = numbers.dp.mean or 0.0, numbers.dp.sd or 0.0
    limit = report.gate.max_abs_dp if report.gate else None
    return {
        "points": [
            {"x": round(left + float(mean[i]) * width, 1), "y": y(float(difference[i])), "flip": bool(flipped[i])}
            for i in sorted(shown, key=lambda i: bool(flipped[i]))  # flips are drawn last, on top
        ],
        "left": left,
        "right": left + width,
        "top": top,
        "bottom": top + height,
        "x_ticks": [{"x": round(left + width * share, 1), "text": f"{share:g}"} for share in (0, 0.25, 0.5, 0.75, 1)],
        "y_ticks": [
            {"y": y(reach * share), "text": number(reach * share, signed=True)} for share in (-1, -0.5, 0, 0.5, 1)
        ],
        "mean": y(centre),
        "band": [y(min(reach, centre + Z_95 * sd)), y(max(-reach, centre - Z_95 * sd))],
        "limits": [y(limit), y(-limit)] if limit is not None and limit <= reach else [],
        "limit": limit,
        "total": int(finite.size),
        "shown": len(shown),
        "flips": int(flipped.sum()),
        "low": centre - Z_95 * sd,
        "high": centre + Z_95 * sd,
        "centre": centre,
    }


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


def _routing(gates: GateNumbers, gate: Gate | None) -> dict[str, Any]:
    """Bars per router and the heat map of engine minus reference (mean gates, routers by experts)."""
    noise = (gate.max_gate_l1 if gate else None) or 0.0
    difference = gates.mean_engine - gates.mean_reference
    known = np.abs(difference[np.isfinite(difference)])
    scale = float(known.max()) if known.size and known.max() > 0 else 1.0
    means = np.concatenate([gates.mean_reference.ravel(), gates.mean_engine.ravel()])
    means = means[np.isfinite(means)]
    per_router = [column[np.isfinite(column)] for column in gates.l1.T]
    cell_w, cell_h, left, top = 58, 24, 84, 24
    return {
        "numbers": gates,
        "dynamic": gates.spread_reference is not None and gates.spread_reference > noise,
        "full": float(means.max()) if means.size and means.max() > 0 else 1.0,
        "scale": float(known.max()) if known.size else None,
        "routers": [
            {
                "name": f"router {r + 1}",
                "l1": float(per_router[r].max()) if per_router[r].size else None,
                "experts": [
                    {
                        "name": f"e{e + 1}",
                        "reference": _share(gates.mean_reference[r, e]),
                        "engine": _share(gates.mean_engine[r, e]),
                    }
                    for e in range(gates.experts)
                ],
            }
            for r in range(gates.routers)
        ],
        "map": {
            "width": left + cell_w * gates.experts + 8,
            "height": top + cell_h * gates.routers + 6,
            "columns": [
                {"x": left + cell_w * e + cell_w // 2, "text": f"expert {e + 1}"} for e in range(gates.experts)
            ],
            "rows": [
                {"y": top + cell_h * r + cell_h // 2 + 4, "text": f"router {r + 1}"} for r in range(gates.routers)
            ],
            "cells": [
                {
                    "x": left + cell_w * e + 1,
                    "y": top + cell_h * r + 1,
                    "w": cell_w - 2,
                    "h": cell_h - 2,
                    "kind": "more" if difference[r, e] > 0 else "less",
                    "opacity": round(float(min(1.0, abs(difference[r, e]) / scale)), 3)
                    if np.isfinite(difference[r, e])
                    else 0.0,
                    "text": number(_share(difference[r, e]), 2, signed=True),
                }
                for r in range(gates.routers)
                for e in range(gates.experts)
            ],
        },
    }


def _share(value: np.floating[Any] | float) -> float | None:
    return float(value) if np.isfinite(value) else None
