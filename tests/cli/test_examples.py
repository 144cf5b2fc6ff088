"""Every command's help ends with an example, and the examples are spelt as the program has them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from molre_edge.cli import app
from molre_edge.cli.commands import COMMANDS as ENTRIES
from molre_edge.cli.examples import HEADING

PROGRAM: Any = get_command(app)
COMMANDS: dict[str, Any] = {name: PROGRAM.get_command(typer.Context(PROGRAM), name) for name in ENTRIES}


def lines_of(command: Any) -> list[str]:
    heading, *lines = (command.epilog or "").split("\n\n")
    assert heading == HEADING
    return [line.replace(r"\[", "[") for line in lines]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_ends_with_an_example_of_it(name: str, invoke: Any) -> None:
    text = " ".join(invoke(name, "--help").stdout.split())
    lines = lines_of(COMMANDS[name])
    assert text.endswith(" ".join(lines[-1].split()))
    assert text.count(HEADING) == 1 and "Example:" not in text
    assert any(line.startswith(f"molre-edge {name}") for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_program_s_help_says_of_each_command_what_its_own_help_begins_with(name: str) -> None:
    first = COMMANDS[name].help.split("\n\n")[0]
    assert " ".join(first.split()) == ENTRIES[name].summary


@pytest.fixture
def _there() -> None:
    """What the examples speak of."""
    for name in ("my-data", "scans", "edge-bundle", "my-run", "my-bundle", "FOLDER", "LORA_FOLDER", "for-my-model"):
        Path(name).mkdir()
    for name in ("20261102T101504Z", "fp32", "fp16"):
        (Path("edge-runs") / name).mkdir(parents=True)
    for name in ("ckpt.pt", "molre.pt", "frozen.pt", "mine.toml", "release.key", "release.pub", "node.toml"):
        Path(name).touch()


def parse(line: str) -> None:
    """Parse a command line as if it were to be run."""
    program, name, *words = shlex.split(line)
    assert program == "molre-edge"
    assert COMMANDS[name].make_context(name, words).args == []


@pytest.mark.usefixtures("_there")
@pytest.mark.parametrize("line", [line for command in COMMANDS.values() for line in lines_of(command)])
def test_every_example_can_be_parsed(line: str) -> None:
    parse(line)


@pytest.mark.usefixtures("_there")
@pytest.mark.parametrize("line", ["molre-edge infer scans --fast", "molre-edge infer", "molre-edge infer nowhere"])
def test_an_example_that_is_wrong_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such option|missing|does not exist"):
        parse(line)


def test_the_program_s_own_help_has_one_too(invoke: Any) -> None:
    assert re.search(rf"{HEADING}\s+molre-edge demo\s*$", invoke("--help").stdout)
