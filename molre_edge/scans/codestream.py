"""What a compressed frame says about itself, read from its first markers without decoding it.

The size in a code stream may differ from the header's, and decoders allocate by it; and only the code stream tells
whether JPEG-LS is near-lossless (by how much) or JPEG 2000 irreversible. Sources: ITU-T T.81 B.2 (JPEG), T.87 C.2
(JPEG-LS), T.800 A.5 and A.6 (JPEG 2000).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Codestream", "read_codestream"]


@dataclass(frozen=True)
class Codestream:
    """Size and fidelity of one compressed frame.

    Attributes:
        rows: rows that the decoder will make.
        cols: columns that the decoder will make.
        precision: bits of a sample.
        signed: whether samples are signed; only JPEG 2000 can tell.
        near: largest error of a JPEG-LS sample, in stored values; 0 is lossless.
        reversible: False when the transformation itself loses (JPEG 2000 with the 9-7 wavelet, JPEG with a DCT or with
            a point transform).
        components: samples of a pixel; a decoder makes all of them.
    """

    rows: int
    cols: int
    precision: int
    signed: bool = False
    near: int = 0
    reversible: bool = True
    components: int = 1


def read_codestream(frame: bytes) -> Codestream | None:
    """Read the markers of a JPEG, JPEG-LS or JPEG 2000 frame.

    Args:
        frame: the frame's bytes from the DICOM fragments.

    Returns:
        What the markers say, or None for a stream that has no such markers or breaks off before them.
    """
    try:
        if frame[:2] == b"\xff\x4f":
            return _jpeg2000(frame)
        if frame[:2] == b"\xff\xd8":
            return _jpeg(frame)
        start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # a code stream within a JP2 container
        return _jpeg2000(frame[start:]) if start >= 0 else None
    except (struct.error, IndexError):
        return None


def _jpeg(frame: bytes) -> Codestream | None:
    at, size, near, kind, precision, components = 2, None, 0, 0, 0, 0
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", frame, at + 2)
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            size, kind, precision = struct.unpack_from(">HH", frame, at + 5), marker, frame[at + 4]
            components = frame[at + 9]
        if marker == 0xDA:  # start of scan: its parameters, then the samples
            if size is None:
                return None
            if kind == 0xF7:  # JPEG-LS: NEAR follows the components' selectors
                near = frame[at + 5 + 2 * frame[at + 4]]
            transform = frame[at + 7 + 2 * frame[at + 4]] & 0x0F  # lowest bits that were dropped before coding
            lossless = kind in (0xC3, 0xF7) and not transform  # 0xC3: lossless Huffman
            return Codestream(size[0], size[1], precision, near=near, reversible=lossless, components=components)
        at += 2 + length
    return None


def _jpeg2000(frame: bytes) -> Codestream | None:
    width, height, left, top = struct.unpack_from(">IIII", frame, 8)
    (components,) = struct.unpack_from(">H", frame, 40)
    depth = frame[42]  # of the first component: bits less one, and whether they are signed
    at = 2
    while at + 4 <= len(frame):
        marker, length = struct.unpack_from(">HH", frame, at)
        if marker == 0xFF52:  # COD: the transformation is the last of its five fixed bytes after the layers
            reversible = frame[at + 13] == 1
            return Codestream(
                height - top, width - left, (depth & 0x7F) + 1, bool(depth & 0x80), 0, reversible, components
            )
        if marker == 0xFF90:  # first tile: no COD came
            return None
        at += 2 + length
    return None
