"""Lists the files under a path: sorted, bounded, and never through a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from molre_edge.errors import ScanError
from molre_edge.scans.limits import MAX_FILES
from molre_edge.scans.scan_records import RejectedScan

__all__ = ["list_files"]


def list_files(root: Path) -> tuple[list[Path], list[RejectedScan]]:
    """All regular files under a folder, at any depth, in a stable order.

    Links inside the folder are not followed: what they point to inside is found anyway, and outside was not asked for.

    Args:
        root: a file or a folder (which may itself be a link).

    Returns:
        Files; and links, devices and unreadable folders with the reason.

    Raises:
        ScanError: ``no_such_path``, ``too_many_files``.
    """
    if root.is_file():
        return [root], []
    if not root.is_dir():
        raise ScanError("no_such_path", "the path is neither a file nor a folder: check its spelling")
    files: list[Path] = []
    others: list[RejectedScan] = []

    def unreadable(error: OSError) -> None:
        others.append(RejectedScan(Path(error.filename), "unreadable", "the folder can't be opened", 0))

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders.sort()
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*sorted(names), *linked):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                files.append(path)
            elif stat.S_ISLNK(mode):
                others.append(RejectedScan(path, "link", "links are not followed: give the path that it points to"))
            else:
                others.append(RejectedScan(path, "not_a_scan", "not a regular file"))
            if len(files) > MAX_FILES:
                raise ScanError(
                    "too_many_files", f"more than {MAX_FILES} files lie under the path: give smaller folders"
                )
    return sorted(files), others
