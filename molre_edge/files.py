"""Files and folders that are written completely or not at all, and hashes. Standard library only.

If a process is killed while it writes, the next process that writes the same file or folder removes the leftovers. A
lock, released by the OS when its owner dies, shows who owns a leftover, so nothing of a living process is touched, also
in another container. Without such locks (Windows, some network drives) leftovers stay.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from molre_edge.regular import open_regular, sha256_of_open

__all__ = [
    "StrPath",
    "name_problem",
    "read_regular",
    "replace_folder",
    "restore_folder",
    "sha256_of",
    "short_name",
    "write_json",
    "write_whole",
]

StrPath: TypeAlias = str | os.PathLike[str]
"""A path as a caller may give it."""

_MOST_BYTES = 200
"""Names of temporary files hold at most so many bytes of the final name: file systems end names at 255 bytes."""
_LONGEST_SUFFIX = 16


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file's content, in hexadecimal.

    Raises:
        OSError: the file can't be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return sha256_of_open(file)


def read_regular(path: Path, *, largest: int, links: bool = True) -> bytes:
    """The content of a regular file. It is opened once; kind, size and content are those of the open file.

    Args:
        path: the file.
        largest: the largest allowed size in bytes.
        links: whether a symbolic link is followed.

    Raises:
        OSError: the file does not exist, can't be read, is not a regular file, is a link, or is too large. ``strerror``
            holds the reason.
    """
    entry = os.lstat(path)
    if not links and stat.S_ISLNK(entry.st_mode):
        raise OSError(0, "a symbolic link, not a regular file", str(path))
    with open_regular(path, largest=largest) as file:
        if not links and not os.path.samestat(entry, os.fstat(file.fileno())):
            raise OSError(0, "replaced while it was opened", str(path))
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)  # a buffer of the file's size, not of the limit's
    if len(content) > size:
        raise OSError(0, "grew while it was read", str(path))
    return content


def name_problem(path: StrPath) -> str | None:
    """Why the file system can't have a file of this name; None if it can."""
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return f"the name is too long: {len(os.fsencode(Path(path).name))} bytes, and file systems allow 255"
    except ValueError as error:  # a zero byte
        return str(error)
    return None


def short_name(name: str) -> str:
    """A name, or the start of a long one and its hash: so that names made from it stay legal."""
    raw = os.fsencode(name)
    if len(raw) <= _MOST_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"{raw[: _MOST_BYTES - 20].decode(errors='ignore')}-{digest}"


@contextlib.contextmanager
def write_whole(path: Path, *, clear: bool = True, mode: int | None = None) -> Iterator[Path]:
    """A temporary file beside `path`. It becomes `path` if the block succeeds, and is removed if the block fails.

    Args:
        path: of the file; its folder is made.
        clear: look for leftovers of dead processes first. That lists the folder; leave it out where it holds many files
            and was cleared before.
        mode: its permissions from the first moment; None takes those that the user's umask gives at the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = f".partial{path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ''}"
    if clear:
        _clear(path, suffix)

    def make() -> Path:
        handle, name = tempfile.mkstemp(prefix=f".{short_name(path.name)}.", suffix=suffix, dir=path.parent)
        os.close(handle)
        return Path(name)

    with _owned(make) as partial:
        try:
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.chmod(partial, 0o666 & ~_umask() if mode is None else mode)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write JSON, completely or not at all.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not allow.
    """
    with write_whole(path) as partial:
        partial.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def replace_folder(folder: Path, *, mode: int | None = None) -> Iterator[Path]:
    """A temporary folder beside `folder`. It takes its place if the block succeeds, and is removed if the block fails.

    On Linux the two folders are exchanged in one step, so `folder` exists at every moment. Where the file system can't
    do that, the old folder is put aside first; :func:`restore_folder` brings it back if the process dies in between.

    Args:
        folder: to write or replace.
        mode: its permissions from the first moment; None takes those that the user's umask gives.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear(folder, _HALF)

    def make() -> Path:
        return Path(tempfile.mkdtemp(prefix=f".{short_name(folder.name)}.", suffix=_HALF, dir=folder.parent))

    with _owned(make) as partial:
        old = partial.with_suffix(_OLD)
        try:
            yield partial
            os.chmod(partial, 0o777 & ~_umask() if mode is None else mode)
            if not folder.exists():
                os.replace(partial, folder)
            elif not _exchange(partial, folder):
                os.replace(folder, old)
                os.replace(partial, folder)
        finally:
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Bring back a folder that a process put aside before it died. A folder that exists is left alone."""
    if not folder.parent.is_dir() or os.path.lexists(folder):
        return
    for old in folder.parent.glob(f".{glob.escape(short_name(folder.name))}.{'?' * 8}{_OLD}"):
        partial = old.with_suffix(_HALF)
        with _lock(partial) as ours:  # a living process is about to finish the replacement
            if (ours or not partial.exists()) and not os.path.lexists(folder):
                with contextlib.suppress(OSError):
                    os.replace(old, folder)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step (Linux's renameat2); False if the system or the file system can't."""
    if os.name != "posix":
        return False
    import ctypes

    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    done: int = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return done == 0


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_HALF, _OLD = ".partial", ".old"


def _clear(target: Path, suffix: str) -> None:
    """Remove what dead processes left of `target`. A folder that one of them put aside comes back."""
    ours_once = f".{glob.escape(short_name(target.name))}.{'?' * 8}"  # as tempfile names them, for this target only
    for partial in target.parent.glob(f"{ours_once}{suffix}"):
        with _lock(partial) as ours:
            if not ours or partial.is_symlink():
                continue
            if not partial.is_dir():
                partial.unlink(missing_ok=True)
                continue
            old = partial.with_suffix(_OLD)
            if old.exists() and not target.exists():
                os.replace(old, target)
            shutil.rmtree(partial, ignore_errors=True)
    if suffix == _HALF:  # a process that died at its very end left only the old folder
        for old in target.parent.glob(f"{ours_once}{_OLD}"):
            if target.exists() and not old.with_suffix(_HALF).exists():
                shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _owned(make: Callable[[], Path]) -> Iterator[Path]:
    """A new file or folder that is locked while the block runs."""
    for attempt in range(3):
        path = make()
        with _lock(path) as ours:
            if ours or (path.exists() and attempt == 2):  # no locks on this file system
                yield path
                return
            if path.is_dir():  # another process took it for a leftover before it was locked
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Whether this process alone holds the file or folder while the block runs. Its death ends the lock."""
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (ImportError, OSError):
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        ours = False
    try:
        yield ours
    finally:
        os.close(handle)


def _umask() -> int:
    """The process's mask. Asking the system's call for it changes it, also for files that other threads make."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/status", errors="replace") as status:
        return int(next((line for line in status if line.startswith("Umask:")), "").split()[1], 8)
    mask = os.umask(0)
    os.umask(mask)
    return mask
