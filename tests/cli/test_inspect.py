"""``molre-edge inspect`` as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def test_a_bundle_is_told_in_words_and_as_json(invoke: Any, tiny_bundle: Path) -> None:
    done = invoke("inspect", tiny_bundle)
    assert done.exit_code == 0, done.output
    assert "a bundle of molre-edge" in done.stdout and "K = 3 experts of rank 2" in done.stdout
    data = json.loads(invoke("inspect", tiny_bundle, "--json").stdout)
    assert data["kind"] == "bundle" and data["digest"] in done.stdout


def test_something_wrong_ends_with_1(invoke: Any, tiny_bundle: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle, "copy"))
    (copy / "graphs" / "fp16.onnx").write_bytes(b"another")
    done = invoke("inspect", copy, "--json")
    assert done.exit_code == 1 and "altered" in done.stderr
    assert len(json.loads(done.stdout)["problems"]) == 1


def test_an_unknown_file_ends_with_1_and_a_path_that_is_not_there_with_2(invoke: Any) -> None:
    Path("x.bin").write_bytes(b"x")
    assert invoke("inspect", "x.bin").exit_code == 1
    assert invoke("inspect", "nowhere").exit_code == 2


def test_bundles_and_engines_need_neither_torch_nor_onnx(spawn: Any, tiny_bundle: Path) -> None:
    done = spawn("inspect", tiny_bundle, "--quiet", driver=("imports", 0))
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["IMPORTED"]


def test_what_needs_onnx_or_torch_says_so(spawn: Any, tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    for path in (tiny_bundle / "graphs" / "fp32.onnx", tiny_checkpoint):
        done = spawn("inspect", path, driver=("without", 0))
        assert done.returncode == 1 and "pip install 'molre-edge[export]'" in done.stderr, done.stderr
