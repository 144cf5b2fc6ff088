"""What has been verified on this machine, so that it need not be done at every start.

A small JSON in the user's state folder, not in the bundle: a bundle is copied from box to box, and whoever may write to
one must not be able to say of an engine that it has passed. What it protects from and what not: docs/security.md.
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
from molre_edge.files import write_json
from molre_edge.machine import cpu_model, nvidia_driver
from molre_edge.parity import ParityLimits

__all__ = ["RECORD", "VerifiedRecord", "subject_of"]

RECORD = "verified.json"
_FORMAT, _VERSION = "molre-edge-verified", 1
_STEADY = ("runtime", "version", "device", "backend", "threads", "graph_optimisation")
"""Facts of a runner that are the same at each start; others tell what it has done so far."""
_MAX_BYTES, _MAX_ENTRIES = 1 << 20, 200


def subject_of(bundle: Bundle, runner: Runner, gate: ParityLimits) -> dict[str, Any]:
    """What a pass holds for; if any of it changes, the engine is verified again.

    The file that answers by its hash, the bundle with its golden answers, the gate, and what the runner says of itself:
    runtime, version, device, mode.
    """
    facts = runner.facts
    graph = bundle.manifest["files"][bundle.graph(runner.precision).file]
    return {
        "engine": runner.name,
        "file": facts.get("engine_sha256", graph),
        "bundle": bundle.digest,
        "gate": gate.to_dict(),
        "facts": {name: str(facts[name]) for name in _STEADY if name in facts},
        "machine": {"cpu": cpu_model(), "nvidia_driver": nvidia_driver()},
        "molre-edge": __version__,
    }


class VerifiedRecord:
    """The subjects that have passed, by their hash. A record that can't be trusted or read holds nothing."""

    def __init__(self, path: Path | None) -> None:
        """Name the file; None remembers nothing."""
        self._path = path

    def when(self, subject: Mapping[str, Any]) -> str | None:
        """The day (UTC) on which a subject passed; None if it did not, as far as is known."""
        entry = self._entries().get(_key(subject))
        return None if entry is None else entry["time"][:10]

    def add(self, subject: Mapping[str, Any], summary: str) -> bool:
        """Note a pass. False where that can't be written: then it is verified at the next start again."""
        entries = self._entries()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entries[_key(subject)] = {"time": now, "engine": subject["engine"], "summary": summary}
        return self._write(entries)

    def forget(self, subject: Mapping[str, Any]) -> None:
        """Take a pass back, when the same subject has failed since."""
        entries = self._entries()
        if entries.pop(_key(subject), None) is not None:
            self._write(entries)

    def _entries(self) -> dict[str, dict[str, str]]:
        try:
            if self._path is None or not _is_ours(self._path):
                return {}
            data = json.loads(self._path.read_bytes())
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
    """Whether only this user can have written a file."""
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MAX_BYTES:
        return False
    return not hasattr(os, "geteuid") or (facts.st_uid == os.geteuid() and not facts.st_mode & 0o022)
