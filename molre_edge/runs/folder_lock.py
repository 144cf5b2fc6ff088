"""One process at a time in a folder: a lock that is taken atomically and that the system releases if its owner dies.

The lock is held on the file ``.in-use`` of the folder, which also says who holds it. The file is removed at the end; if
a killed process leaves it, nobody holds the lock any more and the next process takes it. If the system has no such
locks (Windows, some network drives), nothing is locked. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
import weakref
from datetime import datetime, timezone
from pathlib import Path

__all__ = ["LOCK_FILE", "FolderLock", "holder_of"]

LOCK_FILE = ".in-use"
_MAX_BYTES = 500
_TRIES, _PAUSE_SECONDS = 5, 0.02


class FolderLock:
    """A lock on a folder, held until it is released, or until this object or its process is gone."""

    def __init__(self, folder: Path, handle: int) -> None:
        """Use :meth:`take`."""
        self._folder = folder
        self._release = weakref.finalize(self, _let_go, folder / LOCK_FILE, handle, os.getpid())

    @classmethod
    def take(cls, folder: Path) -> FolderLock | str:
        """Take the lock of a folder, or say who holds it; never waits.

        Args:
            folder: is made if it does not exist, for this user alone.

        Raises:
            OSError: the folder cannot be made or written to.
        """
        holder = "another process"
        for _ in range(_TRIES):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o600)
            except FileNotFoundError:  # the process before has just removed the folder
                continue
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                raise OSError(0, "not a regular file; remove it", str(folder / LOCK_FILE))
            if not _lock(handle):
                holder = _read(handle)
                os.close(handle)
                time.sleep(_PAUSE_SECONDS)  # who only looks whether it is held holds it for an instant
                continue
            if not _is_there(handle, folder / LOCK_FILE):  # the process before has just removed the file
                os.close(handle)
                continue
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            os.truncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {now}".encode())
            return cls(folder, handle)
        return holder

    def release(self) -> None:
        """Let others have the folder; a second time does nothing."""
        self._release()


def holder_of(folder: Path) -> str | None:
    """Who holds the lock of a folder now, such as ``process 12 on box since 2026-01-02T03:04:05+00:00``; else None."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY | _NO_LINK)
    except OSError:
        return None
    try:
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        return None if not regular or _lock(handle, shared=True) else _read(handle)
    finally:
        os.close(handle)


_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def _lock(handle: int, *, shared: bool = False) -> bool:
    """Whether the lock is ours now; also true if the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_there(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except OSError:
        return False


def _read(handle: int) -> str:
    text = os.read(handle, _MAX_BYTES).decode("utf-8", "replace")
    return "".join(sign for sign in text if sign.isprintable()) or "another process"


def _let_go(path: Path, handle: int, owner: int) -> None:
    """Remove the file while the lock is still held, so that nobody else's file is removed."""
    if os.getpid() == owner:  # a forked child has a copy of the handle, and the lock is not its own
        with contextlib.suppress(OSError):
            if _is_there(handle, path):
                path.unlink()
    os.close(handle)
