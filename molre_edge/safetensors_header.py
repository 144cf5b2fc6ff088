"""The header of a safetensors file of unknown origin: bounded, and checked for kinds. Standard library only.

A header is JSON that names every tensor, and a file of a few megabytes can name hundreds of thousands of empty ones,
each of which costs time. So bytes and names are counted first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

__all__ = ["MAX_HEADER_BYTES", "MAX_TENSORS", "SafetensorsHeader", "TensorPlace", "read_header"]

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 20_000
"""Backbones have some hundred tensors, and the largest published files some thousand; a name takes about 100 bytes."""

_METADATA = "__metadata__"


@dataclass(frozen=True)
class TensorPlace:
    """What a header says of a tensor's values, unchecked but for the kinds.

    Attributes:
        dtype: in the format's words, such as ``F32``.
        begin, end: bytes, counted from :attr:`SafetensorsHeader.start`.
    """

    dtype: str
    begin: int
    end: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a header says.

    Attributes:
        shapes: of every tensor, by name.
        metadata: words by name.
        places: where the tensors' values are, by name.
        start: byte of the file at which the values begin.
    """

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    places: Mapping[str, TensorPlace]
    start: int


def read_header(file: BinaryIO) -> SafetensorsHeader:
    """Read the header: its length (8 bytes, little-endian), then JSON.

    Raises:
        ValueError: the reason why this is not a safetensors file, or not one that is read here.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= size - 8:
        raise ValueError("its header is longer than the file")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {length} bytes, and {MAX_HEADER_BYTES} is the limit")
    raw = file.read(length)
    _check_count(raw.count(b'"data_offsets"'))  # before parsing, which takes time
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError("its header is not JSON") from error
    metadata = data.pop(_METADATA, {}) if isinstance(data, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its header is not a table of tensors and metadata")
    _check_count(len(data))
    shapes = {name: _shape(name, entry) for name, entry in data.items()}
    return SafetensorsHeader(shapes, metadata, {name: _place(name, data[name]) for name in data}, 8 + length)


def _check_count(tensors: int) -> None:
    if tensors > MAX_TENSORS:
        raise ValueError(f"it names {tensors} tensors, and {MAX_TENSORS} is the limit")


def _shape(name: str, entry: Any) -> tuple[int, ...]:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 1 << 40 for side in shape):
        raise ValueError(f"the shape of {name[:100]!r} is not a list of sizes")
    return tuple(shape)


def _place(name: str, entry: Any) -> TensorPlace:
    dtype, offsets = entry.get("dtype"), entry.get("data_offsets")
    two = isinstance(offsets, list) and len(offsets) == 2
    if not isinstance(dtype, str) or not two or not all(type(byte) is int and 0 <= byte < 1 << 62 for byte in offsets):
        raise ValueError(f"the place of {name[:100]!r} in the file is not told")
    return TensorPlace(dtype, *offsets)
