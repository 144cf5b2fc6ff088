"""Engines that lie in a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import ENGINES, list_engines, write_engine


def test_what_a_killed_or_running_build_has_half_written_is_no_engine(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")))
    name = "graphs/fp16.onnx"
    graph = {"file": name, "sha256": bundle.manifest["files"][name]}
    engine = write_engine(bundle, "rtx-fp16", b"an engine", {"graph": graph})
    (bundle.folder / ENGINES / ".rtx-fp16.json.abcd1234.partial.json").write_text('{"format": "molre-')
    assert [each.path for each in list_engines(bundle)] == [engine.path]
