"""A builder's measurements come back as they were kept, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from molre_edge.engines.tensorrt.timing_cache import (
    RuntimeCache,
    read_timing_cache,
    runtime_cache_path,
    timing_cache_path,
    write_timing_cache,
)


def test_measurements_come_back_and_a_damaged_file_or_a_link_gives_none(tmp_path: Path) -> None:
    path = timing_cache_path(tmp_path, "sm87", "10.3.0")
    assert path == tmp_path / "engines/timing-sm87-10.3.0.cache"
    assert read_timing_cache(path) == b""
    write_timing_cache(path, b"\nof some\nlines")
    assert read_timing_cache(path) == b"\nof some\nlines"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"x", b"x" + whole, b"\xff\xfe", b""):
        path.write_bytes(damaged)
        assert read_timing_cache(path) == b""
    path.write_bytes(whole)
    link = tmp_path / "link.cache"
    link.symlink_to(path)
    assert read_timing_cache(link) == b""


class Config:
    """As TensorRT-RTX's: a cache refuses what another GPU compiled, and grows by what contexts compile."""

    def __init__(self, gpu: bytes) -> None:
        self.gpu, self.set, self.made = gpu, list[Any](), 0

    def create_runtime_cache(self) -> Any:
        config = self
        config.made += 1

        class Cache:
            content = b""

            def deserialize(self, blob: bytes) -> bool:
                if blob.startswith(config.gpu):
                    self.content = blob
                return blob.startswith(config.gpu)

            def serialize(self) -> memoryview:
                return memoryview(self.content)

            def compile(self, kernel: bytes) -> None:
                self.content = self.content or config.gpu
                self.content += b"" if kernel in self.content else kernel

        return Cache()

    def set_runtime_cache(self, cache: Any) -> bool:
        self.set.append(cache)
        return True


def run(path: Path, config: Config, kernel: bytes = b" a") -> bytes:
    """A process: two contexts that compile one kernel. Gives what was there when the first was made."""
    cache = RuntimeCache(path)
    cache.join(config)
    found = config.set[0].content
    cache.join(config)
    assert config.made == 1 and config.set[0] is config.set[1]  # both contexts fill one cache
    config.set[0].compile(kernel)
    cache.keep()
    return bytes(found)


def test_what_was_compiled_is_there_for_the_next_process_on_such_a_gpu_and_for_no_other(tmp_path: Path) -> None:
    path = runtime_cache_path(tmp_path, "NVIDIA RTX A2000", "1.7.1.116")
    assert path == tmp_path / "engines/runtime-nvidiartxa2000-1.7.1.116.cache"
    assert run(path, Config(b"A2000")) == b""
    assert read_timing_cache(path) == b"A2000 a"
    assert run(path, Config(b"A2000"), b" b") == b"A2000 a"
    assert read_timing_cache(path) == b"A2000 a b"
    before = path.stat().st_mtime_ns
    assert run(path, Config(b"A2000"), b" b") == b"A2000 a b"
    assert path.stat().st_mtime_ns == before  # nothing new, nothing written
    assert run(path, Config(b"L4")) == b""  # refused by the library
    assert read_timing_cache(path) == b"L4 a"


def test_a_damaged_cache_is_left_aside_and_replaced(tmp_path: Path) -> None:
    path = runtime_cache_path(tmp_path, "A2000", "1.7")
    run(path, Config(b"A2000"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert run(path, Config(b"A2000")) == b""
    assert read_timing_cache(path) == b"A2000 a"


def test_a_bundle_that_can_not_be_written_keeps_none_and_no_context_made_writes_none(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file in the way")
    assert run(runtime_cache_path(tmp_path, "A2000", "1.7"), Config(b"A2000")) == b""
    path = runtime_cache_path(tmp_path / "other", "A2000", "1.7")
    RuntimeCache(path).keep()
    assert not path.exists()


def test_the_library_has_such_a_cache() -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    assert {"create_runtime_cache", "set_runtime_cache"} <= set(dir(rtx.IRuntimeConfig))
    assert {"serialize", "deserialize"} <= set(dir(rtx.IRuntimeCache))
