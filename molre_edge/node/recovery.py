"""Puts a node's folder in order after a crash: rows and files agree again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

__all__ = ["recover"]

Rows: TypeAlias = Callable[[str], list[sqlite3.Row]]
Change: TypeAlias = Callable[[], AbstractContextManager[sqlite3.Connection]]


def recover(rows: Rows, change: Change, images: Path, jobs: Path, reports: Path) -> int:
    """Remove what no row knows, and note files that are gone.

    Args:
        rows: of a query.
        change: one transaction.
        images: folder of the images; made if it is missing, as are the others.
        jobs: of the jobs.
        reports: of the reports.

    Returns:
        How many images are gone.

    Raises:
        OSError, sqlite3.Error: the folders or the database can't be written to.
    """
    shutil.rmtree(jobs, ignore_errors=True)
    for folder in (images, jobs, reports):
        folder.mkdir(exist_ok=True, mode=0o700)
    known: dict[str, dict[str, int]] = {}
    for row in rows("SELECT study, id, bytes FROM images WHERE present = 1"):
        known.setdefault(row["study"], {})[f"{row['id']}.dcm"] = row["bytes"]
    there: dict[str, set[str]] = {}
    for folder in images.iterdir():
        kept = known.get(folder.name, {})
        for file in folder.iterdir():
            if kept.get(file.name) == file.stat().st_size:
                there.setdefault(folder.name, set()).add(file.name)
            else:
                file.unlink()
        if not kept:
            shutil.rmtree(folder)
    lost = [(s, file.removesuffix(".dcm")) for s, files in known.items() for file in files.keys() - there.get(s, ())]
    with change() as database:
        database.executemany("UPDATE images SET present = 0 WHERE study = ? AND id = ?", lost)
    made = {(row["study"], f"{row['version']:04d}") for row in rows("SELECT study, version FROM reports")}
    for folder in reports.glob("*/*"):
        if (folder.parent.name, folder.name) not in made:
            shutil.rmtree(folder)
    return len(lost)
