"""Nothing is sent and no name is looked up: real commands in a network namespace whose name server takes notes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BOX = Path(__file__).with_name("offline_box.py")
OWN = (".local/state/molre-edge",)
"""What a command may leave in a user's home: the record of verified engines."""

Run = Callable[..., tuple[list[str], list[str]]]


def can_isolate() -> bool:
    """Whether this user may make network and mount namespaces."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    return subprocess.run(["unshare", "-rnm", "true"], capture_output=True).returncode == 0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command with an empty home and without CI: the names that it looked up, and the files left in the home."""
    if not can_isolate():
        pytest.skip("this user may not make network namespaces (unshare -rnm)")
    home = tmp_path / "home"
    home.mkdir()
    outside = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"}
    for name in ("PYTHONPATH", "PYTHONPYCACHEPREFIX"):  # without the latter, all that CI imports is compiled anew
        if given := os.environ.get(name):
            outside[name] = given

    def go(*command: object, code: int = 0) -> tuple[list[str], list[str]]:
        words = ["unshare", "-rnm", sys.executable, str(BOX), str(tmp_path), *map(str, command)]
        done = subprocess.run(words, capture_output=True, text=True, env=outside, cwd=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        left = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
        return json.loads((tmp_path / "looked-up.json").read_text()), left

    return go


def test_the_box_notices_a_look_up(run: Run) -> None:
    code = "import socket; socket.gethostbyname('molre-edge.example')"
    looked_up, _ = run(sys.executable, "-c", code, code=1)
    assert "molre-edge.example" in looked_up


def test_onnx_runtime_alone_leaves_files_so_the_home_would_show_it(run: Run) -> None:
    from onnxruntime import __version__ as version

    if tuple(map(int, version.split(".")[:2])) < (1, 29):
        pytest.skip(f"ONNX Runtime {version} sends nothing on Linux")
    _, left = run(sys.executable, "-c", "import onnxruntime")
    assert any("onnxruntime" in name for name in left)


def test_importing_the_package_first_keeps_it_silent(run: Run) -> None:
    looked_up, left = run(sys.executable, "-c", "import molre_edge, onnxruntime, time; time.sleep(2)")
    assert (looked_up, left) == ([], [])


@pytest.mark.parametrize("command", ["doctor", "verify", "infer", "bench", "export"])
def test_a_command_looks_nothing_up_and_leaves_the_home_clean(
    command: str, run: Run, tiny_bundle: Path, tiny_scans: Path, tiny_checkpoint: Path
) -> None:
    words: dict[str, tuple[object, ...]] = {
        "doctor": ("doctor",),
        "verify": ("verify", "--bundle", tiny_bundle, "--engine", "onnxruntime:fp16"),
        "infer": (
            *("infer", tiny_scans, "--bundle", tiny_bundle, "-o", "run"),
            *("--engine", "onnxruntime:fp16", "--reference", "golden", "--readers", "1"),
        ),
        "bench": ("bench", "--bundle", tiny_bundle, "--engine", "onnxruntime:fp16", "--rounds", "3", "-o", "figures"),
        "export": ("export", tiny_checkpoint, "--precision", "fp32", "--golden-volumes", "2"),
    }
    looked_up, left = run(sys.executable, "-m", "molre_edge", *words[command])
    assert looked_up == []
    assert [name for name in left if not name.startswith(OWN)] == []
