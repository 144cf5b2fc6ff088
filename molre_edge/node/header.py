"""Which study and image an arriving data set belongs to: its first elements are parsed, in bounds, and no further."""

from __future__ import annotations

import io
import zlib

from molre_edge.errors import ScanError

__all__ = ["IMAGE_CLASSES", "identity"]

IMAGE_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "2.1", "2.2"))
"""CT, Enhanced CT, Legacy Converted Enhanced CT Image Storage."""

_MOST_BYTES = 16 << 20
"""Of a data set before its Study Instance UID: what readers of scans allow a whole header."""
_STUDY, _SOP = 0x0020000D, 0x00080018
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"


def identity(dataset: bytes, syntax: str) -> tuple[str, str]:
    """Study and SOP Instance UID of an encoded data set.

    Args:
        dataset: without file meta information.
        syntax: UID of its transfer syntax.

    Raises:
        ScanError: ``corrupt_header``; they are not there, or can't be read.
    """
    from pydicom.filereader import read_dataset

    if syntax == _DEFLATED:
        try:
            dataset = zlib.decompressobj(-zlib.MAX_WBITS).decompress(dataset, _MOST_BYTES)
        except zlib.error as error:
            raise _unreadable() from error
    try:
        found = read_dataset(
            io.BytesIO(dataset[:_MOST_BYTES]),
            is_implicit_VR=syntax == _IMPLICIT,
            is_little_endian=syntax != _BIG_ENDIAN,
            stop_when=lambda tag, vr, length: tag > _STUDY,
            specific_tags=[_SOP, _STUDY],
        )
        # the raw bytes: pydicom would warn about a value, quoting it
        study, sop = (_text(found.get_item(tag).value) for tag in (_STUDY, _SOP))
    except Exception as error:  # whatever the parser says of it, there is no such element
        raise _unreadable() from error
    if not study or not sop:
        raise _unreadable()
    return study, sop


def _text(value: object) -> str:
    text = value.decode("ascii") if isinstance(value, bytes) else str(value or "")
    return text.rstrip("\0 ").strip()


def _unreadable() -> ScanError:
    return ScanError("corrupt_header", "no Study and SOP Instance UID at the start of the data set: export it again")
