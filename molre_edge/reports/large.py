"""Reports over many volumes stay small: lists are cut, and what they leave out is in files beside the report."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from molre_edge.files import write_whole
from molre_edge.parity.logits import logit_differences
from molre_edge.reports.parity_report import LISTED, FailedScan, Report

__all__ = ["SHOWN", "VOLUMES_FILE", "failures_by_code", "warnings_by_text", "write_volumes"]

SHOWN = 100
"""More scans than this are counted by reason in the page, with a few of them as examples."""

VOLUMES_FILE = "volumes.csv"
"""Beside a report over more volumes than it lists: the numbers of each."""

_EXAMPLES = 3
_COLUMNS = (
    "scan",
    "finite",
    "max_abs_dp",
    "max_abs_dlogit",
    "finding",
    "flips",
    "cosine",
    "routing_l1",
    "attention_l1",
)


def write_volumes(folder: Path, report: Report) -> Path | None:
    """Write the numbers of each compared volume, where report.json leaves them out; else remove an earlier file."""
    path = folder / VOLUMES_FILE
    if report.numbers is None or report.numbers.n <= LISTED or report.reference_outputs is None:
        path.unlink(missing_ok=True)
        return None
    with write_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        table.writerows(_volumes(report))
    return path


def _volumes(report: Report) -> Iterator[tuple[Any, ...]]:
    """A row a volume, in the words of ``worst_scans``."""
    numbers, reference, engine = report.numbers, report.reference_outputs, report.engine_outputs
    assert numbers is not None and reference is not None and engine is not None  # the caller has looked
    dlogit = logit_differences(reference.logits, engine.logits)
    dp = np.abs(engine.probabilities - reference.probabilities)
    size = np.where(np.isfinite(dlogit), dlogit, -1.0)
    flips = np.bincount([flip.scan for flip in numbers.flips], minlength=numbers.n)
    broken = {each.scan for each in numbers.nonfinite}
    for i, scan in enumerate(report.scans):
        at = int(size[i].argmax())
        known = size[i, at] >= 0
        row = (float(np.max(dp[i], where=np.isfinite(dlogit[i]), initial=0.0)), float(size[i, at]), report.findings[at])
        routing = "" if numbers.gates is None else _text(float(np.max(numbers.gates.l1[i])))
        attention = "" if numbers.attention is None else _text(numbers.attention.l1[i])
        measured = (flips[i], _text(numbers.cosine[i]), routing, attention)
        yield (scan, i not in broken, *(row if known else ("", "", "")), *measured)


def _text(value: float) -> str:
    return repr(float(value)) if np.isfinite(value) else ""


def failures_by_code(failed: Iterable[FailedScan], name: Any) -> list[dict[str, Any]]:
    """Scans that could not be used, counted by code, the most frequent first.

    Args:
        failed: of the report.
        name: makes the name of a scan for people.
    """
    groups: dict[str, list[FailedScan]] = {}
    for each in failed:
        groups.setdefault(each.code, []).append(each)
    return [
        {"code": code, "count": len(scans), "scans": [name(each.scan) for each in scans[:_EXAMPLES]]}
        | {"reason": scans[0].reason}
        for code, scans in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


def warnings_by_text(warnings: Mapping[str, tuple[str, ...]], name: Any) -> list[dict[str, Any]]:
    """Warnings, counted by their text, the most frequent first, as many as the page shows.

    Args:
        warnings: scan id -> its warnings.
        name: makes the name of a scan for people.
    """
    groups: dict[str, list[str]] = {}
    for scan, texts in warnings.items():
        for text in texts:
            groups.setdefault(text, []).append(scan)
    ranked = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        {"text": text, "count": len(scans), "scans": [name(scan) for scan in scans[:_EXAMPLES]]}
        for text, scans in islice(ranked, SHOWN)
    ]
