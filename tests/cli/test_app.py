"""The program as such: its commands, its version, and how little it takes to ask for help."""

from __future__ import annotations

import os
import subprocess
import sys
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
