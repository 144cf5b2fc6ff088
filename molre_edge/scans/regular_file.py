"""Opens a regular file and nothing else, and says why one can't be opened without naming its path."""

from __future__ import annotations

import gzip
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO

from molre_edge.errors import ScanError
from molre_edge.scans.limits import MAX_FILE_BYTES

__all__ = ["BROKEN", "PACKING_BROKEN", "open_regular", "unreadable"]

PACKING_BROKEN = (gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile)
"""What unpacking a damaged gzip stream, archive or deflated data set may raise."""
BROKEN = (OSError, *PACKING_BROKEN)
"""What reading a damaged file, gzip stream or archive may raise."""


def open_regular(path: Path, *, limit: int = MAX_FILE_BYTES) -> tuple[IO[bytes], os.stat_result]:
    """Open a regular file and nothing else: a pipe or device is refused without waiting for it.

    Raises:
        ScanError: ``unreadable``, ``empty_file`` or ``too_large``.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        raise unreadable(error) from error
    file = os.fdopen(handle, "rb")
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise ScanError("unreadable", "it is a pipe or a device, not a regular file: give a file")
        if facts.st_size == 0:
            raise ScanError("empty_file", "the file has no content: copy it again from its source")
        if facts.st_size > limit:
            raise ScanError("too_large", f"the file has {facts.st_size} bytes; at most {limit} are read")
    except BaseException:
        file.close()
        raise
    return file, facts


def unreadable(error: OSError) -> ScanError:
    """The refusal of a file that can't be opened or read; the error's own text would name its path."""
    if isinstance(error, FileNotFoundError):
        return ScanError("unreadable", "the file has gone since its folder was listed: copy it again when it is whole")
    reason = "permission denied" if isinstance(error, PermissionError) else error.strerror or "input/output error"
    return ScanError("unreadable", f"the file can't be opened or read: {reason}")
