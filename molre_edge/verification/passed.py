"""The record of engines that were verified on this machine, so that not every start verifies again.

The record is a small JSON file in the user's state folder, not in the bundle: bundles are copied between machines, and
a person who can write to a bundle must not be able to claim that an engine passed. docs/concepts/security.md says what
the record protects against.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from molre_edge import __version__
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.runner import Runner
from molre_edge.files import read_regular, write_json
from molre_edge.machine import cpu_model, nvidia_driver, state_folder
from molre_edge.parity import ParityLimits

__all__ = ["RECORD", "VerifiedRecord", "record_path", "subject_of"]

RECORD = "verified.json"
_FORMAT, _VERSION = "molre-edge-verified", 2  # 1: judged one volume at a time, not in batches
_STEADY = ("runtime", "version", "device", "backend", "threads", "graph_optimisation")
"""The facts of a runner that are the same at each start; the others count what it has done so far."""
_MAX_BYTES, _MAX_ENTRIES = 1 << 20, 200


def record_path() -> Path | None:
    """The record's file, in the user's state folder; None if the user has no home."""
    folder = state_folder()
    return None if folder is None else folder / RECORD


def subject_of(bundle: Bundle, runner: Runner, limits: ParityLimits) -> dict[str, Any]:
    """Everything that a pass depends on. If any of it changes, the engine is verified again.

    That is the SHA-256 of the graph or engine, the bundle with its golden answers, the adapter, the limits, and the
    runner's own facts: runtime, version, device, mode.
    """
    facts = runner.facts
    graph = bundle.manifest["files"][bundle.graph(runner.precision).file]
    return {
        "engine": runner.name,
        "file": facts.get("engine_sha256", graph),
        "bundle": bundle.digest,
        "limits": limits.to_dict(),
        **({} if bundle.using is None else {"adapter": bundle.using.digest}),
        "facts": {name: str(facts[name]) for name in _STEADY if name in facts},
        "machine": {"cpu": cpu_model(), "nvidia_driver": nvidia_driver()},
        "molre-edge": __version__,
    }


class VerifiedRecord:
    """The subjects that passed, by their hash. A record that can't be read or trusted counts as empty."""

    def __init__(self, path: Path | None) -> None:
        """Use a file; None keeps no record."""
        self._path = path

    def when(self, subject: Mapping[str, Any]) -> str | None:
        """The day (UTC) on which a subject passed; None if the record has no pass."""
        entry = self._entries().get(_key(subject))
        return None if entry is None else entry["time"][:10]

    def add(self, subject: Mapping[str, Any], summary: str) -> bool:
        """Record a pass. False if it can't be written; then the next start verifies again."""
        entries = self._entries()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entries[_key(subject)] = {"time": now, "engine": subject["engine"], "summary": summary}
        return self._write(entries)

    def forget(self, subject: Mapping[str, Any]) -> None:
        """Remove a pass, because the same subject has failed since."""
        entries = self._entries()
        if entries.pop(_key(subject), None) is not None:
            self._write(entries)

    def _entries(self) -> dict[str, dict[str, str]]:
        try:
            if self._path is None or not _is_ours(self._path):
                return {}
            data = json.loads(read_regular(self._path, largest=_MAX_BYTES, links=False))
            if (data["format"], data["version"]) != (_FORMAT, _VERSION):
                return {}
            kept = {str(key): value for key, value in data["passed"].items() if isinstance(value["time"], str)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}
        return kept

    def _write(self, entries: Mapping[str, Mapping[str, str]]) -> bool:
        if self._path is None:
            return False
        newest = sorted(entries.items(), key=lambda item: item[1]["time"])[-_MAX_ENTRIES:]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_json(self._path, {"format": _FORMAT, "version": _VERSION, "passed": dict(newest)})
            self._path.chmod(0o600)
        except OSError:
            return False
        return True


def _key(subject: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()


def _is_ours(path: Path) -> bool:
    """Whether only this user can have written the file."""
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MAX_BYTES:
        return False
    return not hasattr(os, "geteuid") or (facts.st_uid == os.geteuid() and not facts.st_mode & 0o022)
