"""Whether what is read is what was found: files in a folder that others write to may be replaced in between."""

from __future__ import annotations

import contextlib
import os

from molre_edge.errors import ScanError
from molre_edge.scans.archive_path import status
from molre_edge.scans.scan_records import FoundFile, ScanSource, ScanWarning

__all__ = ["changed", "check_unchanged", "new_files"]


def changed() -> ScanError:
    """The refusal of a scan whose files are not those that were found."""
    return ScanError(
        "changed",
        "files of the scan were replaced or changed after it was found: look for scans again when nothing writes there",
    )


def check_unchanged(source: ScanSource) -> None:
    """Compare size and times of each file with what was noted when the scan was found.

    Files that are gone are left to whoever opens them.

    Raises:
        ScanError: ``changed``.
    """
    for file, found in zip(source.files, source.found, strict=False):
        with contextlib.suppress(OSError):
            if not found.same_on_disk(FoundFile.of(status(file))):
                raise changed()


def new_files(source: ScanSource) -> tuple[ScanWarning, ...]:
    """A warning when more files lie in the scan's folders than when it was found: the study may still be arriving."""
    for folder, count in source.folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            now = sum(entry.is_file(follow_symlinks=False) for entry in entries)
            if now > count:
                text = (
                    f"{now - count} files came into the scan's folder after it was found, so the study may still be "
                    "arriving: run it again when it is complete"
                )
                return (ScanWarning("still_arriving", text),)
    return ()
