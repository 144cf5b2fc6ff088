"""Opening files that someone else made: regular files only, opened once. Standard library only.

A pipe or a device in place of a file makes its reader wait forever or read without end. So a file is opened once, the
open handle is checked, and everything that follows (size, hash, content) comes from that handle.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["append_regular", "handle_path", "open_regular", "sha256_of_open"]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}


@contextlib.contextmanager
def open_regular(path: Path, *, largest: int | None = None) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a symbolic link counts as what it leads to.

    Args:
        path: of the file.
        largest: the largest allowed size in bytes; None for any.

    Raises:
        OSError: the file does not exist, can't be read, is not a regular file, or is too large. ``strerror`` holds the
            reason.
    """
    _check(os.stat(path), path, largest)  # before it is opened: opening some devices does something
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with open(handle, "rb") as file:
        _check(os.fstat(handle), path, largest)
        yield file


@contextlib.contextmanager
def append_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to append to it, or make it. It is buffered: else a write that ends early is no error.

    Raises:
        OSError: it can't be written, or is not a regular file or a symbolic link. ``strerror`` holds the reason.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    with contextlib.suppress(FileNotFoundError):
        _check(os.lstat(path), path, None)
    handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with open(handle, "ab") as file:
        _check(os.fstat(handle), path, None)
        yield file


def _check(status: os.stat_result, path: Path, largest: int | None) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise OSError(0, f"{_KINDS.get(kind, 'something else')}, not a regular file", str(path))
    if largest is not None and status.st_size > largest:
        raise OSError(0, f"{status.st_size} bytes long, and {largest} is the limit", str(path))


def handle_path(file: BinaryIO, path: Path) -> str:
    """A name for libraries that open files by name, leading to the open file; `path` where the system has none."""
    name = f"/dev/fd/{file.fileno()}"
    return name if os.path.exists(name) else str(path)


def sha256_of_open(file: BinaryIO) -> str:
    """SHA-256 of the whole of an open file, in hexadecimal; the position is at the end afterwards."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
