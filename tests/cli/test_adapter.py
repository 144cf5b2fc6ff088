"""``molre-edge adapter`` as a user calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.adapters.file import read_adapter, write_adapter
from molre_edge.adapters.store import AdapterStore


@pytest.fixture
def box(adapter_bundle: Path, other_adapter: Path) -> Path:
    """A bundle in the current folder, and the file ``other.adapter`` beside it."""
    shutil.copy(other_adapter, "other.adapter")
    return Path(shutil.copytree(adapter_bundle, "edge-bundle"))


def test_an_adapter_from_a_file_to_the_default_and_out_again(box: Path, invoke: Any) -> None:
    done = invoke("adapter", "add", "other.adapter")
    assert done.exit_code == 0, done.stderr
    assert "✓ onnxruntime:fp16: passed" in done.stdout and "Use it with --adapter other" in done.stdout
    assert "other" in invoke("adapter", "list").stdout
    assert "other (default)" in invoke("adapter", "default", "other").stdout
    assert invoke("verify", "--engine", "fp32", "--adapter", "other").exit_code == 0
    assert "default" not in invoke("adapter", "remove", "default").stdout.replace("(default)", "")
    done = invoke("adapter", "remove", "other")
    assert done.exit_code == 1 and "other is the bundle's default" in done.stderr


def test_a_box_without_pytorch_adds_one_and_json_alone_goes_to_stdout(box: Path, invoke: Any, spawn: Any) -> None:
    done = spawn("adapter", "add", "other.adapter", "--json", driver=("without", 0))
    assert done.returncode == 0, done.stderr
    added = json.loads(done.stdout)
    assert added["name"] == "other" and [check["passed"] for check in added["checks"]] == [True, True]
    listed = json.loads(invoke("adapter", "list", "--json").stdout)
    assert {each["name"]: each["digest"] for each in listed["adapters"]}["other"] == added["digest"]


def test_what_does_not_answer_as_pytorch_did_ends_with_3_and_is_not_added(box: Path, invoke: Any) -> None:
    adapter = read_adapter(Path("other.adapter"))
    adapter.golden.logits[:] += np.float32(0.5)
    write_adapter(adapter, Path("wrong.adapter"))
    done = invoke("adapter", "add", "wrong.adapter")
    assert done.exit_code == 3 and "does not answer the golden volumes" in done.stderr
    assert list(AdapterStore(box).index().adapters) == ["default"]


def test_packing_says_how_large_it_is_and_replaces_nothing_unasked(
    box: Path, other_checkpoint: Path, invoke: Any
) -> None:
    done = invoke("adapter", "pack", other_checkpoint, "--name", "ward-7", "--half-experts", "--json")
    assert done.exit_code == 0, done.stderr
    packed = json.loads(done.stdout)
    assert (packed["path"], packed["name"], 0 < packed["graph_share"] < 1) == ("ward-7.adapter", "ward-7", True)
    assert read_adapter(Path("ward-7.adapter")).digest == packed["digest"]
    done = invoke("adapter", "pack", other_checkpoint, "--name", "ward-7")
    assert done.exit_code == 1 and "exists already" in done.stderr
    assert invoke("adapter", "add", "ward-7.adapter", "--quiet").exit_code in (0, 3)  # float16 experts in fp32


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("add",), "adapter add: FILE is missing"),
        (("remove",), "adapter remove: NAME is missing"),
        (("list", "other"), "unexpected other; name the bundle with --bundle"),
        (("add", "other.adaptor"), "no such file. Did you mean 'other.adapter'?"),
        (("add", "other.adapter", "--name", "x"), "--name belongs to 'adapter pack'"),
        (("burn",), "Invalid value for '{list|add|remove|default|rollback|pack}'"),
    ],
)
def test_wrong_words_are_usage_errors(words: tuple[str, ...], reason: str, invoke: Any) -> None:
    Path("edge-bundle").mkdir()
    Path("other.adapter").touch()
    done = invoke("adapter", *words)
    assert done.exit_code == 2
    assert reason in " ".join(done.stderr.replace("│", " ").split()) or words == ("burn",)
