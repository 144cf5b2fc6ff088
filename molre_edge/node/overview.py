"""What the node is doing, as plain data: for the status port. Numbers, states and times; no names, no UIDs."""

from __future__ import annotations

import shutil
import time
from datetime import datetime, timezone
from typing import Any

from molre_edge import __version__
from molre_edge.node.configuration import NodeConfig
from molre_edge.node.journal import Journal
from molre_edge.node.store import Store

__all__ = ["Overview", "study_state"]

_STUDIES = """
SELECT s.number, s.last, s.new_since, s.attempts, s.problem,
    (SELECT count(*) FROM images AS i WHERE i.study = s.id) AS images,
    (SELECT count(*) FROM images AS i WHERE i.study = s.id AND i.present = 0) AS gone,
    r.version, r.outcome, r.code, r.made,
    (SELECT count(*) FROM deliveries AS d WHERE d.study = s.id AND d.state = 'waiting') AS waiting,
    (SELECT count(*) FROM deliveries AS d WHERE d.study = s.id AND d.state = 'refused') AS refused,
    (SELECT count(*) FROM deliveries AS d WHERE d.study = s.id AND d.state = 'sent') AS sent
FROM studies AS s
LEFT JOIN reports AS r ON r.study = s.id
    AND r.version = (SELECT max(version) FROM reports AS q WHERE q.study = s.id)
"""
_WAITING = """
SELECT destination, count(*) AS objects, sum(state = 'refused') AS refused, max(attempts) AS attempts,
    max(problem) AS problem, min(next_try) AS next_try
FROM deliveries WHERE state != 'sent' GROUP BY destination
"""
_MISSING_SECONDS = 7 * 86400.0
"""So long after its last image a study whose older images were removed is among health's problems."""
_IDLE_SECONDS = 600.0
"""A delivery that nobody tried for so long has no destination any more, or its thread does not work."""


class Overview:
    """Answers of the status port."""

    def __init__(self, config: NodeConfig, store: Store, journal: Journal, facts: dict[str, Any]) -> None:
        """Hold what is looked at.

        Args:
            config: of the node.
            store: is asked each time.
            journal: has the counters.
            facts: of the engine: its name, the bundle's digest and the adapter's name.
        """
        self._config, self._store, self._journal, self._facts = config, store, journal, facts

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the node takes images and answers, and reasons why not."""
        problems, now = self._journal.troubles(), time.time()
        if self.free_bytes < self._config.disk.floor_mb * 1_000_000:
            problems.append("the disk is below its floor: images are refused")
        if bad := self._count("SELECT count(*) AS n FROM studies WHERE new_since IS NOT NULL AND problem != ''"):
            problems.append(f"studies that could not be answered and are tried again: {bad}")
        if bad := self._count(
            "SELECT count(DISTINCT study) AS n FROM images AS i JOIN studies AS s ON s.id = i.study "
            "WHERE i.present = 0 AND s.new_since IS NOT NULL AND s.last > ?",
            now - _MISSING_SECONDS,
        ):
            problems.append(f"studies with new images whose older ones were removed, to be sent again whole: {bad}")
        for row in self.queue()["destinations"]:
            if row["attempts"]:
                problems.append(f"{row['destination']}: objects that wait: {row['objects']} ({row['problem']})")
        for row in self._store.rows(f"{_WAITING} HAVING max(attempts) = 0 AND min(next_try) < ?", now - _IDLE_SECONDS):
            problems.append(f"{row['destination']}: objects that nobody sends: {row['objects']}")
        return not problems, {
            "state": "attention" if problems else "ok", "problems": problems, "version": __version__,
            "up_seconds": round(now - self._journal.begun, 1), **self._facts,
        }  # fmt: skip

    def queue(self) -> dict[str, Any]:
        """What waits for an answer or for a destination."""
        now = time.time()
        studies = self._store.rows(f"{_STUDIES} WHERE s.new_since IS NOT NULL ORDER BY s.last LIMIT 1000")
        return {
            "studies": [self._study(row, now) for row in studies],
            "destinations": [
                {**row, "next_try": _clock(row["next_try"])} for row in self._store.rows(_WAITING)
            ],
        }  # fmt: skip

    def latest(self, count: int = 50) -> list[dict[str, Any]]:
        """The last studies, the newest first."""
        now = time.time()
        return [self._study(row, now) for row in self._store.rows(f"{_STUDIES} ORDER BY s.last DESC LIMIT {count:d}")]

    def metrics(self) -> str:
        """Counters and gauges in Prometheus' text format."""
        gauges = {
            "studies_due": self._count("SELECT count(*) AS n FROM studies WHERE new_since IS NOT NULL"),
            "deliveries_waiting": self._count("SELECT count(*) AS n FROM deliveries WHERE state != 'sent'"),
            "disk_free_bytes": self.free_bytes,
            "start_time_seconds": round(self._journal.begun, 3),
        }
        lines = []
        for name, value in gauges.items():
            lines += [f"# TYPE molre_edge_node_{name} gauge", f"molre_edge_node_{name} {value}"]
        typed = set()
        for (name, label), value in sorted(self._journal.counts().items()):
            full = f"molre_edge_node_{name}{'' if name.endswith(('_sum', '_count')) else '_total'}"
            family = full.removesuffix("_sum").removesuffix("_count")
            if family not in typed:
                typed.add(family)
                lines.append(f"# TYPE {family} {'counter' if family == full else 'summary'}")
            lines.append(f"{full}{{{label}}} {value:g}" if label else f"{full} {value:g}")
        return "\n".join(lines) + "\n"

    @property
    def free_bytes(self) -> int:
        """Free space of the node's disk."""
        return shutil.disk_usage(self._store.folder).free

    def _study(self, row: dict[str, Any], now: float) -> dict[str, Any]:
        return {
            "number": row["number"], "state": study_state(row, now, self._config.study.quiet_seconds),
            "images": row["images"], "version": row["version"], "last_image": _clock(row["last"]),
            "report": None if row["made"] is None else _clock(row["made"]), "attempts": row["attempts"],
            "problem": row["problem"] or row["code"] or "",
        }  # fmt: skip

    def _count(self, query: str, *values: float) -> int:
        return int(self._store.rows(query, *values)[0]["n"])


def study_state(row: dict[str, Any], now: float, quiet_seconds: float) -> str:
    """One of the states in docs/reference/node.md."""
    if row["new_since"] is not None:
        if row["gone"]:
            return "images missing"
        if row["problem"]:
            return "put off"
        return "arriving" if row["last"] > now - quiet_seconds else "queued"
    if row["outcome"] == "refused":
        return "can't be answered"
    if row["refused"]:
        return "report refused"
    if row["waiting"]:
        return "to be sent"
    return "sent" if row["sent"] else "answered"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
