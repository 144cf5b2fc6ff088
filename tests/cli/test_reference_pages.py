"""The pages of docs/reference about all commands are those of the program: help, exit codes, errors."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from molre_edge import api
from molre_edge.cli.commands import COMMANDS
from molre_edge.cli.shell import ExitCode


@pytest.fixture(scope="module")
def reference(root: Path) -> Path:
    return root / "docs" / "reference"


def test_the_page_of_commands_is_the_programs_help(reference: Path, root: Path) -> None:
    page = runpy.run_path(str(root / ".ci" / "commands_page.py"))["page"]
    assert (reference / "commands.md").read_text(encoding="utf-8") == page(), (
        "python .ci/commands_page.py makes it anew"
    )


def first_cells(page: Path) -> list[str]:
    return re.findall(r"^\| `?(\w[\w-]*)`? \|", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_exit_code_and_every_command_is_explained(reference: Path) -> None:
    cells = first_cells(reference / "exit-codes.md")
    codes = sorted(value for name, value in vars(ExitCode).items() if name.isupper())
    assert cells == ["code", *map(str, codes), "command", *COMMANDS]


def test_every_error_of_the_library_is_explained(reference: Path) -> None:
    cells = first_cells(reference / "errors.md")
    assert sorted(cells) == sorted(["class", *api.ERRORS.keys() - {"MolreEdgeError"}])
