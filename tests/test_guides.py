"""The guides are true: their files and commands run as they stand, one after the other."""

from __future__ import annotations

import json
import runpy
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt
from typer.main import get_command
from typer.testing import CliRunner

from molre_edge import ParityFailedError, export_checkpoint
from molre_edge.cli import app

GUIDES = Path(__file__).resolve().parents[1] / "docs" / "guides"
RUN, FILE = "<!-- run -->", "<!-- file "


def blocks(page: Path) -> list[tuple[str, str]]:
    """(comment before it, content) of every block."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [
        (tokens[i - 1].content.strip() if tokens[i - 1].type == "html_block" else "", token.content)
        for i, token in enumerate(tokens)
        if token.type == "fence"
    ]


def run(folder: Path, commands: str) -> str:
    """Run lines of a shell in this process, since each of its own would load torch again; returns what they say."""
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for program, *words in map(shlex.split, commands.splitlines()):
            if program == "python":
                runpy.run_path(words[0], run_name="__main__")
                continue
            done = CliRunner().invoke(app, words, catch_exceptions=False)
            said.append(done.output)
            assert done.exit_code == 0, done.output
    return "".join(said)


@pytest.fixture(scope="module")
def own_model(tiny_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after the guide's example: its files, then the block that begins with one of them."""
    folder, found = tmp_path_factory.mktemp("guide"), blocks(GUIDES / "your-own-model.md")
    shutil.copytree(tiny_scans, folder / "scans")
    for comment, content in found:
        if comment.startswith(FILE):
            (folder / comment.removeprefix(FILE).removesuffix(" -->")).write_text(content)
    (example,) = [content for comment, content in found if comment == RUN]
    (folder / "said.txt").write_text(run(folder, example))
    return folder


def test_the_example_in_plain_pytorch_ends_in_verdicts_by_the_user_s_own_model(own_model: Path) -> None:
    said = (own_model / "said.txt").read_text()
    assert "Parity passed: as your model answered (answers.npz, 4 scans, from volumes on the model's grid" in said
    assert "Parity passed: as your model answers (mine.py:probabilities, 4 scans, from volumes on the" in said
    golden = json.loads((own_model / "edge-bundle" / "manifest.json").read_text())["golden"]["answers"]
    assert golden["max_abs_dp"] < 1e-4


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("(80, 200)", "(50, 130)", "does not answer as your model answered"),
        ('"findings": FINDINGS,', '"findings": FINDINGS[::-1],', "in reverse order"),
    ],
)
def test_what_the_guide_says_of_a_wrong_configuration_is_true(
    right: str, wrong: str, words: str, own_model: Path, tmp_path: Path
) -> None:
    code = (own_model / "mine.py").read_text()
    assert right in code
    (tmp_path / "other.py").write_text(code.replace(right, wrong))
    run(tmp_path, "python other.py")
    with pytest.raises(ParityFailedError, match=words):  # exit code 3
        export_checkpoint(tmp_path / "ckpt.pt", tmp_path / "b", reference_answers=own_model / "answered")
    assert not (tmp_path / "b").exists()


def test_the_other_commands_of_the_guide_are_spelt_as_the_program_has_them() -> None:
    program: Any = get_command(app)
    lines = [line for _, text in blocks(GUIDES / "your-own-model.md") for line in text.splitlines()]
    for line in [line for line in lines if line.startswith("molre-edge ")]:
        _, name, *words = shlex.split(line)
        command = program.get_command(typer.Context(program), name)
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        assert [word for word in words if word.startswith("-") and word not in known] == [], line
