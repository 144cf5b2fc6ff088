"""Reads ordinary slices, uncompressed or in JPEG-LS or JPEG 2000: one open, one buffer, and from there into the volume.

What is not exactly as most scanners write it is left to pydicom, as in dicom_plain.py; nothing is refused here. The
file is read, not mapped: a mapped file that somebody cuts short would end the process.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.archive_path import archive_of
from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.dicom_header import DicomHeader
from molre_edge.scans.dicom_pixels import (
    DIRECT,
    Samples,
    decode_one,
    most_stream_bytes,
    pixel_bits,
    stored_values,
)
from molre_edge.scans.dicom_plain import PlainHeader, TooShort, parse_plain
from molre_edge.scans.dicom_similar import read_slice_header
from molre_edge.scans.hounsfield import Hounsfield, to_hounsfield
from molre_edge.scans.limits import MAX_DICOM_BYTES, MAX_VOXELS
from molre_edge.scans.rectify import NO_SHIFT_PIXELS
from molre_edge.scans.regular_file import open_regular
from molre_edge.scans.scan_records import FoundFile
from molre_edge.scans.shelf import Shelf

__all__ = ["RawSlice", "RawSlices"]

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_FIRST_BYTES, _MOST_HEADER_BYTES = 1 << 14, 1 << 20
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_MOST_FRAGMENTS_BYTES = 1 << 16
"""Of the heads of a frame's fragments, beside the frame itself."""


class RawSlice(NamedTuple):
    """One slice as it was read.

    Attributes:
        header: of its file, with its frame.
        plane: HU (rows, cols); None when it can't be decoded.
        error: the largest error of a stored value, by near-lossless compression.
        problem: why it can't be decoded.
    """

    header: DicomHeader
    plane: Hounsfield | None
    error: int = 0
    problem: ScanError | None = None


class RawSlices:
    """The ordinary slices of a series, read one after the other.

    Attributes:
        slab: int16 (files, rows, cols), HU, when all files so far were such, of one size and with whole HU; else None.
    """

    def __init__(self, files: int, shelf: Shelf) -> None:
        """Args: `files`, how many there are; `shelf`, for slices that can't lie in one slab."""
        self.slab: npt.NDArray[np.int16] | None = None
        self._first: Frame | None = None
        self._files, self._at = files, 0
        self._one, self._shelf = True, shelf
        self._buffer = bytearray(_FIRST_BYTES)

    def read(self, path: Path, found: FoundFile | None) -> RawSlice | None:
        """Read the next file.

        Args:
            path: the file.
            found: what was noted of it.

        Returns:
            The slice; None where pydicom has to look.
        """
        try:
            result = self._read(path, found)
        except (ScanError, OSError, TooShort, struct.error, ValueError, TypeError, OverflowError):
            result = None
        self._at += 1
        if result is None or result.plane is None or not self._fits(result.plane):
            self._one, self.slab = False, None
        return result

    def _fits(self, plane: Hounsfield) -> bool:
        return self._one and self.slab is not None and plane.base is self.slab

    def _read(self, path: Path, found: FoundFile | None) -> RawSlice | None:
        if archive_of(path) is not None:
            return None
        file, facts = open_regular(path, limit=MAX_DICOM_BYTES)
        with file:
            count = _fill(file, self._buffer, 0, _FIRST_BYTES)
            try:
                plain = parse_plain(memoryview(self._buffer)[:count])
            except TooShort:
                self._grow(min(_MOST_HEADER_BYTES, facts.st_size))
                count = _fill(file, self._buffer, count, _MOST_HEADER_BYTES)
                plain = parse_plain(memoryview(self._buffer)[:count])
            if plain is None or (header := _header(path, plain, FoundFile.of(facts), found)) is None:
                return None
            if header.syntax not in _NATIVE:
                return self._compressed(file, count, header, plain, facts.st_size)
            start = _pixels(plain, memoryview(self._buffer)[:count], header, facts.st_size)
            if start is None:
                return None
            end = start + 2 * header.rows * header.cols
            self._grow(end)
            if _fill(file, self._buffer, count, end) < end:
                return None
        stored = np.frombuffer(self._buffer, "<u2", header.rows * header.cols, start).reshape(header.rows, header.cols)
        bits = pixel_bits(plain)
        return self._slice(header, stored_values(stored, Samples(16, bits.signed), bits))

    def _compressed(
        self, file: IO[bytes], count: int, header: DicomHeader, plain: PlainHeader, size: int
    ) -> RawSlice | None:
        """A slice of one code stream; `count` bytes of `size` are in the buffer."""
        if not _is_grey(plain) or size - plain.pixels_at > most_stream_bytes(header) + _MOST_FRAGMENTS_BYTES:
            return None
        self._grow(size)
        if _fill(file, self._buffer, count, size) < size:
            return None
        stream = _code_stream(memoryview(self._buffer)[plain.pixels_at : size])
        if stream is None:
            return None
        try:
            stored, error = decode_one(stream, header, pixel_bits(plain))
        except ScanError as problem:
            return RawSlice(header, None, problem=problem)
        return self._slice(header, stored, error)

    def _slice(self, header: DicomHeader, stored: npt.NDArray[np.integer[Any]], error: int = 0) -> RawSlice:
        return RawSlice(header, to_hounsfield(stored, header.frames[0], header.padding, self._out(header)), error)

    def _grow(self, size: int) -> None:
        if len(self._buffer) < size:
            self._buffer = self._buffer + bytes(size - len(self._buffer))  # arrays may still look at the old one

    def _out(self, header: DicomHeader) -> npt.NDArray[np.int16]:
        """Where the slice goes: into the slab, if there is one."""
        shape = self._files, header.rows, header.cols
        if self._at == 0 and self._files * header.rows * header.cols <= MAX_VOXELS:
            self.slab, self._first = np.empty(shape, np.int16), header.frames[0]
        elif self._at == 1 and self._first is not None and self._leaning(header.frames[0]):
            self.slab = None
        place: npt.NDArray[np.int16]
        if self.slab is None or self.slab.shape != shape:
            place = self._shelf.place((header.rows, header.cols), np.int16)
        else:
            place = self.slab[self._at]
        return place

    def _leaning(self, second: Frame) -> bool:
        """Whether slices move sideways from one to the next: they will be shifted, so a slab is not the volume."""
        assert self._first is not None
        step = np.subtract(second.position, self._first.position)
        sideways = np.reshape(second.orientation, (2, 3)) @ step
        return bool(np.abs(sideways / min(second.pixel_mm)).max() * self._files > NO_SHIFT_PIXELS)


def _fill(file: IO[bytes], buffer: bytearray, start: int, end: int) -> int:
    """Read up to `end`, as far as file and buffer go; returns how far that is."""
    end = min(end, len(buffer))
    with memoryview(buffer) as view:
        while start < end and (count := file.readinto(view[start:end])):  # type: ignore[attr-defined]
            start += count
    return max(start, 0)


def _header(path: Path, plain: PlainHeader, on_disk: FoundFile, found: FoundFile | None) -> DicomHeader | None:
    """The header with its frame, if it is that of an ordinary slice and the one that was found."""
    header = read_slice_header(path, plain, on_disk)
    if header is None or header.frame_count != 1 or header.syntax not in (*_NATIVE, *DIRECT):
        return None
    if found is not None and found.digest and found.digest != header.digest():
        return None
    return header if found is None or not found.frames else None


def _pixels(plain: PlainHeader, data: memoryview, header: DicomHeader, size: int) -> int | None:
    """Where the pixels start, if they are one 16-bit value for each and as many as the header says."""
    if not _is_grey(plain):
        return None
    at = plain.pixels_at
    if plain.implicit:
        (length,) = struct.unpack_from("<L", data, at + 4)
        start = at + 8
    else:
        vr, _, length = struct.unpack_from("<2sHL", data, at + 4)
        start = at + 12
        if vr != b"OW":
            return None
    return start if length == 2 * header.rows * header.cols and start + length <= size else None


def _is_grey(plain: PlainHeader) -> bool:
    """Whether each pixel is one 16-bit container, and the header says where the value lies in it."""
    names = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
    allocated, stored, high, signed, samples = (plain.get(name) for name in names)
    if (allocated, samples) != (16, 1) or None in (stored, high) or signed not in (0, 1):
        return False
    return 1 <= stored <= high + 1 <= 16 and plain.get("PhotometricInterpretation") in _GREY


def _code_stream(data: memoryview) -> bytes | None:
    """The code stream in an element of encapsulated pixels that holds one frame, from the element's tag (PS3.5 A.4)."""
    vr, _, length = struct.unpack_from("<2sHL", data, 4)
    if vr not in (b"OB", b"OW") or length != _UNDEFINED_LENGTH:
        return None
    at, parts = 12, []
    while data[at : at + 4] == _ITEM:
        (length,) = struct.unpack_from("<L", data, at + 4)
        at += 8
        if at + length > len(data):
            return None
        parts.append(data[at : at + length])
        at += length
    if data[at : at + 8] != _SEQUENCE_END + bytes(4) or len(parts) < 2:
        return None
    offsets = parts[0]  # of frames: none, or that of the only one
    return b"".join(parts[1:]) if not offsets or offsets == bytes(4) else None
