"""Reads the header of an ordinary CT slice, the way nearly all are written, an order of magnitude faster than pydicom.

A narrow parser: Explicit or Implicit VR Little Endian, meta information with a transfer syntax, elements in rising
order, each of a value representation and a length that its dictionary entry allows, text in ASCII, no sequence among
the elements that matter. Whatever is not exactly so is left to pydicom (dicom_open.py), which reads it or says what is
wrong; nothing is refused here. A test compares both on every file there is. Sources: DICOM PS3.5 7.1 (elements), 7.5
(sequences), 6.2 (value representations), PS3.10 7.1 (meta information).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Hashable
from typing import Any

from molre_edge.scans.dicom_layout import META_TAGS, Element, Layout
from molre_edge.scans.dicom_values import PADDING, PLAIN_TAGS, SLICE_TAGS, NotPlain, Value, comparable, uid

__all__ = ["PlainHeader", "TooShort", "parse_plain"]

_IMPLICIT = b"1.2.840.10008.1.2"
"""The transfer syntax with implicit value representations; all others that are read here are explicit."""
_OTHER_CODINGS = (b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99")
"""Big endian and deflated."""
_COPIED_BYTES = 1 << 16
_MOST_VALUE_BYTES = 1 << 12  # values are kept for the next slice; longer ones are left to pydicom, which keeps none
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_CHARACTER_SET = 0x00080005
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_MOST_LEVELS = 8
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_CHARACTER_SETS = re.compile(
    rb" *(?:ISO_IR (?:6|100|101|109|110|144|127|126|138|148|166|192))? *"
    rb"|(?:(?:ISO 2022 IR (?:6|87|100|101|109|110|144|127|126|138|148|159|166|149|58))?\\?)*"
)
"""In which ASCII without escapes is ASCII. (In ISO_IR 13 two signs differ.)"""


class TooShort(Exception):
    """The header goes on behind the bytes that were given."""


_last: tuple[Layout, PlainHeader] | None = None
"""The last header that was parsed, and how it is laid out: most slices come after one of their series."""


class PlainHeader:
    """Values of a header by their keywords, with as much of the interface of pydicom's data set as is used here.

    Attributes:
        file_meta: the meta information's values.
        pixels_at: where the element of the pixels starts.
        implicit: whether value representations are implicit.
        common: all that was read, as stored, but for what is another one in each slice of a series (`SLICE_TAGS`).
    """

    def __init__(self, file_meta: dict[str, Value], implicit: bool) -> None:
        """Args: see the class."""
        self.file_meta, self.implicit, self.pixels_at = file_meta, implicit, 0
        self._values: dict[str, Value] = {}
        self._stored: dict[str, str] = {}
        self.common: tuple[Hashable, ...] = ()

    def get(self, name: str) -> Any:
        """A value, or None when it is absent."""
        return self._values.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def identity(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Values that identify, as stored: without padding, in upper case; empty where there are none."""
        return tuple([self._stored.get(name, "") for name in names])


def parse_plain(data: bytes | bytearray | memoryview) -> PlainHeader | None:
    """Read an ordinary header up to the element of its pixels.

    Args:
        data: the file from its first byte, at least to its pixels.

    Returns:
        The values; None where pydicom has to look.

    Raises:
        TooShort: the pixels' element starts behind `data`.
    """
    if bytes(data[128:132]) != b"DICM":
        return None
    data = bytes(data) if len(data) <= _COPIED_BYTES else data  # parts of it are taken far faster
    if (header := _like_last(data)) is not None:
        return header
    elements: list[Element] = []
    try:
        at, meta = _parse_meta(data, elements)
        syntax = meta.get("TransferSyntaxUID")
        if not isinstance(syntax, str) or not syntax or syntax.encode() in _OTHER_CODINGS:
            return None
        header = PlainHeader(meta, syntax.encode() == _IMPLICIT)
        header.pixels_at = _parse(data, at, header, elements)
    except NotPlain:
        return None
    except struct.error as error:
        raise TooShort from error
    _keep(data, header, elements)
    return header


def _like_last(data: bytes | bytearray | memoryview) -> PlainHeader | None:
    """A header that is laid out as the last one that was parsed."""
    if _last is None or not isinstance(data, bytes):
        return None
    layout, last = _last
    read = layout.read(data)
    if read is None:
        return None
    header = PlainHeader(last.file_meta, last.implicit)
    header.pixels_at, own = read
    header._values, header._stored, header.common = {**last._values, **own}, last._stored, last.common
    return header


def _keep(data: bytes | bytearray | memoryview, header: PlainHeader, elements: list[Element]) -> None:
    """Keep the layout of a header for the next one."""
    global _last
    if not isinstance(data, bytes):
        return
    data = data[: elements[-1].value]
    if _last is not None and _last[1].common == header.common:
        _last = _last[0].then(data, elements, header.implicit), header
    else:
        _last = Layout(data, elements, header.implicit), header


def _parse_meta(data: bytes | bytearray | memoryview, elements: list[Element]) -> tuple[int, dict[str, Value]]:
    """Where the data set starts, and what the meta information says."""
    at, last = 132, 0
    meta: dict[str, Value] = {}
    while True:
        group, number, vr, length = struct.unpack_from("<HH2sH", data, at)
        tag = group << 16 | number
        if group != 2:
            return at, meta
        if tag <= last:
            raise NotPlain
        start = at
        at, length = _explicit_length(data, at + 8, vr, length)
        if length == _UNDEFINED:
            raise NotPlain
        if tag in META_TAGS:
            if vr != b"UI":
                raise NotPlain
            meta[META_TAGS[tag]] = uid(_slice(data, at, length))
        elements.append(Element(tag, start, at, at + length))
        at, last = at + length, tag


def _explicit_length(data: bytes | bytearray | memoryview, at: int, vr: bytes, length: int) -> tuple[int, int]:
    """Where the value starts and how long it is; `at` and `length` as a short value representation has them."""
    if vr in _LONG:
        return at + 4, int(struct.unpack_from("<L", data, at)[0])
    if vr not in _SHORT:
        raise NotPlain
    return at, length


def _slice(data: bytes | bytearray | memoryview, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise TooShort
    return bytes(data[at : at + length])


def _parse(data: bytes | bytearray | memoryview, at: int, header: PlainHeader, elements: list[Element]) -> int:
    """Take over what matters; returns where the element of the pixels starts."""
    implicit, last, size = header.implicit, 0, len(data)
    wanted, short, long = PLAIN_TAGS, _SHORT, _LONG
    values, stored, of_a_slice = header._values, header._stored, SLICE_TAGS
    common: list[Hashable] = [implicit, *header.file_meta.items()]
    explicit_head, implicit_head = struct.Struct("<HH2sH").unpack_from, struct.Struct("<HHL").unpack_from
    if implicit and bytes(data[at + 4 : at + 5]).isupper() and bytes(data[at + 5 : at + 6]).isupper():
        raise NotPlain  # pydicom would take it for explicit
    padding: dict[int, tuple[bytes, bytes]] = {}
    while True:
        start = at
        if implicit:
            group, number, length = implicit_head(data, at)
            vr, at = b"", at + 8
        else:
            group, number, vr, length = explicit_head(data, at)
            at += 8  # as _explicit_length, spelt out: this loop runs for each element of each file
            if vr in long:
                (length,) = struct.unpack_from("<L", data, at)
                at += 4
            elif vr not in short:
                raise NotPlain
        tag = group << 16 | number
        if tag <= last or tag > _PIXEL_DATA:
            raise NotPlain
        last = tag
        if tag >> 16 >= _PIXEL_DATA >> 16:
            if tag != _PIXEL_DATA:
                raise NotPlain
            _add_padding(header, padding)
            header.common = tuple(common)
            elements.append(Element(tag, start, at, at))
            return start
        entry = wanted.get(tag)
        if length == _UNDEFINED:
            if entry is not None or not _is_sequence(tag, vr, implicit, data, at):
                raise NotPlain
            value_at, at = at, _skip_sequence(data, at, implicit, 0)
            elements.append(Element(tag, start, value_at, at))
            continue
        end = at + length
        if end > size:
            raise TooShort
        if entry is not None:
            name, vrs, convert, identifies = entry
            if length > _MOST_VALUE_BYTES:
                raise NotPlain
            if not implicit and vr not in vrs:
                raise NotPlain
            value = bytes(data[at:end])
            if tag not in of_a_slice:
                common += (tag, vr, value)
            if identifies:
                stored[name] = comparable(value)
            if convert is not None:
                values[name] = convert(value)
            elif tag in PADDING:
                padding[tag] = vr, value
        elif tag == _CHARACTER_SET and not _CHARACTER_SETS.fullmatch(bytes(data[at:end]).rstrip(b"\0 ")):
            raise NotPlain
        elements.append(Element(tag, start, at, end))
        at = end


def _add_padding(header: PlainHeader, padding: dict[int, tuple[bytes, bytes]]) -> None:
    """Padding values are signed if they say so, and in implicit files if the pixels are."""
    for tag, (vr, data) in padding.items():
        signed = vr == b"SS"
        if header.implicit:
            representation = header.get("PixelRepresentation")
            if representation not in (0, 1):
                raise NotPlain
            signed = representation == 1
        if len(data) != 2:
            raise NotPlain
        header._values[PLAIN_TAGS[tag].name] = int.from_bytes(data, "little", signed=signed)


def _is_sequence(tag: int, vr: bytes, implicit: bool, data: bytes | bytearray | memoryview, at: int) -> bool:
    if not implicit:
        return vr == b"SQ"
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return struct.unpack_from("<HH", data, at) == (0xFFFE, 0xE000)


def _skip_sequence(data: bytes | bytearray | memoryview, at: int, implicit: bool, level: int) -> int:
    """Pass over a sequence of undefined length whose items and elements are well formed; returns where it ends."""
    if level > _MOST_LEVELS:
        raise NotPlain
    while True:
        group, number, length = struct.unpack_from("<HHL", data, at)
        tag, at = group << 16 | number, at + 8
        if tag == _SEQUENCE_END:
            if length:
                raise NotPlain
            return at
        if tag != _ITEM:
            raise NotPlain
        at = _skip_item(data, at, None if length == _UNDEFINED else at + length, implicit, level)


def _skip_item(data: bytes | bytearray | memoryview, at: int, end: int | None, implicit: bool, level: int) -> int:
    last = 0
    while end is None or at < end:
        group, number, vr, length = struct.unpack_from("<HH2sH", data, at)
        tag = group << 16 | number
        if tag == _ITEM_END:
            if end is not None or vr != b"\0\0" or length:
                raise NotPlain
            return at + 8
        if tag <= last or group == 0xFFFE or tag == _CHARACTER_SET:
            raise NotPlain
        last = tag
        if implicit:
            (length,) = struct.unpack_from("<L", data, at + 4)
            at += 8
        else:
            at, length = _explicit_length(data, at + 8, vr, length)
        if length == _UNDEFINED:
            if not _is_sequence(tag, vr, implicit, data, at):
                raise NotPlain
            at = _skip_sequence(data, at, implicit, level + 1)
        else:
            at += length
            if at > len(data):
                raise TooShort
    if at != end:
        raise NotPlain
    return at
