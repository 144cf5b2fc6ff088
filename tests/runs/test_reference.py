"""Which reference is taken, and that the sentence about it is true."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import MissingDependencyError, RunError, UsageError
from molre_edge.runs.reference import choose_reference, find_checkpoint


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def alone(bundle: Bundle, tmp_path: Path, elsewhere: Path) -> Bundle:
    """The bundle in a folder of its own, without its checkpoint."""
    return replace(bundle, folder=tmp_path / "box" / "edge-bundle")


def test_auto_takes_the_checkpoint_beside_the_bundle(bundle: Bundle, tiny_checkpoint: Path, elsewhere: Path) -> None:
    reference = choose_reference("auto", bundle)
    assert (reference.kind, reference.checkpoint) == ("checkpoint", tiny_checkpoint)
    assert "ckpt.pt" in reference.why


def test_auto_takes_the_checkpoint_of_the_current_folder_whatever_its_name(
    alone: Bundle, tiny_checkpoint: Path, elsewhere: Path
) -> None:
    (elsewhere / "another.pt").write_bytes(b"not this one")
    shutil.copy(tiny_checkpoint, elsewhere / "my model.pt")
    assert choose_reference("auto", alone).checkpoint == elsewhere / "my model.pt"


def test_auto_takes_the_golden_answers_when_no_checkpoint_fits(alone: Bundle, elsewhere: Path) -> None:
    (elsewhere / "another.pt").write_bytes(b"not this one")
    (elsewhere / "folder.pt").mkdir()
    reference = choose_reference("auto", alone)
    assert (reference.kind, reference.checkpoint) == ("golden", None)
    assert "not beside the bundle or here" in reference.why


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_auto_takes_the_golden_answers_without_pytorch_and_says_why(
    library: str, bundle: Bundle, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    reference = choose_reference("auto", bundle)
    assert reference.kind == "golden"
    assert f"{library} is not installed" in reference.why


def test_auto_takes_the_golden_answers_when_the_engine_is_the_model_itself(
    bundle: Bundle, tiny_checkpoint: Path
) -> None:
    reference = choose_reference("auto", bundle, engine_is_reference=True)
    assert reference.kind == "golden"
    assert "the engine is the PyTorch model itself" in reference.why


@pytest.mark.parametrize("word", ["golden", "none"])
def test_a_word_is_obeyed_also_beside_the_checkpoint(word: str, bundle: Bundle, tiny_checkpoint: Path) -> None:
    reference = choose_reference(word, bundle)
    assert (reference.kind, reference.checkpoint) == (word, None)


def test_a_named_checkpoint_is_taken_when_it_is_the_one_of_the_bundle(alone: Bundle, tiny_checkpoint: Path) -> None:
    reference = choose_reference(str(tiny_checkpoint), alone)
    assert (reference.kind, reference.checkpoint) == ("checkpoint", tiny_checkpoint)


def test_a_named_checkpoint_of_another_model_is_refused(alone: Bundle, tmp_path: Path) -> None:
    (tmp_path / "other.pt").write_bytes(b"other")
    with pytest.raises(RunError, match=r"other\.pt: is not the checkpoint .*--reference golden"):
        choose_reference(str(tmp_path / "other.pt"), alone)


def test_a_name_that_is_no_file_and_no_word_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of auto, golden, none"):
        choose_reference("gold", bundle)
    with pytest.raises(UsageError, match="no such file"):
        choose_reference(str(tmp_path), bundle)


def test_a_named_checkpoint_without_pytorch_says_what_to_install(
    bundle: Bundle, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"needs torch.*pip install 'molre-edge\[export\]'"):
        choose_reference(str(tiny_checkpoint), bundle)


def test_the_checkpoint_may_be_a_safetensors_file(alone: Bundle, elsewhere: Path, tiny_checkpoint: Path) -> None:
    shutil.copy(tiny_checkpoint, elsewhere / "model.safetensors")  # found by its hash; its content is read later
    assert find_checkpoint(alone) == elsewhere / "model.safetensors"


def test_auto_takes_the_golden_answers_that_the_user_s_own_model_gave(own_bundle: Bundle, elsewhere: Path) -> None:
    for engine_is_reference in (False, True):
        reference = choose_reference("auto", own_bundle, engine_is_reference=engine_is_reference)
        assert reference.kind == "golden" and "which your own model gave (answers.npz)" in reference.why
