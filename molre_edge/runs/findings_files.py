"""Findings per scan, for people (CSV) and programs (JSON lines)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import Bundle
from molre_edge.files import write_whole
from molre_edge.findings import POSITIVE_COLUMN, SCAN_COLUMN
from molre_edge.runs.answers import Record
from molre_edge.runs.scan_table import write_csv
from molre_edge.specs import DISCLAIMER

__all__ = ["positive_findings", "write_findings"]


def positive_findings(record: Record, bundle: Bundle) -> tuple[str, ...]:
    """Names of the findings whose probability reaches its threshold; one that is not a number reaches none."""
    answers = zip(bundle.findings, record.engine.probabilities[0], bundle.thresholds, strict=True)
    return tuple(name for name, p, t in answers if math.isfinite(p) and p >= t)


def write_findings(folder: Path, records: list[Record], bundle: Bundle, engine: str) -> None:
    """Write ``findings.csv`` (a row a scan, a probability a finding) and ``findings.jsonl``, each whole.

    What an engine answered that is not a number is empty in the one and ``null`` in the other: neither yes nor no.
    """
    names = bundle.findings
    rows, lines = [], []
    for record in records:
        answers = [
            (name, _number(p), float(t))
            for name, p, t in zip(names, record.engine.probabilities[0], bundle.thresholds, strict=True)
        ]
        rows.append(
            [
                record.scan,
                " ".join(positive_findings(record, bundle)),
                *("" if p is None else f"{p:.6f}" for _, p, _ in answers),
            ]
        )
        gates = record.engine.gates
        line: dict[str, Any] = {
            "scan": record.scan,
            "engine": engine,
            "bundle": bundle.digest,
            "findings": {
                name: {"probability": p, "threshold": t, "positive": None if p is None else p >= t}
                for name, p, t in answers
            },
            "gates": None if gates is None else [[_number(g) for g in row] for row in gates[0].mean(axis=0)],
            "warnings": [{"code": code, "text": text} for code, text in record.warnings],
            "scan_facts": dict(record.facts),
            "milliseconds": dict(record.engine_ms),
            "disclaimer": DISCLAIMER,
        }
        lines.append(json.dumps(line, allow_nan=False))
    write_csv(folder / "findings.csv", [SCAN_COLUMN, POSITIVE_COLUMN, *names], rows)
    with write_whole(folder / "findings.jsonl") as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
