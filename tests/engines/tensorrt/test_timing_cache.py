"""A builder's measurements come back as they were kept, or not at all."""

from __future__ import annotations

from pathlib import Path

from molre_edge.engines.tensorrt.timing_cache import read_timing_cache, timing_cache_path, write_timing_cache


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
