"""Usage data is off in every process that imports the package; what it sends is tested with real commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from molre_edge.doctor import diagnose
from molre_edge.offline import NO_NETWORK, NO_TELEMETRY, telemetry_problem

REPORT = """
import json, os, sys
{first}
import molre_edge
from molre_edge.offline import telemetry_problem
print(json.dumps([dict(os.environ), telemetry_problem(), "onnxruntime" in sys.modules]))
"""


def in_process(first: str = "", **environment: str) -> tuple[dict[str, str], str | None, bool]:
    """The environment after the import, the problem, and whether ONNX Runtime was loaded."""
    outside = {name: value for name, value in os.environ.items() if name not in {*NO_TELEMETRY, *NO_NETWORK, "CI"}}
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(first=first)],
        capture_output=True,
        text=True,
        check=True,
        env={**outside, **environment},
    )
    told = json.loads(done.stdout)
    return told[0], told[1], told[2]


def test_the_import_switches_usage_data_off_and_loads_no_library() -> None:
    environment, problem, loaded = in_process()
    assert {name: environment.get(name) for name in NO_TELEMETRY} == NO_TELEMETRY
    assert (problem, loaded) == (None, False)
    assert not set(NO_NETWORK) & set(environment)  # a user's own process may download


def test_a_value_of_the_environment_is_overruled() -> None:
    assert in_process(ORT_DISABLE_TELEMETRY="0")[0]["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_runtime_that_was_loaded_before_is_told() -> None:
    _, problem, loaded = in_process("import onnxruntime")
    assert loaded and "loaded before molre_edge" in str(problem)


def test_openvino_that_was_loaded_before_is_told() -> None:
    stand_in = "import types; sys.modules['openvino_telemetry'] = types.ModuleType('openvino_telemetry')"
    _, problem, _ = in_process(stand_in)
    assert "OpenVINO was loaded before molre_edge" in str(problem)


def test_openvino_finds_no_module_to_send_with() -> None:
    code = "import importlib.util, molre_edge; print(importlib.util.find_spec('openvino_telemetry'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "None\n"


def test_the_program_keeps_the_hugging_face_libraries_off_the_network() -> None:
    code = """
import os, sys
from molre_edge.cli import main
sys.argv = ["molre-edge", "--version"]
try:
    main()
finally:
    print(os.environ.get("HF_HUB_OFFLINE"))
"""
    outside = {name: value for name, value in os.environ.items() if name not in NO_NETWORK}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=outside)
    assert done.stdout.splitlines()[-1] == "1", done.stderr


def test_doctor_says_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline() -> tuple[str, str]:
        [part] = [part for part in diagnose().parts if part.name == "offline"]
        return part.state, part.found

    assert telemetry_problem() is None
    assert offline()[0] == "ok" and offline()[1].startswith("yes")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert offline()[0] == "problem" and "ORT_DISABLE_TELEMETRY was changed" in offline()[1]
