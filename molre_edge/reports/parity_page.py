"""The HTML of a report. This module prepares words, numbers and pictures; the template lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.findings import default_findings
from molre_edge.parity.limits import ParityLimits
from molre_edge.parity.logits import logit_differences
from molre_edge.parity.numbers import FEW_CASES, Differences, FindingNumbers, GateNumbers, ParityNumbers
from molre_edge.parity.outputs import Outputs
from molre_edge.parity.text import cosine, digits_beside, number, percent
from molre_edge.parity.verdict import Check
from molre_edge.reports import charts
from molre_edge.reports.large import SHOWN, failures_by_code, warnings_by_text
from molre_edge.reports.parity_report import KeySlice, Report
from molre_edge.reports.routing_maps import gate_maps
from molre_edge.reports.template import render_template
from molre_edge.reports.waiting import WAITS, waiting

__all__ = ["CHECK_TITLES", "check_row", "engine_name", "finite_probabilities", "group_of", "render"]

CHECK_TITLES = {
    "finite": "Finite values",
    "max_abs_dp": "Largest |Δp|",
    "max_abs_dlogit": "Largest |Δlogit|",
    "far_flips": "Far flips",
    "flips": "All flips",
    "cosine": "Embedding cosine",
    "routing_l1": "Routing, L1",
    "attention_l1": "Attention over slices, L1",
    "mean_auc_drop": "Mean AUC drop",
    "finding_auc_drop": "Worst AUC drop",
}
"""Name of a check -> its title on pages."""

_LIMIT_DIGITS = 8  # a limit is shown as it was set
_SHOWN_FLIPS = 4  # per finding; report.json has more, and volumes.csv all where there are very many
_SHOWN_AREAS = 20  # findings in the picture of AUC differences

_F64 = npt.NDArray[np.float64]


def render(report: Report, slices: Sequence[KeySlice] = ()) -> str:
    """One self-contained HTML page: no scripts, nothing loaded, every text escaped.

    Args:
        report: what to show.
        slices: pictures of the worst scans. They are written into the page and into no other file.
    """
    return render_template("report.html", _context(report, slices))


def _context(report: Report, slices: Sequence[KeySlice]) -> dict[str, Any]:
    numbers, limits = report.numbers, report.limits
    rows = [
        (row.who, row.phase, row.median_ms, row.p95_ms, row.p99_ms) for row in report.timing if row.phase not in WAITS
    ]
    context: dict[str, Any] = {
        "accuracy": None,
        "report": report,
        "engine": engine_name(report),
        "state": "none" if report.verdict is None else "pass" if report.verdict.passed else "fail",
        "checks": [check_row(check) for check in report.verdict.checks] if report.verdict else [],
        "numbers": numbers,
        **_left_out(report),
        "times": charts.times(rows),
        "waiting": waiting(report.timing),
        "slices": slices,
        "pictures": bool(slices),
        "points": charts.POINTS,
    }
    if numbers is None or limits is None:
        return context
    return {
        **context,
        **_pictures(report, numbers, limits),
        "groups": _groups(report, numbers),
        "pairs_changed": [pair for pair in numbers.consistency if pair.changed],
        "areas": _areas(numbers),
        "accuracy": _accuracy(report, numbers),
        "routing": _routing(numbers.gates, limits) if numbers.gates and numbers.gates.experts > 1 else None,
        "worst": [
            {
                "scan": _named(report, report.scans[each.scan]),
                "finding": None if each.finding is None else report.findings[each.finding],
                "numbers": each,
            }
            for each in numbers.worst
        ],
    }


def _named(report: Report, scan: str) -> str:
    """A scan for people: its row, where that is known, and its id."""
    return f"{report.rows[scan]} · {scan}" if scan in report.rows else scan


def _left_out(report: Report) -> dict[str, Any]:
    """Scans that were not used, and warnings: one by one, or counted by reason where they are many."""
    named = partial(_named, report)
    warned = [(named(scan), texts) for scan, texts in islice(report.warnings.items(), SHOWN) if texts]
    few = len(report.failed) <= SHOWN, len(report.warnings) <= SHOWN
    return {
        "named": named,
        "failed": [(named(each.scan), each) for each in report.failed] if few[0] else [],
        "failed_by_code": [] if few[0] else failures_by_code(report.failed, named),
        "warned": warned if few[1] else [],
        "warned_by_text": [] if few[1] else warnings_by_text(report.warnings, named),
    }


def engine_name(report: Report) -> str:
    """The runner's name with its precision, once."""
    name, precision = report.engine.name, report.engine.precision
    return name if name.endswith(precision) else f"{name} {precision}"


def finite_probabilities(outputs: Outputs) -> _F64:
    """Probabilities, float64 (n, findings), nan where the logit is not finite."""
    return np.where(np.isfinite(outputs.logits), outputs.probabilities, np.nan)


def group_of(report: Report) -> dict[str, str]:
    """Finding -> the group under which the page shows it."""
    known = {finding.name: finding.group for finding in default_findings()} | dict(report.groups)
    return {name: known.get(name, "other").replace("_", " ") for name in report.findings}


def check_row(check: Check) -> dict[str, Any]:
    """A row of the table of checks. Rounding never moves a measured value to the other side of its limit."""
    result = "not judged" if not check.judged else "pass" if check.passed else "fail"
    show = percent if check.name in ("far_flips", "flips") else number
    if check.name == "cosine":
        measured, sign = cosine(check.measured), "≥"
    else:
        digits = 3 if check.measured is None else digits_beside(check.measured, check.limit)
        measured, sign = show(check.measured, digits), "≤"
    return {
        "title": CHECK_TITLES[check.name],
        "measured": measured,
        "limit": "none" if check.limit is None else f"{sign} {show(check.limit, _LIMIT_DIGITS)}",
        "result": result,
        "text": check.text,
    }


def _pictures(report: Report, numbers: ParityNumbers, limits: ParityLimits) -> dict[str, Any]:
    """Pictures that need the outputs themselves; ``None`` if the report does not have them."""
    if report.reference_outputs is None or report.engine_outputs is None:
        return {"agreement": None, "spread": None, "by_scan": None}
    reference, engine = (finite_probabilities(each) for each in (report.reference_outputs, report.engine_outputs))
    dp = engine - reference
    dlogit = logit_differences(report.reference_outputs.logits, report.engine_outputs.logits)
    sizes = np.abs(dp[np.isfinite(dp)])
    thresholds = np.asarray(report.thresholds, dtype=np.float64)
    name = engine_name(report)
    return {
        "agreement": charts.agreement(reference, engine, thresholds, numbers, limits),
        "spread": charts.spread({name: sizes}, {} if limits.max_abs_dp is None else {name: limits.max_abs_dp}),
        "by_scan": charts.scan_by_scan(numbers, dp, dlogit, limits),
    }


def _groups(report: Report, numbers: ParityNumbers) -> list[dict[str, Any]]:
    """Findings by group, in the order of first appearance, with Δp on one common scale."""
    of, scale = group_of(report), numbers.dp.max_abs or 0.0
    groups: dict[str, list[dict[str, Any]]] = {}
    for each in numbers.per_finding:
        flips = [
            {"scan": _named(report, report.scans[flip.scan]), "reference": flip.reference, "engine": flip.engine}
            for flip in each.flips[:_SHOWN_FLIPS]
        ]
        row = {"numbers": each, "flips": flips, "more": len(each.flips) - len(flips), "strip": _strip(each.dp, scale)}
        groups.setdefault(of[each.finding], []).append(row)
    limit = report.limits.max_abs_dp if report.limits else None
    inside = limit is not None and 0 < limit <= scale
    return [
        {
            "name": name,
            "rows": rows,
            "flips": sum(len(row["numbers"].flips) for row in rows),
            "limit": 50.0 * limit / scale if limit is not None and inside else None,
        }
        for name, rows in groups.items()
    ]


def _strip(dp: Differences, scale: float) -> dict[str, Any] | None:
    """A box plot without axes, as per cent of a cell's width; 75 of them as figures took 2 s on two busy cores."""
    if dp.quantiles is None or scale <= 0:
        return None
    low, first, median, third, high = (50.0 * (1 + value / scale) for value in dp.quantiles)

    def span(left: float, right: float) -> dict[str, str]:
        width = max(right - left, 1.6)  # a range without a width stays visible
        return {"at": f"{min(left, 100 - width):.1f}", "width": f"{width:.1f}"}

    return {"range": span(low, high), "box": span(first, third), "median": f"{min(median, 98.8):.1f}"}


def _areas(numbers: ParityNumbers) -> dict[str, Any] | None:
    """Pictures of the findings that lost most AUC; ``None`` if no AUC differs."""
    moved = [each for each in numbers.aucs if each[1].reference != each[1].engine]
    lowest = sorted(moved, key=lambda each: each[1].difference)[:_SHOWN_AREAS]
    if not lowest:
        return None
    return {
        "svg": charts.auc_differences([(name, auc.difference, auc.low, auc.high) for name, auc in lowest]),
        "levels": charts.auc_levels(lowest),
        "shown": len(lowest),
        "moved": len(moved),
    }


def _accuracy(report: Report, numbers: ParityNumbers) -> dict[str, Any] | None:
    """The labelled findings by group, and how many have marks; ``None`` without labels."""
    of = group_of(report)
    groups: dict[str, list[FindingNumbers]] = {}
    for each in numbers.per_finding:
        if each.labelled:
            groups.setdefault(of[each.finding], []).append(each)
    rows = [row for group in groups.values() for row in group]
    if not rows:
        return None
    return {
        "groups": [{"name": name, "rows": group} for name, group in groups.items()],
        "labelled": len(rows),
        "unlabelled": len(numbers.per_finding) - len(rows),
        "few": sum("few cases" in row.marks for row in rows),
        "near": sum("near chance" in row.marks for row in rows),
        "same": any(row.auc is not None and row.auc.not_excluded is not None for row in rows),
        "few_cases": FEW_CASES,
    }


def _routing(gates: GateNumbers, limits: ParityLimits) -> dict[str, Any]:
    noise = limits.max_routing_l1 or 0.0
    return {
        "numbers": gates,
        "dynamic": gates.spread_reference is not None and gates.spread_reference > noise,
        "maps": gate_maps(gates),
    }
