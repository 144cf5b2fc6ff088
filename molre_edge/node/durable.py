"""Files and names of files that survive a loss of power: content and folder are synced before anyone is told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from molre_edge.errors import RunError

__all__ = ["PARTIAL", "check_links", "place_folder", "sync_folder", "write_durable"]

PARTIAL = ".partial"
"""Ends the names of what is not finished. The node alone writes in its folder, so at its start all of it is removed."""


def write_durable(path: Path, content: bytes) -> None:
    """Write a file whole and synced; its folder exists.

    Raises:
        OSError: the disk is full, or the folder can't be written to. Nothing is left then.
    """
    partial = path.with_name(f"{path.name}{PARTIAL}")
    try:
        with open(partial, "wb", buffering=0) as file:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def place_folder(partial: Path, folder: Path) -> None:
    """Give a finished folder its final name, all of it synced. What had the name is removed first.

    Raises:
        OSError: it can't be synced or renamed.
    """
    for file in sorted(partial.iterdir()):
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    sync_folder(partial)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)
    sync_folder(folder.parent)


def check_links(folder: Path) -> None:
    """Try a hard link: a study in hand is a folder of them.

    Raises:
        RunError: none can be made there.
        OSError: the folder can't be written to.
    """
    one, other = (folder / f".link-{number}{PARTIAL}" for number in (1, 2))
    one.touch(mode=0o600)
    try:
        other.hardlink_to(one)
    except OSError as error:
        raise RunError(
            f"folder: {folder}: its file system makes no hard links ({error.strerror or error}), which the node needs: "
            "name a folder on a local file system such as ext4, XFS or NTFS"
        ) from error
    finally:
        for path in (one, other):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder; on systems that can't open folders (Windows) they sync them by themselves."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
