"""One writer at a time: a lock that is held from the first moment to the last, and says who holds it.

The lock is the OS's own (``flock``), so it ends with its owner, however that ends. It is on a file beside the folder,
because the folder may not exist yet or may be replaced; the file names the owner and is removed at the end. If that
file can't be created, the folder itself is locked. Without such locks (Windows, some network drives) nothing is held.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from molre_edge.errors import InUseError
from molre_edge.files import short_name

__all__ = ["hold"]

_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_MOST_OWNER = 300


@contextlib.contextmanager
def hold(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder, existing or not, while the block runs.

    Args:
        folder: the folder to write.
        what: the work, for other processes' messages, such as ``molre-edge export``.

    Raises:
        InUseError: another process holds it; the message names that process.
    """
    place = folder.resolve()
    file = place.parent / f".{short_name(place.name)}.lock"
    with contextlib.ExitStack() as stack:
        for parent in reversed([each for each in place.parents if not each.exists()]):
            parent.mkdir(exist_ok=True)
            stack.callback(_remove_empty, parent)
        if place.is_dir():
            stack.enter_context(_locked(place, os.O_RDONLY, folder, file))
        if os.access(place.parent, os.W_OK):
            handle = stack.enter_context(_locked(file, os.O_RDWR | os.O_CREAT, folder, file))
            if handle is not None:
                stack.callback(_remove, file, handle)
                os.ftruncate(handle, 0)
                since = datetime.now(timezone.utc).strftime("%H:%M:%S")
                os.write(
                    handle, f"process {os.getpid()} on {socket.gethostname()} ({what}, since {since} UTC)".encode()
                )
        yield


@contextlib.contextmanager
def _locked(path: Path, flags: int, folder: Path, file: Path) -> Iterator[int | None]:
    """A locked handle; None if the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        yield None
        return
    while True:
        try:
            handle = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        except OSError:  # read-only, or a link that someone put there
            yield None
            return
        if stat.S_IFMT(os.fstat(handle).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            os.close(handle)
            yield None
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno not in _HELD:
                yield None
                return
            raise InUseError(
                f"{folder}: in use by {_owner(file)}. Wait until it has finished, or write to another place"
            ) from error
        try:
            current = os.path.samestat(os.fstat(handle), os.stat(path))
        except OSError:
            current = False
        if current:
            break
        os.close(handle)  # its former owner removed the file between the two steps
    try:
        yield handle
    finally:
        os.close(handle)


def _owner(file: Path) -> str:
    """What the lock's file says about its owner."""
    with contextlib.suppress(OSError):
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            text = os.read(handle, _MOST_OWNER).decode(errors="replace")
        finally:
            os.close(handle)
        if text.isprintable() and text:
            return text
    return "another process"


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove(file: Path, handle: int) -> None:
    """Remove the lock's file, while it is still held."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(handle), os.stat(file)):
            file.unlink()
