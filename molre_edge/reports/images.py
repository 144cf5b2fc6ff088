"""Slices as PNG images within a page."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt

__all__ = ["as_png"]


def as_png(plane: npt.NDArray[np.floating], black: float, white: float) -> str:
    """A plane [rows, cols] in grey as a PNG without any metadata, as an address that holds it."""
    grey = np.round(255 * np.clip((plane.astype(np.float32) - black) / (white - black), 0, 1)).astype(np.uint8)
    rows, cols = grey.shape
    filtered = np.pad(grey, ((0, 0), (1, 0)))  # a row begins with the number of its filter: none
    head = struct.pack(">IIBBBBB", cols, rows, 8, 0, 0, 0, 0)  # 8 bits, grey, not interlaced
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
