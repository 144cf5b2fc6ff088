"""The GPU check ends well on every machine, and says what it could not do; its device part runs on a stand-in here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from molre_edge.engines.cuda_driver import probe_driver


def gpu_check(root: Path, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / "benchmarks/gpu_check"), "--out", str(folder), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def results(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("gpu-check-*.json")
    assert path.with_suffix(".md").is_file()
    return dict(json.loads(path.read_text()))


@pytest.mark.skipif(probe_driver().problem is None, reason="there is a GPU")
def test_without_a_gpu_it_ends_cleanly_and_gives_the_reason_for_every_check(root: Path, tmp_path: Path) -> None:
    done = gpu_check(root, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "There is no GPU to check: no NVIDIA driver (libcuda.so.1 is not there)" in done.stdout
    told = results(tmp_path)
    assert told["gpus"] == []
    assert {check["state"] for check in told["checks"]} == {"can't run"}
    assert {check["reason"] for check in told["checks"]} == {"no NVIDIA driver (libcuda.so.1 is not there)"}
    assert {check["part"] for check in told["checks"]} == {"device", "engines", "pytorch"}
    assert "can't run" in next(tmp_path.glob("*.md")).read_text()


def test_its_device_part_runs_on_a_stand_in_for_the_driver(root: Path, tmp_path: Path, stand_in: Path) -> None:
    done = gpu_check(root, tmp_path, "--only", "device", LD_LIBRARY_PATH=str(stand_in))
    told = results(tmp_path)
    assert done.returncode == 0, [check for check in told["checks"] if check["state"] == "failed"]
    assert told["gpus"] == ["Stand-in (sm86)"]
    checks = {check["check"]: check for check in told["checks"]}
    assert {check["state"] for check in checks.values()} <= {"done", "can't run"}
    overlap = checks["cuda-python: copies beside a kernel, and its graph"]
    if overlap["state"] == "can't run":
        pytest.skip("cuda-python is not installed")
    assert overlap["figures"]["with graph"]["captured"] == "CUDA graph"
    assert overlap["figures"]["without graph"]["captured"] == "switched off"
