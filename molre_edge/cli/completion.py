"""What the shell offers for the values of options. Asked at every press of a key: nothing heavy, and never an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from molre_edge.bundle.bundle import MANIFEST
from molre_edge.specs import RUNTIMES, SR_KINDS, Precision

__all__ = ["bundles", "checkpoints", "engines", "references", "report_kinds", "runs"]

RUN_FILE = "run.json"  # as of molre_edge.runs.store, which takes longer to import than a key is pressed
_MOST = 1000  # entries of a folder that are looked at


def engines(incomplete: str) -> list[str]:
    """Words for ``--engine``."""
    precisions = [precision.value for precision in Precision]
    words = [*precisions, "torch", *(f"{runtime}:{precision}" for runtime in RUNTIMES[:-1] for precision in precisions)]
    return [word for word in words if word.startswith(incomplete)]


def bundles(incomplete: str) -> list[str]:
    """Folders that are bundles; none where there are none, and the shell offers all files."""
    return _paths(incomplete, lambda entry: _holds(entry, MANIFEST))


def runs(incomplete: str) -> list[str]:
    """Folders that are runs of ``infer``, also within the folder that holds them by default."""
    return _paths(incomplete, lambda entry: _holds(entry, RUN_FILE)) or [
        path
        for path in _paths(f"edge-runs{os.sep}", lambda entry: _holds(entry, RUN_FILE))
        if path.startswith(incomplete)
    ]


def checkpoints(incomplete: str) -> list[str]:
    """Files that are named as checkpoints are."""
    return _paths(incomplete, lambda entry: entry.name.endswith((".pt", ".safetensors")))


def references(incomplete: str) -> list[str]:
    """Words for ``--reference``, and checkpoints."""
    words = [word for word in ("auto", "golden", "none") if word.startswith(incomplete)]
    return [*words, *checkpoints(incomplete)]


def report_kinds(incomplete: str) -> list[str]:
    """Words for ``--sr``."""
    return [word for word in SR_KINDS if word.startswith(incomplete)]


def _paths(incomplete: str, fits: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    """Paths in the folder that is being typed, as they are typed: relative to where the user is."""
    head, tail = os.path.split(incomplete)
    found = []
    try:
        with os.scandir(Path(head).expanduser() if head else ".") as entries:
            for _, entry in zip(range(_MOST), entries, strict=False):
                if entry.name.startswith(tail) and (tail or not entry.name.startswith(".")) and fits(entry):
                    found.append(os.path.join(head, entry.name))
    except (OSError, RuntimeError):  # the second: '~' of a user who is not there
        return []
    return sorted(found)


def _holds(entry: os.DirEntry[str], name: str) -> bool:
    return entry.is_dir() and os.path.isfile(os.path.join(entry.path, name))
