"""What TensorRT found out on a GPU, kept in the bundle beside the engines and outside what the manifest hashes.

The builder's measurements: the next build on such a GPU then measures what is new only. And the kernels that
TensorRT-RTX compiled for an engine's contexts: the next process need not compile them again.

A file of its own for a GPU and a version. Its first line is the SHA-256 of the rest: a damaged one is left aside and
replaced. The library itself refuses what was found on another GPU or by another version.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from molre_edge.bundle.engine_files import ENGINES
from molre_edge.files import read_regular, write_whole

if TYPE_CHECKING:
    from molre_edge.engines.tensorrt.types import RtxIRuntimeCache, RtxIRuntimeConfig

__all__ = ["RuntimeCache", "read_timing_cache", "runtime_cache_path", "timing_cache_path", "write_timing_cache"]

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


def runtime_cache_path(bundle: Path, gpu: str, version: str) -> Path:
    """Where the kernels for a GPU, by its name, and a version lie: ``engines/runtime-nvidial4-1.7.1.116.cache``."""
    return bundle / ENGINES / f"runtime-{re.sub(r'[^a-z0-9]', '', gpu.lower())}-{version}.cache"


class RuntimeCache:
    """The kernels that TensorRT-RTX compiled for an engine's contexts, from file to file."""

    def __init__(self, path: Path) -> None:
        """Nothing is read before the first context is made."""
        self._path, self._read = path, b""
        self._cache: RtxIRuntimeCache | None = None

    def join(self, config: RtxIRuntimeConfig) -> None:
        """Let contexts of a configuration use and fill it; the device's context is the current one."""
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            content = read_timing_cache(self._path)
            if content and self._cache.deserialize(content):  # False for those of another GPU, driver or version
                self._read = content
        config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write it where it is not what was read; a bundle that can't be written keeps none. It is not used again."""
        if self._cache is None:
            return
        cache, self._cache = self._cache, None
        with contextlib.suppress(OSError, RuntimeError):  # on a GPU that failed the library may not answer any more
            content = bytes(cache.serialize())
            if content and content != self._read:
                write_timing_cache(self._path, content)
