"""Engines that lie in a bundle."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import ENGINES, EngineFile, list_engines, read_engine, write_engine
from molre_edge.errors import BundleError, EngineError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """A bundle without engines."""
    return Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")))


def build(bundle: Bundle, name: str, content: bytes) -> EngineFile:
    graph = "graphs/fp16.onnx"
    return write_engine(bundle, name, content, {"graph": {"file": graph, "sha256": bundle.manifest["files"][graph]}})


def test_what_is_half_written_is_no_engine(bundle: Bundle) -> None:
    engine = build(bundle, "rtx-fp16", b"an engine")
    (bundle.folder / ENGINES / ".rtx-fp16.json.abcd1234.partial.json").write_text('{"format": "molre-')
    assert [each.path for each in list_engines(bundle)] == [engine.path]


def test_a_kill_at_any_moment_of_a_build_leaves_the_old_engine_or_the_new_one(bundle: Bundle) -> None:
    build(bundle, "rtx-fp16", b"old")
    folder = bundle.folder / ENGINES
    (folder / "timing-sm86-1.cache").write_bytes(b"measured")
    seen = set()

    def look(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.rename", "os.remove", "os.rmdir", "os.chmod", "ctypes.call_function"):
            watching.clear()  # what follows is not the build's
            [engine] = list_engines(bundle)
            seen.add(read_engine(bundle, engine))
            assert (folder / "timing-sm86-1.cache").read_bytes() == b"measured"
            watching.append(True)

    watching = [True]
    sys.addaudithook(look)
    try:
        build(bundle, "rtx-fp16", b"new")
    finally:
        watching.clear()
    assert seen == {b"old", b"new"}
    assert sorted(path.name for path in folder.iterdir()) == ["rtx-fp16.engine", "rtx-fp16.json", "timing-sm86-1.cache"]
    assert not list(bundle.folder.glob(".*"))


def test_an_engine_that_is_built_anew_while_it_is_opened_is_not_called_altered(bundle: Bundle) -> None:
    old = build(bundle, "rtx-fp16", b"old")
    build(bundle, "rtx-fp16", b"new")
    with pytest.raises(BundleError, match="built anew while it was opened"):
        read_engine(bundle, old)


def test_where_folders_can_not_be_exchanged_the_engines_put_aside_come_back(bundle: Bundle) -> None:
    build(bundle, "rtx-fp16", b"old")
    folder = bundle.folder / ENGINES
    folder.rename(bundle.folder / ".engines.abcd1234.old")  # killed between the two steps
    [engine] = list_engines(bundle)
    assert read_engine(bundle, engine) == b"old"


def test_a_link_in_the_place_of_the_folder_is_not_written_through(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bundle.folder / ENGINES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="symbolic link, not a folder"):
        build(bundle, "rtx-fp16", b"new")
    assert not list((tmp_path / "elsewhere").iterdir())
