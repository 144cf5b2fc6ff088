"""Where few processes and threads are allowed, a command says so and ends; no library fails in its midst."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from few_processes import run_with_few_processes

from molre_edge.machine import usable_cores


def words_of(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("name", ["infer", "verify", "bench", "calibrate", "build", "export", "train"])
def test_too_few_are_refused_before_the_work_with_what_to_do(
    name: str, tiny_bundle: Path, tiny_checkpoint: Path, tiny_scans: Path, tmp_path: Path
) -> None:
    words = {
        "infer": [tiny_scans, "--bundle", tiny_bundle, "-o", "made"],
        "verify": ["--bundle", tiny_bundle, "--out", "made"],
        "bench": ["--bundle", tiny_bundle, "--out", "made"],
        "calibrate": [tiny_scans, "--bundle", tiny_bundle],
        "build": ["--bundle", tiny_bundle],
        "export": [tiny_checkpoint, "-o", "made"],
        "train": [tiny_scans, "-o", "made.pt"],
    }[name]
    before = {path.name for path in tiny_bundle.rglob("*")}
    done = run_with_few_processes([sys.executable, "-m", "molre_edge", name, *words], 3, tmp_path / "work")
    needed = 4 * usable_cores() + 4
    said = words_of(done.stderr)
    assert done.returncode == 1, said
    assert "error: only 2 more processes or threads can be started here, " in said
    assert f"and {needed} may be needed on" in said and "(ulimit -u, TasksMax=, --pids-limit)" in said
    assert "Traceback" not in said and "OpenBLAS" not in said
    assert os.listdir(tmp_path / "work") == []
    assert {path.name for path in tiny_bundle.rglob("*")} == before


def test_as_many_as_it_asks_for_are_enough(tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "work" / "edge-bundle")
    words = [sys.executable, "-m", "molre_edge", "verify", "--engine", "onnxruntime:fp32"]
    done = run_with_few_processes(words, 1 + 4 * usable_cores() + 4, tmp_path / "work")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["doctor"], ["inspect", "."], ["synthesize", "made"]])
def test_every_command_looks_first(words: list[str], invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molre_edge.cli.program.startable_threads", lambda most: most - 1)
    done = invoke(*words)
    assert done.exit_code == 1 and "more processes or threads can be started here" in words_of(done.stderr)
