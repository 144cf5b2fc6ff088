"""The HTML of several runs side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

from molre_edge.parity.numbers import FEW_CASES
from molre_edge.reports import charts
from molre_edge.reports.parity_page import check_row, engine_name, finite_probabilities, group_of
from molre_edge.reports.parity_report import Report
from molre_edge.reports.side_by_side import Comparison, Side
from molre_edge.reports.template import render_template
from molre_edge.reports.waiting import WAITS

__all__ = ["render_comparison"]


def render_comparison(comparison: Comparison) -> str:
    """One self-contained HTML page: no scripts, nothing loaded, every text escaped."""
    sides = comparison.sides
    facts = {name: [_facts(side.report).get(name, "–") for side in sides] for name in _names(sides)}
    context = {
        "comparison": comparison,
        "sides": [_side(place, side) for place, side in enumerate(sides)],
        "model": sides[0].report.bundle,
        "findings": sides[0].report.findings,
        "checks": _checks(sides),
        "groups": _groups(comparison),
        "accuracy": _accuracy(sides),
        "spread": charts.spread(_sizes(sides), _limits(sides)),
        "phases": _phases(sides),
        "times": charts.times(
            [
                (f"{_letter(i)} · {side.name}", row.phase, row.median_ms, row.p95_ms, row.p99_ms)
                for i, side in enumerate(sides)
                for row in _engine(side)
                if row.phase not in WAITS
            ]
        ),
        "differing": {name: values for name, values in facts.items() if len(set(values)) > 1},
        "equal": {name: values[0] for name, values in facts.items() if len(set(values)) == 1},
    }
    return render_template("comparison.html", context)


def _letter(place: int) -> str:
    """A to Z, then numbers."""
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _side(place: int, side: Side) -> dict[str, Any]:
    report = side.report
    verdict = report.verdict
    return {
        "name": side.name,
        "letter": _letter(place),
        "report": report,
        "engine": engine_name(report),
        "state": "none" if verdict is None else "pass" if verdict.passed else "fail",
        "failed": [check_row(check) for check in verdict.failed] if verdict else [],
    }


def _checks(sides: tuple[Side, ...]) -> list[dict[str, Any]]:
    """A row for each check: measured value, limit and result of each run."""
    judged = [{c.name: check_row(c) for c in s.report.verdict.checks} if s.report.verdict else {} for s in sides]
    names = list(dict.fromkeys(name for checks in judged for name in checks))
    return [
        {
            "title": next(checks[name]["title"] for checks in judged if name in checks),
            "cells": [checks.get(name) for checks in judged],
        }
        for name in names
    ]


def _groups(comparison: Comparison) -> list[dict[str, Any]]:
    """Findings by group: the largest difference of each run from its reference and from the first engine, and flips."""
    sides = comparison.sides
    of = group_of(sides[0].report)
    numbers = [side.report.numbers for side in sides]
    groups: dict[str, list[dict[str, Any]]] = {}
    for j, name in enumerate(sides[0].report.findings):
        cells = []
        for side, each in zip(sides, numbers, strict=True):
            finding = None if each is None else each.per_finding[j]
            limits = side.report.limits
            cells.append(
                {
                    "max": None if finding is None else finding.dp.max_abs,
                    "flips": 0 if finding is None else len(finding.flips),
                    "over": finding is not None and limits is not None and finding.beyond(limits),
                }
            )
        between = [each.numbers.per_finding[j] for each in comparison.between]
        groups.setdefault(of[name], []).append({"finding": name, "cells": cells, "between": between})
    return [{"name": name, "rows": rows} for name, rows in groups.items()]


def _accuracy(sides: tuple[Side, ...]) -> dict[str, Any] | None:
    """A row for each finding that has labels in a run; ``None`` if no run has any."""
    rows = []
    for j, name in enumerate(sides[0].report.findings):
        found = [side.report.numbers.per_finding[j] if side.report.numbers else None for side in sides]
        cells = [each if each is not None and each.labelled else None for each in found]
        if any(cells):
            rows.append({"finding": name, "cells": cells})
    return {"rows": rows, "few_cases": FEW_CASES} if rows else None


def _sizes(sides: tuple[Side, ...]) -> dict[str, Any]:
    """Run -> |Δp| from its reference, for the runs that have one."""
    sizes = {}
    for place, side in enumerate(sides):
        reference, engine = side.report.reference_outputs, side.report.engine_outputs
        if reference is not None and engine is not None:
            dp = finite_probabilities(engine) - finite_probabilities(reference)
            sizes[f"{_letter(place)} · {side.name}"] = np.abs(dp[np.isfinite(dp)])
    return sizes


def _limits(sides: tuple[Side, ...]) -> dict[str, float]:
    """Run -> its limit on |Δp|, for the runs that have one."""
    return {
        f"{_letter(place)} · {side.name}": side.report.limits.max_abs_dp
        for place, side in enumerate(sides)
        if side.report.limits is not None and side.report.limits.max_abs_dp is not None
    }


def _engine(side: Side) -> list[Any]:
    """The timing rows of the engine, without those of its reference."""
    rows = side.report.timing
    return [row for row in rows if row.who == rows[0].who]


def _phases(sides: tuple[Side, ...]) -> list[dict[str, Any]]:
    """A row for each phase: times of each run, and the median as a multiple of the first run's."""
    rows = [{row.phase: row for row in _engine(side)} for side in sides]
    phases = list(dict.fromkeys(phase for each in rows for phase in each))
    table = []
    for phase in phases:
        first = rows[0].get(phase)
        cells = []
        for place, each in enumerate(rows):
            row = each.get(phase)
            ratio = row.median_ms / first.median_ms if row and first and place and first.median_ms > 0 else None
            cells.append({"row": row, "ratio": ratio})
        includes = next(each[phase].includes for each in rows if phase in each)
        table.append({"phase": phase, "cells": cells, "includes": includes})
    return table


def _names(sides: tuple[Side, ...]) -> list[str]:
    return list(dict.fromkeys(name for side in sides for name in _facts(side.report)))


def _facts(report: Report) -> dict[str, str]:
    """Name -> value of the facts that say how a run was made."""
    engine, bundle = report.engine, report.bundle
    return {
        "made": report.created,
        "engine": engine_name(report),
        "runtime": engine.runtime,
        "device": engine.device,
        "threads": "–" if engine.threads is None else str(engine.threads),
        **{name.replace("_", " "): value for name, value in engine.details.items()},
        "reference": report.reference.kind,
        "compared": report.reference.volumes or "–",
        "scans not used": str(len(report.failed)),
        "limits": "–" if report.limits is None else f"{report.limits.name} ({report.limits_source})",
        "bundle digest": bundle.digest,
        "checkpoint SHA-256": bundle.checkpoint_sha256 or "–",
        "graph SHA-256": bundle.graph_sha256 or "–",
        "adapter": f"{bundle.adapter}, SHA-256 {bundle.adapter_sha256}" if bundle.adapter else "–",
        **{f"version of {name}": version for name, version in report.versions.items()},
        "command": report.command or "–",
    }
