"""The program as such: its commands, its version, and how little it takes to ask for help."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from molre_edge import __version__
from molre_edge.cli import main


def test_help_names_the_commands_in_the_order_of_their_use(invoke: Any) -> None:
    text = invoke("--help").stdout
    places = [text.index(f" {name} ") for name in ("demo", "export", "infer")]
    assert places == sorted(places)
    assert "not a cleared medical device" in " ".join(text.split())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["infer", "--help"],
        ["export", "-h"],
        ["demo", "--help"],
        ["verify", "--help"],
        ["bench", "--help"],
        ["inspect", "--help"],
        ["--version"],
    ],
)
def test_asking_for_help_imports_nothing_heavy(words: list[str], spawn: Any) -> None:
    done = spawn(*words, driver=("imports", 0))
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["IMPORTED"]


def test_the_program_s_help_loads_the_program_and_no_command(invoke: Any) -> None:
    code = (
        "import sys; sys.argv = ['molre-edge', '--help']\n"
        "from molre_edge.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] in ('molre_edge', 'numpy')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == [
        "molre_edge",
        "molre_edge.cli",
        "molre_edge.cli.app",
        "molre_edge.cli.commands",
        "molre_edge.cli.examples",
        "molre_edge.cli.program",
        "molre_edge.machine",
        "molre_edge.offline",
    ]


def test_the_version_is_the_package_s(invoke: Any) -> None:
    assert invoke("--version").stdout == f"molre-edge {__version__}\n"


def test_no_command_shows_help_and_is_a_wrong_use(invoke: Any) -> None:
    done = invoke()
    assert done.exit_code == 2
    assert "Usage" in done.stdout + done.stderr


def test_an_unknown_command_or_option_is_a_wrong_use(invoke: Any) -> None:
    assert invoke("quantise").exit_code == 2
    assert invoke("infer", ".", "--fast").exit_code == 2


@pytest.mark.parametrize(("there", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_pytorch_wait_without_spinning_unless_somebody_says_otherwise(
    there: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", there or "")
    if there is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr("sys.argv", ["molre-edge", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OMP_WAIT_POLICY"] == after


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-"])
def test_a_closed_stream_is_as_one_to_nowhere(closed: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    program = f"{shlex.quote(sys.executable)} -m molre_edge inspect notes.txt"
    whole = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    done = subprocess.run(["bash", "-c", f"{program} {closed}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == whole.returncode
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else whole.stdout)
    assert done.stderr == ("" if "2>&-" in closed else whole.stderr)
    assert (tmp_path / "notes.txt").read_text() == "nothing"


def test_it_runs_as_a_module_in_the_root_of_a_clone_that_hides_the_installed_package(
    root: Path, tmp_path: Path
) -> None:
    for name in ("molre_edge", "export", "engines", "calibration"):
        (tmp_path / name).symlink_to(root / name)
    code = (
        "import runpy, sys\n"
        "sys.meta_path = [each for each in sys.meta_path if 'editable' not in str(each)]\n"  # as after a plain install
        "sys.path[:] = ['', *(p for p in sys.path if 'editable' not in p)]\n"
        "sys.argv = ['molre-edge', 'doctor', '--json']\n"
        "runpy.run_module('molre_edge', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["machine"]
