"""Files written whole or not at all, and their hashes. Standard library only.

What a killed process left half written beside a file or folder is cleared away by the next that writes the same. Whose
it is, is told by a lock that the system drops when its owner dies, so nothing of a living process is ever touched, in
another container neither; where there are no such locks (Windows, some network drives) leftovers stay.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["replace_folder", "sha256_of", "write_json", "write_whole"]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well, and is removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = f".partial{path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ''}"
    _clear(path, suffix)

    def make() -> Path:
        handle, name = tempfile.mkstemp(prefix=f".{_short(path.name)}.", suffix=suffix, dir=path.parent)
        os.close(handle)
        return Path(name)

    with _owned(make) as partial:
        try:
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.chmod(partial, 0o666 & ~_umask())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write JSON whole; NaN and infinity are refused, since JSON has neither."""
    with write_whole(path) as partial:
        partial.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well, and is removed otherwise."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear(folder, _HALF)

    def make() -> Path:
        return Path(tempfile.mkdtemp(prefix=f".{_short(folder.name)}.", suffix=_HALF, dir=folder.parent))

    with _owned(make) as partial:
        old = partial.with_suffix(_OLD)
        try:
            yield partial
            os.chmod(partial, 0o777 & ~_umask())
            if folder.exists():
                os.replace(folder, old)
            os.replace(partial, folder)
        finally:
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


_HALF, _OLD = ".partial", ".old"
_LONGEST_SUFFIX = 16
_LONGEST_NAME = 200  # bytes; file systems allow 255, and a temporary name has some twenty more


def _short(name: str) -> str:
    """The name as temporary names hold it: a long one is cut, and told from others by its hash."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST_NAME:
        return name
    return f"{raw[:_LONGEST_NAME].decode('utf-8', 'ignore')}-{hashlib.sha256(raw).hexdigest()[:16]}"


def _clear(target: Path, suffix: str) -> None:
    """Remove what dead processes left of `target`; if one died amid replacing a folder, that folder comes back."""
    ours_once = (
        f".{glob.escape(_short(target.name))}.{'?' * 8}"  # as tempfile names them: of this target and of no longer name
    )
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
    if suffix == _HALF:  # a process that died at its very end has left but the old folder
        for old in target.parent.glob(f"{ours_once}{_OLD}"):
            if target.exists() and not old.with_suffix(_HALF).exists():
                shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _owned(make: Callable[[], Path]) -> Iterator[Path]:
    """Something new that is locked while the block runs."""
    for attempt in range(3):
        path = make()
        with _lock(path) as ours:
            if ours or (path.exists() and attempt == 2):  # without locks here, it does without
                yield path
                return
            if path.is_dir():  # another has taken it for a leftover between its making and its lock, or there are none
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Whether this process alone has the file or folder while the block runs. Its death ends the lock."""
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
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
    mask = os.umask(0)
    os.umask(mask)
    return mask
