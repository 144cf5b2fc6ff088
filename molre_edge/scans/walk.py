"""Lists the files under a path: sorted, bounded, never through a link; what can't be looked at costs only itself."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from molre_edge.errors import ScanError
from molre_edge.scans.archive import list_entries
from molre_edge.scans.archive_path import is_archive_name
from molre_edge.scans.limits import MAX_FILES
from molre_edge.scans.regular_file import unreadable
from molre_edge.scans.scan_records import RejectedScan

__all__ = ["Listing", "list_files"]


@dataclass
class Listing:
    """What lies under a path.

    Attributes:
        files: regular files and entries of zip archives, sorted.
        rejected: what can't be looked at: folders and files without permission, files that have gone, bad archives.
        ignored: links, pipes and devices.
    """

    files: list[Path] = field(default_factory=list)
    rejected: list[RejectedScan] = field(default_factory=list)
    ignored: list[RejectedScan] = field(default_factory=list)


def list_files(root: Path) -> Listing:
    """All regular files under a folder, at any depth, in a stable order; a zip archive counts as a folder.

    Links inside the folder are not followed: what they point to inside is found anyway, and outside was not asked for.

    Args:
        root: a file or a folder (which may itself be a link).

    Raises:
        ScanError: ``no_such_path``, ``unreadable`` or ``too_many_files``; only about the path itself.
    """
    listing = Listing()
    try:
        mode = root.stat().st_mode
    except PermissionError as error:
        raise unreadable(error) from error
    except (OSError, ValueError):
        mode = 0
    if stat.S_ISREG(mode):
        _add(root, listing)
        return listing
    if not stat.S_ISDIR(mode):
        raise ScanError("no_such_path", "the path is neither a file nor a folder: check its spelling")

    def not_listed(error: OSError) -> None:
        listing.rejected.append(
            RejectedScan(Path(error.filename), "unreadable", f"the folder can't be listed: {_reason(error)}", 0)
        )

    for folder, folders, names in os.walk(root, onerror=not_listed):
        folders.sort()
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*sorted(names), *linked):
            _look_at(Path(folder, name), listing)
            if len(listing.files) > MAX_FILES:
                raise ScanError(
                    "too_many_files", f"more than {MAX_FILES} files lie under the path: give smaller folders"
                )
    listing.files.sort()
    return listing


def _look_at(path: Path, listing: Listing) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError as error:  # no permission to enter the folder, or the file has gone meanwhile
        listing.rejected.append(RejectedScan(path, "unreadable", str(unreadable(error))))
        return
    if stat.S_ISREG(mode):
        _add(path, listing)
    elif stat.S_ISLNK(mode):
        listing.ignored.append(RejectedScan(path, "link", "links are not followed: give the path that it points to"))
    else:
        listing.ignored.append(RejectedScan(path, "not_a_scan", "not a regular file"))


def _add(path: Path, listing: Listing) -> None:
    if not is_archive_name(path):
        listing.files.append(path)
        return
    try:
        entries, refused = list_entries(path)
    except ScanError as problem:
        listing.rejected.append(RejectedScan(path, problem.code, str(problem)))
        return
    listing.files += entries
    listing.ignored += [entry for entry in refused if entry.code == "link"]
    listing.rejected += [entry for entry in refused if entry.code != "link"]
    if not entries and not refused:
        listing.ignored.append(RejectedScan(path, "not_a_scan", "the archive holds no files"))


def _reason(error: OSError) -> str:
    return "permission denied" if isinstance(error, PermissionError) else error.strerror or "input/output error"
