"""Scans that were found become entries of a run: each with its id, whichever shard it belongs to."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from molre_edge.runs.scan_ids import IdSecret
from molre_edge.runs.scan_table import Entry, path_text
from molre_edge.scans import FoundScans, ScanSource

__all__ = ["digest_of", "enter_all"]


def enter_all(found: FoundScans, base: Path, secret: IdSecret) -> list[tuple[Entry, ScanSource | None]]:
    """An entry for everything that was found, with the scan to read where it can be read.

    Args:
        found: below the run's folder of scans.
        base: that folder, to which paths are relative.
        secret: of the run.
    """
    repeats = Counter[tuple[str, str]]()

    def identify(path: str, key: str) -> str:
        repeats[path, key] += 1
        return secret.scan_id(path, key, repeats[path, key] - 1)

    entries: list[tuple[Entry, ScanSource | None]] = []
    for source in found.scans:
        path, key = path_text(source.path, base), path_text(source.files[0], base)
        scan = identify(path, key)
        entries.append((Entry(scan, path, key, source.fingerprint(), "pending", files=len(source.files)), source))
    for status, group in (("rejected", found.rejected), ("ignored", found.ignored)):
        for item in group:
            path, key = path_text(item.path, base), f"{status}:{item.code}"
            entry = Entry(identify(path, key), path, key, "", status, item.code, item.reason, files=item.files)
            entries.append((entry, None))
    return entries


def digest_of(ids: Iterable[str]) -> str:
    """SHA-256 over ids in any order: what a run found. Shards that found the same have the same."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
