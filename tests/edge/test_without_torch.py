"""The edge side where nothing of PyTorch is installed: a bundle's golden answers are reproduced there.

The environment is a real one: the wheel and what it depends on, without any extra.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXPORT_SIDE = ("torch", "transformers", "safetensors", "onnx", "onnxscript", "onnxsim")
UNREACHABLE = ("NewConnectionError", "ConnectTimeout", "ReadTimeout", "Name or service not known", "Network is unreach")
"""What pip says when there is no package index, as opposed to one that lacks a version."""


@pytest.fixture(scope="module")
def edge(root: Path, wheel_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of the environment."""
    folder = tmp_path_factory.mktemp("edge") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    command = [*pip, "install", "--no-compile", wheel_path]  # the few modules that are imported are compiled then
    pins = root / "constraints" / f"py{sys.version_info.major}{sys.version_info.minor}.txt"
    if pins.is_file():
        command += ["--constraint", pins]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and any(word in done.stdout + done.stderr for word in UNREACHABLE):
        pytest.skip("the package index can't be reached, so no environment can be made")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


@pytest.fixture
def box(tiny_bundle: Path, tmp_path: Path) -> Path:
    """What travels: the bundle alone, without the checkpoint beside it."""
    shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")
    return tmp_path


def run(edge: Path, box: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MOLRE"))}
    command = [edge / "molre-edge", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=box, env=environment)


def test_nothing_of_the_export_side_is_installed_there(edge: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {EXPORT_SIDE} if u.find_spec(n)])"
    done = subprocess.run([edge / "python", "-I", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_golden_answers_are_reproduced(edge: Path, box: Path, tiny_scans: Path) -> None:
    done = run(edge, box, "infer", tiny_scans, "--engine", "fp32", "--reference", "golden", "-o", "run", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["parity"]["passed"] is True
    assert result["scans"] == 4
    report = json.loads((box / "run" / "report.json").read_text())
    assert report["reference"]["kind"] == "golden answers"
    assert report["scans"] == ["golden-01", "golden-02", "golden-03"]
    largest = {check["name"]: check["measured"] for check in report["verdict"]["checks"]}["max_abs_dp"]
    assert 0 <= largest < 1e-4


def test_its_findings_are_those_of_this_environment(edge: Path, box: Path, tiny_scans: Path, tiny_bundle: Path) -> None:
    from typer.testing import CliRunner

    from molre_edge.cli import app

    words = ["infer", str(tiny_scans), "--engine", "fp32", "--reference", "golden", "--quiet"]
    here = CliRunner().invoke(app, [*words, "--bundle", str(tiny_bundle), "-o", str(box / "here")])
    assert (here.exit_code, run(edge, box, *words, "-o", "there").returncode) == (0, 0)
    tables = []
    for name in ("here", "there"):
        with (box / name / "findings.csv").open(newline="") as file:
            tables.append([list(row.values())[2:] for row in csv.DictReader(file)])
    ours, theirs = ([[float(value) for value in row] for row in table] for table in tables)
    assert len(ours) == 4
    assert theirs == [pytest.approx(row, abs=1e-5) for row in ours]


def test_the_default_reference_is_the_golden_set_and_the_default_engine_needs_nothing_more(
    edge: Path, box: Path, tiny_scans: Path
) -> None:
    done = run(edge, box, "infer", tiny_scans, "-o", "run")
    assert "Engine: onnxruntime:fp16" in done.stderr
    assert "Reference: the golden answers, since torch is not installed" in done.stderr
    assert done.returncode in (0, 3), done.stderr  # so narrow a model may miss the default gate in float16
    assert json.loads((box / "run" / "report.json").read_text())["numbers"] is not None


def test_what_a_service_needs_works_there(edge: Path, box: Path) -> None:
    done = run(edge, box, "verify", "--engine", "fp32", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True
    assert run(edge, box, "inspect", "edge-bundle", "--quiet").returncode == 0
    done = run(edge, box, "bench", "--rounds", "3", "-o", "figures", "--quiet")
    assert done.returncode == 0 and (box / "figures" / "bench.html").is_file(), done.stderr


@pytest.mark.parametrize("command", ["demo", "export", "reference"])
def test_what_needs_pytorch_says_what_to_install(command: str, edge: Path, box: Path, tiny_checkpoint: Path) -> None:
    words = {
        "demo": ("demo", "new"),
        "export": ("export", tiny_checkpoint, "-o", "new"),
        "reference": ("infer", ".", "--reference", tiny_checkpoint, "-o", "new"),
    }[command]
    done = run(edge, box, *words)
    assert done.returncode == 1
    assert "which is not installed: pip install 'molre-edge[export]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (box / "new").exists()
