"""The files of an evaluation."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from molre_edge.files import write_json, write_whole
from molre_edge.parity import DISCLAIMER
from molre_edge.training.evaluation import Evaluation, RoutingResult

__all__ = ["write_evaluation"]


def write_evaluation(folder: Path, result: Evaluation, checkpoint_sha256: str, split: str) -> None:
    """Write ``evaluation.json``, ``findings.csv`` and, where there is routing and matplotlib, ``routing.png``."""
    head = {"checkpoint_sha256": checkpoint_sha256, "split": split, "disclaimer": DISCLAIMER}
    write_json(folder / "evaluation.json", {**head, **result.to_dict()})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["finding", "positives", "negatives", "auc", "auc_low", "auc_high", "sensitivity", "specificity"])
    for row in result.findings:
        area = ("", "", "") if row.auc is None else (row.auc.auc, row.auc.low, row.auc.high)
        rates = ("" if value is None else value for value in (row.sensitivity, row.specificity))
        writer.writerow([row.finding, row.positives, row.negatives, *area, *rates])
    with write_whole(folder / "findings.csv") as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")
    if result.routing is not None:
        _heat_map(folder / "routing.png", result.routing, [row.finding for row in result.findings])


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
