"""The first markers of a compressed frame tell its size and whether it lost anything."""

from __future__ import annotations

import pytest

from molre_edge.scans.codestream import Codestream, read_codestream


def jpeg(marker: int, near: int = 0, precision: int = 16, transform: int = 0) -> bytes:
    frame = bytes([0xFF, marker, 0, 11, precision, 2, 0, 1, 0x80, 1, 1, 0x11, 0])
    scan = bytes([0xFF, 0xDA, 0, 8, 1, 1, 0, near, 0, transform])
    return b"\xff\xd8\xff\xe0\x00\x04ab" + frame + scan + b"data"


def jpeg2000(transformation: int, depth: int = 15) -> bytes:
    size = b"\xff\x51\x00\x29\x00\x00" + (400).to_bytes(4, "big") + (300).to_bytes(4, "big") + bytes(24)
    size += bytes([0, 1, depth, 1, 1])
    return b"\xff\x4f" + size + b"\xff\x52\x00\x0c" + bytes([0, 0, 0, 1, 0, 5, 4, 4, 0, transformation])


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (jpeg(0xC3, near=1), Codestream(512, 384, 16)),  # lossless; 1 is its predictor
        (jpeg(0xC1), Codestream(512, 384, 16, reversible=False)),
        (jpeg(0xF7), Codestream(512, 384, 16)),
        (jpeg(0xF7, near=3), Codestream(512, 384, 16, near=3)),
        (jpeg2000(1), Codestream(300, 400, 16)),
        (jpeg(0xC3, precision=12), Codestream(512, 384, 12)),
        (jpeg(0xC3, transform=2), Codestream(512, 384, 16, reversible=False)),  # two bits were dropped
        (jpeg(0xF7, transform=1), Codestream(512, 384, 16, reversible=False)),
        (jpeg2000(1, depth=0x80 | 11), Codestream(300, 400, 12, signed=True)),
        (jpeg2000(0), Codestream(300, 400, 16, reversible=False)),
        (b"\x00\x00\x00\x0cjP  " + bytes(40) + jpeg2000(1), Codestream(300, 400, 16)),
        (b"\x01\x00\x00\x00", None),
        (b"", None),
        (b"\xff\xd8\xff\xd9", None),
    ],
)
def test_markers(frame: bytes, expected: Codestream | None) -> None:
    assert read_codestream(frame) == expected


def test_no_beginning_of_a_stream_breaks_it() -> None:
    for frame in (jpeg(0xF7, near=3), jpeg2000(1)):
        for length in range(len(frame)):
            read_codestream(frame[:length])
