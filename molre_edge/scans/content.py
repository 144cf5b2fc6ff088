"""Opens what lies at a path, bounded where it is read: a regular file, what is gzipped in it, or an entry of a zip.

Everything that a scan is read from passes through here. A path below a zip archive (``study.zip/series/0001.dcm``)
names an entry of it; whether a file is gzipped is seen from its first two bytes, never from its name.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

from molre_edge.errors import ScanError
from molre_edge.scans.archive import open_entry
from molre_edge.scans.archive_path import archive_of
from molre_edge.scans.limits import MAX_FILE_BYTES
from molre_edge.scans.regular_file import BROKEN, open_regular

__all__ = [
    "Content",
    "Rewindable",
    "WatchedFile",
    "content_bytes",
    "open_content",
]

_BLOCK = 1 << 16
_GZIP = b"\x1f\x8b"


class Content:
    """The bytes of one file, read forward. No more than the limit is unpacked, and no more asked for than is there.

    Attributes:
        size: how many bytes there are, or None where only unpacking tells.
        packed: whether bytes are unpacked on the way, so that going back is not possible.
    """

    def __init__(
        self, stream: IO[bytes] | gzip.GzipFile, *, size: int | None, packed: bool, limit: int = MAX_FILE_BYTES
    ) -> None:
        """Args: `stream`, closed with this; `limit`, the most bytes that may be unpacked."""
        self.size, self.packed = size, packed
        self._stream, self._limit, self._at = stream, limit, 0

    def read(self, count: int = -1) -> bytes:
        """Read `count` bytes, or to the end; fewer only at the end.

        Raises:
            ScanError: ``too_large``, when more than the limit would be unpacked.
        """
        if not self.packed:  # a length that a header claims must not make the file object allocate it
            left = max(0, (self.size or 0) - self._at)
            data = self._stream.read(left if count < 0 else min(count, left))
            self._at += len(data)
            return data
        parts, wanted = [], count if count >= 0 else self._limit + 1
        while wanted > 0 and (block := self._stream.read(min(wanted, _BLOCK))):
            self._at += len(block)
            wanted -= len(block)
            if self._at > self._limit:
                raise ScanError(
                    "too_large",
                    f"the file unpacks to more than {self._limit} bytes, the most that are read: give a file as its "
                    "scanner wrote it",
                )
            parts.append(block)
        return b"".join(parts)

    def skip_to(self, position: int) -> None:
        """Go forward to a position; what lies between is unpacked and dropped."""
        if not self.packed:
            self._at = self._stream.seek(position)
            return
        while self._at < position and self.read(min(position - self._at, _BLOCK)):
            pass

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> Content:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Rewindable:
    """A content that can be read again from any place, as pydicom does; what was unpacked is kept in memory.

    It also counts what the reader asks for, so that a header that goes on and on is refused while it is read.

    Args:
        more: returns the next bytes, at most so many, and nothing at the end.
        watch: is called with each piece of data that is handed on; may raise.
    """

    def __init__(self, more: Callable[[int], bytes], watch: Callable[[bytes], None], block: int = _BLOCK) -> None:
        """Args: see the class; `block`, how many bytes to unpack at a time."""
        self._more, self._watch, self._block = more, watch, block
        self._data, self._at, self._ended = bytearray(), 0, False

    def read(self, count: int = -1) -> bytes:
        """Read `count` bytes, or to the end; fewer only at the end."""
        self._fill(None if count < 0 else self._at + count)
        data = bytes(self._data[self._at :] if count < 0 else self._data[self._at : self._at + count])
        self._at += len(data)
        self._watch(data)
        return data

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        self._at = max(0, position + self._at if whence == io.SEEK_CUR else position)
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def _fill(self, end: int | None) -> None:
        while not self._ended and (end is None or len(self._data) < end):
            far = _BLOCK if end is None else end - len(self._data)
            block = self._more(max(self._block, min(far, _BLOCK)))
            self._ended = not block
            self._data += block


class WatchedFile:
    """A regular file for pydicom, with the same counting as :class:`Rewindable` but nothing kept."""

    def __init__(self, content: Content, watch: Callable[[bytes], None]) -> None:
        """Args: `content`, not packed; `watch`, as in :class:`Rewindable`."""
        self._content, self._watch, self._at = content, watch, 0

    def read(self, count: int = -1) -> bytes:
        """Read `count` bytes, or to the end; fewer only at the end."""
        data = self._content.read(count)
        self._at += len(data)
        self._watch(data)
        return data

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        self._at = max(0, position + self._at if whence == io.SEEK_CUR else position)
        self._content.skip_to(self._at)
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at


def open_content(path: Path, *, limit: int = MAX_FILE_BYTES, unpacked: int | None = None) -> Content:
    """Open a file, or an entry of a zip archive, at its first byte; a gzipped one is unpacked on the way.

    Args:
        path: the file; or the path of a zip archive with the entry's name behind it.
        limit: the most bytes that may be read.
        unpacked: the most bytes that may be unpacked, `limit` by default.

    Raises:
        ScanError: ``unreadable``, ``empty_file``, ``too_large``, ``unsupported_format`` or ``corrupt_header``.
    """
    archive = archive_of(path)
    if archive is None:
        file, facts = open_regular(path, limit=limit)
        size, packed = facts.st_size, False
    else:
        file, size = open_entry(archive, path)
        packed = True
    try:
        start = file.read(2)
        file.seek(0)
    except BROKEN as error:
        file.close()
        raise ScanError("corrupt_header", "the file breaks within its header: copy it again from its source") from error
    if start == _GZIP:
        return Content(_Closing(file), size=None, packed=True, limit=unpacked or limit)
    return Content(file, size=size, packed=packed, limit=(unpacked or limit) if packed else limit)


class _Closing(gzip.GzipFile):
    """A gzip stream that closes the file below it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._below = file

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._below.close()


def content_bytes(path: Path) -> int | None:
    """How many bytes lie at a path; None where only unpacking tells.

    Raises:
        ScanError: as :func:`open_content`.
    """
    with open_content(path) as content:
        return content.size
