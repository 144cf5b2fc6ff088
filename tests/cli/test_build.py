"""``molre-edge build`` as a user types it; what engines are worth is tested with the builder."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorrt_rtx", reason="engines are built where TensorRT-RTX is installed: Linux on x86-64")


@pytest.fixture
def bundle(tiny_bundle: Path) -> Path:
    shutil.copytree(tiny_bundle, "edge-bundle")
    return Path("edge-bundle")


def test_it_builds_an_engine_and_tells_its_layers_and_hash(invoke: Any, bundle: Path) -> None:
    done = invoke("build", "--engine", "fp16", "--compute-capability", "sm86", "--batch", "1", "2", "3")
    assert done.exit_code == 0, done.stderr
    engine = bundle / "engines/rtx-fp16.engine"
    assert hashlib.sha256(engine.read_bytes()).hexdigest() in done.stdout
    assert "Layers of the fp16 engine, as built" in done.stdout
    assert "Attentions fused into one kernel: 2" in done.stdout


def test_json_is_all_of_stdout_and_says_what_the_file_says(spawn: Any, bundle: Path) -> None:
    done = spawn("build", "--engine", "fp32", "--compute-capability", "sm86", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("engine") == "edge-bundle/engines/rtx-fp32.engine"
    assert told == json.loads((bundle / "engines/rtx-fp32.json").read_text())


def test_quiet_says_nothing(invoke: Any, bundle: Path) -> None:
    done = invoke("build", "--engine", "fp16", "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "words",
    [["--engine", "int4"], ["--engine", "fp16", "--target", "jetson"], [], ["--engine", "fp16", "--bundle", "nowhere"]],
)
def test_a_wrong_use_ends_with_2(words: list[str], invoke: Any) -> None:
    assert invoke("build", *words).exit_code == 2


def test_an_int8_engine_needs_an_int8_graph(invoke: Any, bundle: Path) -> None:
    done = invoke("build", "--engine", "int8", "--compute-capability", "sm86")
    assert done.exit_code == 1
    assert "calibrate" in done.stderr


def test_an_error_that_the_user_can_mend_ends_with_1(invoke: Any, bundle: Path) -> None:
    done = invoke("build", "--engine", "fp16", "--compute-capability", "sm90")
    assert done.exit_code == 1
    assert "--compute-capability sm90" in done.stderr
    assert not (bundle / "engines").exists()
