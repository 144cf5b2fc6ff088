"""Commands run in this process where they can be, and in one of their own where signals and imports matter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from molre_edge.cli import app

Invoke = Callable[..., Result]
Spawn = Callable[..., "subprocess.CompletedProcess[str]"]

DRIVER = """
import os, resource, signal, sys

what, count = sys.argv.pop(1), int(sys.argv.pop(1))
replace, seen = os.replace, 0

def cut(source, target):
    # every file of a run takes its place by os.replace: just before the count-th, the process gets the signal
    global seen
    if os.path.basename(target) == "verified.json":  # of the machine, not of the run
        return replace(source, target)
    if seen == count:
        signal.raise_signal(getattr(signal, what))  # in this thread, so that it comes here and not later
    seen += 1
    return replace(source, target)

if what.startswith("SIG"):
    os.replace = cut
    # tests that run in the background or under nohup hand on ignored signals
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
elif what == "full":  # files end at so many bytes, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, count))
elif what == "without":
    sys.modules.update(dict.fromkeys(("torch", "transformers", "onnx", "safetensors"), None))  # as if not installed

from molre_edge.cli import main

try:
    main()
finally:
    if what == "imports":
        heavy = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "pydicom", "SimpleITK", "nibabel")
        print("IMPORTED", *sorted(set(heavy) & set(sys.modules)), file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder, and nothing from outside."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("MOLRE_EDGE_BUNDLE", "MOLRE_EDGE_STATE", "STATE_DIRECTORY", "COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def invoke() -> Invoke:
    """Run a command line in this process; an error that is a bug is raised."""

    def go(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    return go


@pytest.fixture(scope="session")
def spawn() -> Spawn:
    """Run a command line in a process of its own; `driver` = (what, count) meddles with it as DRIVER says."""

    def go(*words: object, driver: tuple[str, int] = ("nothing", 0)) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", DRIVER, driver[0], str(driver[1]), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TERM": "dumb"})

    return go
