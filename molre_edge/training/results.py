"""Writes the files of an evaluation."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from molre_edge.files import write_json, write_whole
from molre_edge.specs import DISCLAIMER
from molre_edge.training.evaluation import Evaluation
from molre_edge.training.gates import RoutingResult

__all__ = ["write_evaluation"]

_ROUTING = ["finding", "router", "expert", "mean_gate", "mean_gate_without", "minus_scans_without"]


def write_evaluation(folder: Path, result: Evaluation, checkpoint_sha256: str, split: str) -> None:
    """Write ``evaluation.json``, ``findings.csv`` and, if the model has routers, ``routing.csv`` and ``routing.png``.

    The picture needs matplotlib, and a finding that some scans have and others lack.
    """
    head = {"checkpoint_sha256": checkpoint_sha256, "split": split, "disclaimer": DISCLAIMER}
    write_json(folder / "evaluation.json", {**head, **result.to_dict()})
    rows: list[list[object]] = []
    for row in result.findings:
        area = ("", "", "") if row.auc is None else (row.auc.auc, row.auc.low, row.auc.high)
        rates = ("" if value is None else value for value in (row.sensitivity, row.specificity))
        rows.append([row.finding, row.positives, row.negatives, *area, *rates])
    heading = ["finding", "positives", "negatives", "auc", "auc_low", "auc_high", "sensitivity", "specificity"]
    _write_table(folder / "findings.csv", heading, rows)
    if result.routing is not None:
        names = [row.finding for row in result.findings]
        _write_table(folder / "routing.csv", _ROUTING, _gates(result.routing, names))
        _heat_map(folder / "routing.png", result.routing, names)


def _gates(routing: RoutingResult, findings: list[str]) -> list[list[object]]:
    """A row a finding, router and expert, for findings that some scan has."""
    rows: list[list[object]] = []
    routers, experts = routing.usage.shape
    for i, name in enumerate(findings):
        for r in range(routers):
            for k in range(experts):
                place = (i, r, k)
                mean, *others = (
                    float(values[place])
                    for values in (routing.with_finding, routing.without_finding, routing.by_finding)
                )
                if not np.isnan(mean):
                    rows.append([name, r + 1, k + 1, mean, *("" if np.isnan(value) else value for value in others)])
    return rows


def _write_table(path: Path, heading: list[str], rows: list[list[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heading, *rows])
    with write_whole(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def _heat_map(path: Path, routing: RoutingResult, findings: list[str]) -> None:
    """Mean gate with the finding minus without it; a row a finding, a column an expert, routers side by side."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    rows = [i for i in range(len(findings)) if not np.isnan(routing.by_finding[i]).any()]
    if not rows:
        return
    values = routing.by_finding[rows].reshape(len(rows), -1)  # [findings, routers * K]
    routers, experts = routing.usage.shape
    limit = float(np.abs(values).max()) or 1.0
    figure = Figure(figsize=(3.2 + 0.42 * values.shape[1], 1.6 + 0.26 * len(rows)), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_yticks(range(len(rows)), [findings[i].replace("_", " ") for i in rows], fontsize=8)
    axes.set_xticks(range(values.shape[1]), [f"e{i % experts + 1}" for i in range(values.shape[1])], fontsize=8)
    for router in range(1, routers):
        axes.axvline(router * experts - 0.5, color="black", linewidth=1)
    axes.set_title("mean gate with the finding minus without it; one block a router", fontsize=9)
    figure.colorbar(picture, ax=axes, shrink=0.8)
    with write_whole(path) as partial:
        figure.savefig(partial, dpi=130, format="png")
