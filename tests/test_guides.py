"""The guides are true: their files and commands run as they stand, one after the other."""

from __future__ import annotations

import json
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt
from typer.main import get_command
from typer.testing import CliRunner

from molre_edge import ParityFailedError, export_checkpoint
from molre_edge.cli import app
from molre_edge.specs import Grid

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


def run(folder: Path, commands: str, *, apart: bool = False) -> str:
    """Run lines of a shell; returns what they say.

    In this process, since each of its own would load torch again; Python programs in their own if to be `apart`.
    """
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for program, *words in map(shlex.split, commands.splitlines()):
            if program == "python" and apart:
                subprocess.run([sys.executable, *words], check=True, timeout=300)
                continue
            if program == "python":
                runpy.run_path(words[0], run_name="__main__")
                continue
            done = CliRunner().invoke(app, words, catch_exceptions=False)
            said.append(done.output)
            assert done.exit_code == 0, done.output
    return "".join(said)


@pytest.fixture(scope="module")
def examples(tiny_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the guide's examples, and scans."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(tiny_scans, folder / "scans")
    for comment, content in blocks(GUIDES / "your-own-model.md"):
        if comment.startswith(FILE):
            path = folder / comment.removeprefix(FILE).removesuffix(" -->")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return folder


@pytest.fixture(scope="module")
def own_model(examples: Path) -> Path:
    """The folder after the example in plain PyTorch."""
    (examples / "said.txt").write_text(run(examples, commands_of(RUN)))
    return examples


def commands_of(comment: str) -> str:
    """The block of commands after a comment."""
    (found,) = [content for before, content in blocks(GUIDES / "your-own-model.md") if before == comment]
    return found


def test_the_example_in_plain_pytorch_ends_in_verdicts_by_the_user_s_own_model(own_model: Path) -> None:
    said = (own_model / "said.txt").read_text()
    assert "Parity passed: as your model answered (answers.npz, 4 scans, from volumes on the model's grid" in said
    assert "Parity passed: as your model answers (mine.py:probabilities, 4 scans, from volumes on the" in said
    golden = json.loads((own_model / "edge-bundle" / "manifest.json").read_text())["golden"]["answers"]
    assert golden["max_abs_dp"] < 1e-4


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("monai", "from HU volumes"),
        ("hf", "from volumes on the model's grid"),
        pytest.param(
            "lightning",
            "from volumes on the model's grid",
            marks=pytest.mark.skipif(find_spec("lightning") is None, reason="Lightning is not installed"),
        ),
    ],
)
def test_the_examples_of_other_frameworks_end_in_verdicts_by_the_user_s_own_model(
    name: str, given: str, examples: Path
) -> None:
    said = run(examples, commands_of(f"<!-- run {name} -->"), apart=True)
    assert f"Parity passed: as your model answered (answers.npz, 4 scans, {given}" in said
    golden = json.loads((examples / f"{name}-bundle" / "manifest.json").read_text())["golden"]["answers"]
    assert golden["max_abs_dlogit"] < 4e-4


@pytest.mark.nightly
def test_geometry_that_is_left_out_of_the_monai_example_s_checkpoint_is_named(examples: Path, tmp_path: Path) -> None:
    """With molre-edge's own geometry the answers differ, and the settings of the example are what explains it."""
    import torch

    from molre_edge.own_model.parting.explain import explain_reference
    from molre_edge.own_model.write_inputs import write_reference_inputs

    subprocess.run([sys.executable, "mine_monai.py"], check=True, timeout=300, cwd=examples)
    checkpoint = torch.load(examples / "monai.pt", weights_only=True)
    checkpoint["config"]["grid"] = {key: checkpoint["config"]["grid"][key] for key in Grid(1, 16, 16).to_dict()}
    torch.save(checkpoint, tmp_path / "wrong.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(examples)
        write_reference_inputs(
            "scans", tmp_path / "answered", checkpoint=tmp_path / "wrong.pt", model="mine_monai.py:probabilities"
        )
    explanation = explain_reference(tmp_path / "answered", tmp_path / "wrong.pt", out=tmp_path / "out")
    assert explanation.exit_code == 3
    assert '"plane": "centre", "antialias": false, "stack": "centre", "between": "linear"' in explanation.text


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


@pytest.mark.parametrize("page", sorted(GUIDES.parent.rglob("*.md")), ids=lambda page: page.stem)
def test_the_commands_of_every_page_are_spelt_as_the_program_has_them(page: Path) -> None:
    program: Any = get_command(app)
    lines = [line for _, text in blocks(page) for line in text.splitlines()]
    for line in [line for line in lines if line.startswith("molre-edge ")]:
        _, name, *words = shlex.split(line.rstrip("\\"), comments=True)
        command = program.get_command(typer.Context(program), name)
        assert command is not None, line
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        assert [word for word in words if word.startswith("-") and word not in known] == [], line
