"""Zip archives of studies, as PACS and portals export them, read where they lie: nothing is unpacked to disk.

Each entry has a path below the archive (``study.zip/series/0001.dcm``), so it is looked at, grouped and read as a file
in a folder. Bounds, against archives that are made to cost much: the size of the archive, of its directory, the number
of entries, what they claim to unpack to together, and what each really unpacks to.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from molre_edge.errors import ScanError
from molre_edge.scans.limits import (
    MAX_ARCHIVE_BYTES,
    MAX_ARCHIVE_CONTENT_BYTES,
    MAX_ARCHIVE_DIRECTORY_BYTES,
    MAX_FILES,
)
from molre_edge.scans.regular_file import BROKEN, open_regular, unreadable
from molre_edge.scans.scan_records import RejectedScan

__all__ = ["list_entries", "open_entry"]

_ENTRY = b"PK\x01\x02"
"""Every entry of an archive's directory starts with this."""
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Other methods choose how much memory they take, and no PACS writes them."""
_CREATED_BY_UNIX = 3
_UNPACK = "unpack it and give the folder"


class _BoundedFile(io.RawIOBase):
    """The archive's file; the directory, which zipfile reads in one piece, is bounded where it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size > MAX_ARCHIVE_DIRECTORY_BYTES:
            raise ScanError(
                "too_large", f"the archive's directory has {size} bytes, far more than a study's: {_UNPACK}"
            )
        data = self._file.read(MAX_ARCHIVE_DIRECTORY_BYTES if size < 0 else size)
        if data.count(_ENTRY) > MAX_FILES:
            raise ScanError("too_large", f"the archive has more than {MAX_FILES} entries: {_UNPACK} in parts")
        return data

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class _Archive:
    """An open archive: `entries` by the name that their paths have, and why the others can't be used."""

    key: tuple[object, ...]
    zip: zipfile.ZipFile
    entries: dict[str, zipfile.ZipInfo]
    refused: tuple[tuple[str, str, str], ...]


_lock = threading.Lock()
_last: _Archive | None = None
"""The archive used last: reading its directory again for every slice of a study would cost more than the slices."""


def list_entries(path: Path) -> tuple[list[Path], list[RejectedScan]]:
    """The files in an archive, as paths below it, and its entries that can't be used with the reason.

    Raises:
        ScanError: ``unreadable``, ``empty_file``, ``unsupported_format`` or ``too_large``, about the whole archive.
    """
    archive = _open(path)
    refused = [RejectedScan(path / name if name else path, code, reason) for name, code, reason in archive.refused]
    return sorted(path / name for name in archive.entries), refused


def open_entry(archive: Path, path: Path) -> tuple[IO[bytes], int]:
    """Open an entry of an archive, and tell how many bytes it claims to hold; it never yields more.

    Raises:
        ScanError: as :func:`list_entries`, ``unreadable`` when the entry has gone, or ``corrupt_header``.
    """
    opened = _open(archive)
    info = opened.entries.get(path.relative_to(archive).as_posix())
    if info is None:
        raise ScanError("unreadable", "the archive has changed since it was looked at: look for scans again")
    if info.file_size == 0:
        raise ScanError("empty_file", "the archive's entry has no content: export the study again")
    try:
        return opened.zip.open(info), info.file_size
    except (*BROKEN, NotImplementedError, RuntimeError, ValueError) as error:
        raise ScanError("corrupt_header", f"the archive's entry is damaged: {_UNPACK}, or export it again") from error


def _open(path: Path) -> _Archive:
    global _last
    file, facts = open_regular(path, limit=MAX_ARCHIVE_BYTES)
    # A process that was forked shares the position in an open file with its parent, so it opens its own.
    key = (os.getpid(), path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    with _lock:
        if _last is not None and _last.key == key:
            file.close()
            return _last
        bounded = _BoundedFile(file)
        try:
            archive = zipfile.ZipFile(bounded)
        except OSError as error:
            bounded.close()
            raise unreadable(error) from error
        except ScanError:
            bounded.close()
            raise
        except Exception as error:  # zipfile raises BadZipFile, struct.error, UnicodeDecodeError and others
            bounded.close()
            raise ScanError(
                "unsupported_format",
                "it is called .zip but can't be read as a zip archive: copy it again, or unpack it",
            ) from error
        try:
            _last = _Archive(key, archive, *_examine(archive, facts.st_size))
        except BaseException:
            archive.close()
            bounded.close()
            raise
        return _last


def _examine(
    archive: zipfile.ZipFile, size: int
) -> tuple[dict[str, zipfile.ZipInfo], tuple[tuple[str, str, str], ...]]:
    """Usable entries by name, and (name, code, reason) of the others."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if sum(info.compress_size for info in infos) > size:
        raise ScanError("too_large", f"the archive's entries overlap, as in archives made to cost much: {_UNPACK}")
    claimed = sum(info.file_size for info in infos)
    if claimed > MAX_ARCHIVE_CONTENT_BYTES:
        raise ScanError(
            "too_large",
            f"the archive's entries unpack to {claimed} bytes; at most {MAX_ARCHIVE_CONTENT_BYTES} are read: {_UNPACK}",
        )
    entries: dict[str, zipfile.ZipInfo] = {}
    refused: list[tuple[str, str, str]] = []
    for info in infos:
        name = _safe_name(info.filename)
        if name is None:
            refused.append(("", "unsupported_format", f"an entry's name leads out of the archive: {_UNPACK}"))
        elif name in entries:
            refused.append((name, "unsupported_format", f"two entries of the archive have one name: {_UNPACK}"))
        elif info.create_system == _CREATED_BY_UNIX and stat.S_ISLNK(info.external_attr >> 16):
            refused.append((name, "link", "links are not followed: give the path that it points to"))
        elif info.flag_bits & _ENCRYPTED:
            refused.append(
                (name, "unsupported_format", "the archive is encrypted: unpack it with its password, give the folder")
            )
        elif info.compress_type not in _METHODS:
            refused.append(
                (name, "unsupported_format", f"the entry is neither stored nor deflated, so it is not read: {_UNPACK}")
            )
        else:
            entries[name] = info
    return entries, tuple(refused)


def _safe_name(name: str) -> str | None:
    """An entry's name as a path below the archive, or None where it would leave it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or ":" in path.parts[0]:
        return None
    return path.as_posix()
