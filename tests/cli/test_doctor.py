"""``molre-edge doctor`` as a user types it."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_it_shows_the_machine_and_ends_with_0(invoke: Any) -> None:
    done = invoke("doctor")
    assert done.exit_code == 0
    for word in (
        "Python",
        "ONNX Runtime",
        "NVIDIA GPU",
        "TensorRT-RTX",
        "pycuda",
        "memory",
        "onnxruntime can run here",
    ):
        assert word in done.stdout


def test_json_is_all_of_stdout(spawn: Any) -> None:
    done = spawn("doctor", "--json")
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.returncode == 0
    assert told["can_run"]["onnxruntime"] is None
    assert {part["state"] for part in told["parts"]} <= {"ok", "missing", "problem"}


def test_where_nothing_can_run_it_ends_with_1(invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from molre_edge import doctor

    monkeypatch.setattr(doctor, "_is_there", lambda module: False)
    done = invoke("doctor", "--quiet")
    assert done.exit_code == 1
    assert "nothing can run here; install ONNX Runtime" in done.stderr
