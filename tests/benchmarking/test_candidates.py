"""What a benchmark measures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from molre_edge.benchmarking.candidates import all_engines, find_volumes
from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import RunError
from molre_edge.progress import Silent


class Warnings(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def test_every_graph_and_engine_of_a_bundle_has_a_word(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = ["onnxruntime:fp32", "onnxruntime:fp16"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert all_engines(bundle) == graphs
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "openvino")
    assert all_engines(bundle) == [*graphs, "openvino:fp32", "openvino:fp16"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "onnxruntime_ep_nv_tensorrt_rtx")
    assert all_engines(bundle) == [*graphs, "onnxruntime-rtx:fp32", "onnxruntime-rtx:fp16"]


def test_unusable_scans_are_left_out_with_a_warning(bundle: Bundle, tiny_scans: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii"
    bad.write_bytes(b"\x5c\x01\x00\x00" + bytes(400))
    (tmp_path / "head.nii.gz").write_bytes((tiny_scans / "head-4.nii.gz").read_bytes())
    progress = Warnings()
    volumes, words = find_volumes(bundle, tmp_path, 1, progress)
    assert words == "1 scans" and volumes.shape == (1, *bundle.grid.shape)
    (tmp_path / "head.nii.gz").unlink()
    with pytest.raises(RunError, match="no scan is usable"):
        find_volumes(bundle, tmp_path, 1, progress)
