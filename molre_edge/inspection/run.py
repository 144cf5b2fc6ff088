"""Describes a run of ``infer``: its progress, engine and verdict. Paths of scans are not shown."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from molre_edge.files import read_regular
from molre_edge.inspection.findings import Inspection, Table, dig, plain
from molre_edge.parity.text import milliseconds
from molre_edge.runs.scan_table import read_entries
from molre_edge.runs.store import SCANS_FILE, read_head

__all__ = ["inspect_run"]

_MAX_REPORT_BYTES = 256 << 20


def inspect_run(folder: Path) -> Inspection:
    """Describe a run.

    Raises:
        RunError: the folder is not a run, or is damaged.
    """
    head = read_head(folder)
    entries = read_entries(folder / SCANS_FILE, torn=head.get("finished") is not True)
    counts = Counter(entry.status for entry in entries)
    reasons = Counter((entry.status, entry.code) for entry in entries if entry.code)
    report, timing = _json(folder / "report.json"), _json(folder / "timing.json")
    verdict = dig(report, "verdict", "summary")
    finished = head.get("finished") is True
    words = [
        ("started", plain(head.get("started"))),
        ("state", "finished" if finished else "not finished: continue with 'molre-edge infer SCANS --resume -o RUN'"),
        ("engine", plain(dig(head, "task", "engine"))),
        ("reference", plain(dig(head, "task", "reference"))),
        ("bundle", plain(dig(head, "task", "bundle"))),
        *((("adapter", plain(dig(head, "task", "adapter"))),) if dig(head, "task", "adapter") else ()),
        ("scans", ", ".join(f"{counts[name]} {name}" for name in ("done", "pending", "rejected", "ignored"))),
        ("parity", plain(verdict or "not judged")),
    ]
    tables = [Table("Left out", ("status", "code", "entries"), tuple((s, c, str(n)) for (s, c), n in reasons.items()))]
    rows = [
        (plain(who), plain(phase), *(_ms(dig(row, f"{name}_ms")) for name in ("median", "p95")))
        for who, phases in (dig(timing, "phases") or {}).items()
        for phase, row in (phases.items() if isinstance(phases, dict) else ())
    ]
    tables.append(Table("Milliseconds per scan", ("who", "phase", "median", "p95"), tuple(rows)))
    facts = {
        "path": str(folder),
        "finished": finished,
        "started": head.get("started"),
        "task": head.get("task"),
        "scans": dict(counts),
        "left_out": [{"status": s, "code": c, "entries": n} for (s, c), n in reasons.items()],
        "parity": dig(report, "verdict"),
        "timing": timing,
    }
    summary = (
        f"a run of molre-edge infer: {counts['done']} scans answered, {'finished' if finished else 'not finished'}"
    )
    return Inspection("run", summary, facts, tuple(words), tuple(table for table in tables if table.rows))


def _ms(value: Any) -> str:
    return milliseconds(value) if isinstance(value, int | float) else plain(value)


def _json(path: Path) -> Any:
    """The content, or None if it can't be read: an interrupted run has no report yet."""
    try:
        return json.loads(read_regular(path, largest=_MAX_REPORT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
