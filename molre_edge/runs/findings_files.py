"""Findings per scan, for people (CSV) and programs (JSON lines)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from molre_edge.files import write_whole
from molre_edge.findings import POSITIVE_COLUMN, SCAN_COLUMN
from molre_edge.runs.scan_findings import ScanFindings
from molre_edge.runs.scan_table import write_csv
from molre_edge.specs import DISCLAIMER

__all__ = ["write_findings"]


def write_findings(
    folder: Path, scans: Sequence[ScanFindings], *, names: Sequence[str], engine: str, bundle: str
) -> None:
    """Write ``findings.csv`` (a row a scan, a probability a finding) and ``findings.jsonl``, each whole.

    An answer that is not a number is empty in the CSV and ``null`` in the JSON: neither yes nor no.

    Args:
        folder: of the run.
        scans: answers, in the order of the ids.
        names: of the findings, in the model's order.
        engine: name of the runner.
        bundle: digest of the bundle.
    """
    rows, lines = [], []
    for each in scans:
        probabilities = [each.findings[name].probability for name in names]
        rows.append([each.scan, " ".join(each.positive), *("" if p is None else f"{p:.6f}" for p in probabilities)])
        content = each.to_dict()
        line = {"scan": content.pop("scan"), "engine": engine, "bundle": bundle, **content, "disclaimer": DISCLAIMER}
        lines.append(json.dumps(line, allow_nan=False))
    write_csv(folder / "findings.csv", [SCAN_COLUMN, POSITIVE_COLUMN, *names], rows)
    with write_whole(folder / "findings.jsonl") as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
