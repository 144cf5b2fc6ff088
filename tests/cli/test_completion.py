"""Completion by the shell's own protocol, as the installed program answers it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from molre_edge.cli import completion
from molre_edge.runs.store import RUN_FILE
from molre_edge.specs import Precision

PROGRAM = Path(sys.executable).parent / "molre-edge"
Offer = Callable[[str], list[str]]


@pytest.fixture
def offer() -> Offer:
    """What bash is offered for a line that ends where the cursor is."""

    def go(line: str) -> list[str]:
        place = len(line.split()) - (not line.endswith(" "))
        protocol = {"_MOLRE_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(place)}
        done = subprocess.run([PROGRAM], env={**os.environ, **protocol}, capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == ""
        return done.stdout.split()

    return go


@pytest.fixture(autouse=True)
def _there() -> None:
    """A current folder with a bundle, a run, a checkpoint and others."""
    for name in ("edge-bundle/manifest.json", f"edge-runs/first/{RUN_FILE}", "ckpt.pt", "notes.txt", "scans/x.dcm"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_commands_options_and_values_are_offered(offer: Offer) -> None:
    assert offer("molre-edge ver") == ["verify"]
    assert offer("molre-edge verify --en") == ["--engine"]
    assert offer("molre-edge verify --engine onnxruntime:") == [f"onnxruntime:{p}" for p in Precision]
    assert offer("molre-edge verify --bundle ") == ["edge-bundle"]


def test_where_there_is_nothing_to_offer_the_shell_offers_files(offer: Offer) -> None:
    assert offer("molre-edge infer sca") == []


def test_bundles_runs_and_checkpoints_are_told_from_other_paths() -> None:
    assert completion.bundles("") == ["edge-bundle"]
    assert completion.bundles("./ed") == ["./edge-bundle"]
    assert completion.checkpoints("") == ["ckpt.pt"]
    assert completion.runs("") == completion.runs("edge-runs/f") == ["edge-runs/first"]
    assert completion.references("") == ["auto", "golden", "none", "ckpt.pt"]
    assert completion.references("gol") == ["golden"]
    assert completion.RUN_FILE == RUN_FILE


def test_a_folder_that_cannot_be_read_is_no_error() -> None:
    assert completion.bundles("nowhere/x") == completion.checkpoints("notes.txt/") == []
    assert completion.bundles("~nobody-of-this-name/x") == []


def test_every_word_that_is_offered_for_an_engine_is_one() -> None:
    from molre_edge.engines.choice import parse_engine

    words = completion.engines("")
    assert len(words) > 6 and all(parse_engine(word) for word in words)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script_that_is_shown() -> None:
    told = {**os.environ, "_MOLRE_EDGE_COMPLETE": "source_bash"}
    script = subprocess.run([PROGRAM], env=told, capture_output=True, text=True, check=True).stdout
    line = "molre-edge verify --engine fp3"
    ask = f'COMP_WORDS=({line}); COMP_CWORD=3; _molre_edge_completion {PROGRAM}; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", f"{script}\n{ask}"], capture_output=True, text=True)
    assert done.stdout.split() == ["fp32"], done.stderr


def test_the_help_tells_how_to_install_it(invoke: Callable[..., object]) -> None:
    assert "--install-completion" in invoke("--help").stdout  # type: ignore[attr-defined]


def test_asking_for_completions_imports_nothing_heavy() -> None:
    code = (
        "import sys; from molre_edge.cli import completion; completion.engines(''); completion.bundles('');"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'pydicom', 'matplotlib', 'jinja2', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
