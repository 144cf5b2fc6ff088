"""docs/guides/training.md is true: its commands exist as they are spelt, its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt
from typer.main import get_command

from molre_edge.cli import app
from molre_edge.model.peft_config import _REFUSED
from molre_edge.training.data_manifest import read_manifest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "training.md"


def fences(kind: str) -> Iterator[str]:
    for token in MarkdownIt("commonmark").parse(PAGE.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info == kind:
            yield token.content


def commands() -> list[str]:
    return [line for block in fences("console") for line in block.splitlines()]


def test_every_command_is_shown() -> None:
    shown = {line.split()[1] for line in commands()}
    assert shown == {"synthesize", "train", "evaluate", "export", "import-peft"}


def command(name: str) -> Any:
    """A command of the program, as the library parses it."""
    program: Any = get_command(app)
    return program.get_command(typer.Context(program), name)


@pytest.mark.parametrize("line", commands())
def test_a_command_has_options_that_exist(line: str) -> None:
    program, name, *arguments = shlex.split(line)
    assert program == "molre-edge"
    command(name).make_context(name, arguments, resilient_parsing=True)  # an unknown option raises


def test_options_named_in_the_text_exist() -> None:
    known = {
        option
        for name in ("synthesize", "train", "evaluate", "import-peft")
        for parameter in command(name).params
        for option in parameter.opts
    }
    named = set(re.findall(r"`(--[a-z-]+)", PAGE.read_text(encoding="utf-8")))
    assert named <= known and len(named) > 15


def test_the_manifest_shown_can_be_read(tmp_path: Path) -> None:
    example = next(block for block in fences("") if block.startswith("scan,split"))
    (tmp_path / "manifest.csv").write_text(example)
    for line in example.splitlines()[1:]:
        (tmp_path / line.split(",")[0]).mkdir(parents=True)
    assert len(read_manifest(tmp_path).cases) == 3


def test_every_setting_of_peft_that_is_refused_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in _REFUSED if name != "megatron_config" and f"`{name}`" not in text] == []


def test_every_file_of_a_training_is_explained(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `([a-z./]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"metrics.csv", "metrics.png", "state.pt", "cache/"} <= set(rows)
