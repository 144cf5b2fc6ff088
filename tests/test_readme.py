"""README and get-started guide are true: their commands run, or say why not and are spelt as the program has them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TOUR = (README, ROOT / "docs" / "guides" / "get-started.md")
"""Pages whose commands run one after the other, in one folder."""
RUN, RUN_UNTRAINED, RUN_TRAINED = "<!-- run -->", "<!-- run untrained, ", "<!-- run trained, "
NOT_RUN = "<!-- not run here: "
ENTER = ". .venv/bin/activate\n"
TRAINED = os.environ.get("MOLRE_EDGE_TEST_DEMO")
"""A demo's folder, as 'molre-edge demo' leaves it after its minutes of training."""


def blocks() -> list[tuple[str, str]]:
    """(comment before it, content) of every block of shell, and of Python as the shell runs it."""
    return [block for page in TOUR for block in blocks_of(page)]


def blocks_of(page: Path) -> list[tuple[str, str]]:
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    found = []
    for i, token in enumerate(tokens):
        if token.type == "fence" and token.info in ("sh", "python"):
            comment = tokens[i - 1].content.strip() if tokens[i - 1].type == "html_block" else ""
            shell = token.content if token.info == "sh" else f"python - <<'END'\n{token.content}END\n"
            found.append((comment, shell))
    return found


def test_every_block_says_whether_it_is_run() -> None:
    assert len(blocks()) > 5
    for comment, content in blocks():
        says_why = comment.startswith((RUN_UNTRAINED, RUN_TRAINED, NOT_RUN)) and len(comment) > 30
        assert comment == RUN or says_why, content


def commands() -> str:
    """All that is run: in the trained demo where there is one, else in one without the minutes of its training."""
    chosen = []
    for comment, content in blocks():
        if comment.startswith(RUN_UNTRAINED):
            assert content.startswith(ENTER)
            there = f"cp -r {shlex.quote(str(Path(TRAINED).resolve()))} edge-demo" if TRAINED else None
            chosen.append(content.replace(ENTER, f"{there or 'molre-edge demo --untrained'}\n"))
        elif comment == RUN or (comment.startswith(RUN_TRAINED) and TRAINED):
            chosen.append(content)
    return "\n".join(chosen)


def test_the_commands_run_one_after_the_other_as_they_stand(tmp_path: Path) -> None:
    script = commands()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "edge-demo" / "my-bundle" / "manifest.json").is_file()
    reports = list((tmp_path / "edge-demo" / "edge-runs").glob("2*/report.html"))
    assert len(reports) == script.count("molre-edge infer")


@pytest.mark.parametrize(
    "line",
    [
        line
        for comment, content in blocks()
        if comment.startswith((NOT_RUN, RUN_TRAINED))
        for line in content.splitlines()
        if line.split("/")[-1].startswith("molre-edge ")
    ],
)
def test_commands_that_are_not_run_here_have_options_that_exist(line: str) -> None:
    from typer.main import get_command

    from molre_edge.cli import app

    _, name, *arguments = shlex.split(line.split("#")[0])
    program: Any = get_command(app)
    command = program.get_command(typer.Context(program), name)
    command.make_context(name, list(arguments), resilient_parsing=True)
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    assert [word for word in arguments if word.startswith("-") and word not in known] == []


def test_the_lines_of_pip_are_what_make_does(root: Path) -> None:
    lines = [line for _, content in blocks() for line in content.splitlines() if " -m pip install" in line]
    torch = next(
        line for line in (root / "constraints" / "py311.txt").read_text().splitlines() if line.startswith("torch==")
    )
    assert [line.split("install ")[1] for line in lines] == [
        f"--constraint constraints/py311.txt {torch}",
        "--constraint constraints/py311.txt --editable '.[dev]'",
    ]
    makefile = (root / "Makefile").read_text()
    assert makefile.count("-m pip install --quiet --constraint $(CONSTRAINTS)") == len(lines)
    assert "PACKAGE ?= --editable '.[dev]'" in makefile


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 1000


def test_the_figures_of_the_readme_are_in_the_pages_that_it_names() -> None:
    """Its table of figures names a page of docs/results in each row, which has every number of that row."""
    rows = re.findall(r"^\|.*\| (.*) \| \[.*\]\((docs/results/[\w-]+\.md).*\) \|$", README.read_text(), re.MULTILINE)
    assert len(rows) == 3
    for figure, page in rows:
        numbers = re.findall(r"\d+\.\d+(?:e-\d+)?", figure)
        text = (ROOT / page).read_text(encoding="utf-8")
        assert numbers and [number for number in numbers if number not in text] == []
