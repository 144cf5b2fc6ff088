"""The builder's measurements, kept in the bundle: TensorRT's next build on such a GPU then measures what is new only.

A file of its own for a compute capability and a version. Its first line is the SHA-256 of the rest: a damaged one is
left aside and replaced. TensorRT itself refuses the measurements of another GPU or version.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from molre_edge.bundle.engine_files import ENGINES
from molre_edge.files import read_regular, write_whole

__all__ = ["read_timing_cache", "timing_cache_path", "write_timing_cache"]

_MAX_BYTES = 1 << 28


def timing_cache_path(bundle: Path, gpu: str, version: str) -> Path:
    """Where the measurements on a GPU with a version lie: ``engines/timing-sm86-11.4.0.cache``."""
    return bundle / ENGINES / f"timing-{re.sub(r'[^a-z0-9]', '', gpu.lower())}-{version}.cache"


def read_timing_cache(path: Path) -> bytes:
    """Measurements of earlier builds; none where there are none, or the file is damaged or a link."""
    try:
        told, _, content = read_regular(path, largest=_MAX_BYTES, links=False).partition(b"\n")
    except OSError:
        return b""
    return content if told.decode("ascii", "replace") == hashlib.sha256(content).hexdigest() else b""


def write_timing_cache(path: Path, content: bytes) -> None:
    """Keep measurements; the file appears whole or not at all."""
    with write_whole(path) as partial:
        partial.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
