"""Reads a header that is laid out as the one before, as slices of one series are: what they share is compared whole.

A layout is made of a header that was parsed element by element (dicom_plain.py). It takes another header only if that
has the same elements and, but for the values of those that may be another one in each slice, the same bytes; what
parsing it would give is then known. Anything else is left to the parser. Which elements may differ, beside those that
always do, is learnt from the headers of a series.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from molre_edge.scans.dicom_values import PLAIN_TAGS, SLICE_TAGS, NotPlain, Value

__all__ = ["META_TAGS", "Element", "Layout"]

META_TAGS = {0x00020002: "MediaStorageSOPClassUID", 0x00020010: "TransferSyntaxUID"}
"""What matters of the meta information."""
_CHARACTER_SET = 0x00080005
_OF_EACH_FILE = frozenset((*SLICE_TAGS, 0x00020000, 0x00020003))
"""With the length of the meta information, and the SOP Instance UID in it."""
_MOST_VALUE_BYTES = 1 << 12
_UNDEFINED = b"\xff\xff\xff\xff"
_LENGTHS = {2: struct.Struct("<H"), 4: struct.Struct("<L")}


class Element(NamedTuple):
    """Where an element lies in a file.

    Attributes:
        tag: group and number.
        start: of its tag.
        value: where its value starts.
        end: where the next element starts.
    """

    tag: int
    start: int
    value: int
    end: int


class _Piece(NamedTuple):
    """Bytes that are the same in all headers, up to the length of an element that varies; which element that is."""

    same: bytes
    length: struct.Struct
    tag: int


class Layout:
    """How the elements of one header lie.

    Attributes:
        varying: tags of the elements that may have another value in another slice.
    """

    def __init__(
        self, data: bytes, elements: Sequence[Element], implicit: bool, varying: Iterable[int] = _OF_EACH_FILE
    ) -> None:
        """Args: `data` with all `elements`, in order, the pixels' last; `implicit`, of the data set; `varying`."""
        self.varying = frozenset(varying)
        self._data, self._elements, self._implicit = data, elements, implicit
        self._pieces: list[_Piece] | None = None
        self._last, self._least_bytes = b"", 0

    def then(self, data: bytes, elements: Sequence[Element], implicit: bool) -> Layout:
        """The layout of another header of the series, which this one did not take."""
        before = {each.tag: self._data[each.start : each.end] for each in self._elements[:-1]}
        other = {each.tag for each in elements[:-1] if before.get(each.tag) not in (None, data[each.start : each.end])}
        free = other - PLAIN_TAGS.keys() - META_TAGS.keys() - {_CHARACTER_SET}
        return Layout(data, elements, implicit, self.varying | free)

    def read(self, data: bytes) -> tuple[int, Mapping[str, Value]] | None:
        """Read a header.

        Returns:
            Where the element of the pixels starts, and the values of `SLICE_TAGS`; None where the header is another.
        """
        if self._pieces is None:
            self._pieces = self._cut()
        at, values = 128, {}
        for same, length, tag in self._pieces:
            end = at + len(same)
            if data[at:end] != same or len(data) < end + length.size:
                return None
            (count,) = length.unpack_from(data, end)
            at = end + length.size
            if at + count > len(data):
                return None
            if (entry := PLAIN_TAGS.get(tag)) is not None and entry.convert is not None:
                if count > _MOST_VALUE_BYTES:
                    return None
                try:
                    values[entry.name] = entry.convert(data[at : at + count])
                except NotPlain:
                    return None
            at += count
        pixels_at = at + len(self._last) - (4 if self._implicit else 6)
        if data[at : at + len(self._last)] != self._last or len(data) < pixels_at + self._least_bytes:
            return None
        return pixels_at, values

    def _cut(self) -> list[_Piece]:
        pieces, start, data = [], 128, self._data
        first = next((each.tag for each in self._elements if each.tag >> 16 != 2), 0)
        for each in self._elements[:-1]:
            long, implicit = each.value - each.start == 12, self._implicit and each.tag >> 16 != 2
            if each.tag not in self.varying or (implicit and each.tag == first):  # which tells implicit from explicit
                continue
            wide = 4 if long or implicit else 2
            if data[each.value - wide : each.value] == _UNDEFINED:
                continue
            pieces.append(_Piece(data[start : each.value - wide], _LENGTHS[wide], each.tag))
            start = each.end
        pixels = self._elements[-1]
        self._last = data[start : pixels.start + (4 if self._implicit else 6)]
        self._least_bytes = pixels.value - pixels.start
        return pieces
