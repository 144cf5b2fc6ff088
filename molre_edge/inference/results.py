"""Findings per scan, for people (CSV) and programs (JSON lines)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from molre_edge.bundle import Bundle
from molre_edge.files import write_whole
from molre_edge.inference.store import Record, write_csv
from molre_edge.parity import DISCLAIMER

__all__ = ["write_findings"]


def write_findings(folder: Path, records: list[Record], bundle: Bundle, engine: str) -> None:
    """Write ``findings.csv`` (a row a scan, a probability a finding) and ``findings.jsonl``, each whole."""
    names = bundle.findings
    rows, lines = [], []
    for record in records:
        probabilities = record.engine.probabilities[0]
        positive = [n for n, p, t in zip(names, probabilities, bundle.thresholds, strict=True) if p >= t]
        rows.append([record.scan, " ".join(positive), *(f"{p:.6f}" for p in probabilities)])
        line: dict[str, Any] = {
            "scan": record.scan,
            "engine": engine,
            "bundle": bundle.digest,
            "findings": {
                name: {"probability": float(p), "threshold": float(t), "positive": bool(p >= t)}
                for name, p, t in zip(names, probabilities, bundle.thresholds, strict=True)
            },
            "gates": None if record.engine.gates is None else record.engine.gates[0].mean(axis=0).tolist(),
            "warnings": [{"code": code, "text": text} for code, text in record.warnings],
            "scan_facts": dict(record.facts),
            "milliseconds": dict(record.engine_ms),
            "disclaimer": DISCLAIMER,
        }
        lines.append(json.dumps(line, allow_nan=False))
    write_csv(folder / "findings.csv", ["scan", "positive", *names], rows)
    with write_whole(folder / "findings.jsonl") as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
