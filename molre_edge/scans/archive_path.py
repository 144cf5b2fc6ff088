"""Paths below a zip archive: ``study.zip/series/0001.dcm`` names an entry of it. Standard library only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["archive_of", "is_archive_name", "status"]


def is_archive_name(path: Path) -> bool:
    """Whether a file is called a zip archive; ``._name`` is what macOS leaves beside one."""
    return path.name.lower().endswith(".zip") and not path.name.startswith("._")


def archive_of(path: Path) -> Path | None:
    """The zip archive that holds an entry's path, or None for a path of the file system."""
    if ".zip" not in str(path).lower():
        return None
    for parent in path.parents:
        if is_archive_name(parent):
            try:
                mode = parent.stat().st_mode
            except (OSError, ValueError):
                continue
            if stat.S_ISREG(mode):
                return parent
    return None


def status(path: Path) -> os.stat_result:
    """Size and times of a file, or of the archive that holds an entry.

    Raises:
        OSError: it is not there.
    """
    return (archive_of(path) or path).stat()
