"""``molre-edge reference --explain`` from the command line: what it says, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.own_model.answers import ANSWERS, write_answers
from molre_edge.own_model.inputs_folder import InputsFolder, open_inputs
from molre_edge.own_model.write_inputs import write_reference_inputs


@pytest.fixture(scope="module")
def asked(
    tiny_scans: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[InputsFolder, Any]:
    """A folder of inputs, and the answers of its checkpoint."""
    folder = tmp_path_factory.mktemp("asked") / "for-my-model"
    write_reference_inputs(tiny_scans, folder, checkpoint=tiny_checkpoint)
    inputs = open_inputs(folder)
    with TorchRunner.from_checkpoint(tiny_checkpoint) as runner:
        outputs = runner.run(np.stack([inputs.grid_volume(scan) for scan in inputs.scans])).outputs
    return inputs, outputs.logits


def answered(inputs: InputsFolder, logits: Any, findings: tuple[str, ...]) -> Path:
    write_answers(
        inputs.folder / ANSWERS,
        given="grid",
        scans=tuple(scan.scan for scan in inputs.scans),
        findings=findings,
        arrays={"logits": logits},
    )
    return inputs.folder


def test_it_names_the_step_and_ends_in_3_and_in_0_once_it_is_mended(
    asked: tuple[InputsFolder, Any], tiny_checkpoint: Path, invoke: Any
) -> None:
    from molre_edge.model.checkpoint_file import read_checkpoint_file

    inputs, logits = asked
    findings = tuple(read_checkpoint_file(tiny_checkpoint).config["findings"])
    folder = answered(inputs, logits, findings[::-1])
    done = invoke("reference", folder, "--explain", "--checkpoint", tiny_checkpoint)
    assert done.exit_code == 3
    said = " ".join(done.stdout.split())
    assert said.startswith("Parity failed: not as your model answered (answers.npz, 4 scans")
    assert "First step that differs: order of findings" in said and "in the reverse order" in said
    page = folder / "explanation" / "explanation.html"
    assert page.is_file() and str(page) in said

    folder = answered(inputs, logits, findings)
    done = invoke("reference", folder, "--explain", "--checkpoint", tiny_checkpoint, "--json", "-o", "told")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["exit_code"], told["step"]) == (0, 0, None)
    assert told == json.loads(Path("told/explanation.json").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--explain"], "--explain takes a folder with answers and --checkpoint CKPT"),
        (["--explain", "--checkpoint", "ckpt.pt", "--model", "mine.py:f"], "and no --model"),
        ([], "Name the folder to write with -o FOLDER"),
        (["-o", "out", "--backbone-weights", "."], "are for --explain"),
    ],
)
def test_words_that_do_not_fit_are_refused(words: list[str], said: str, invoke: Any) -> None:
    Path("ckpt.pt").touch()
    done = invoke("reference", ".", *words)
    assert done.exit_code == 2 and said in " ".join(done.stderr.split())
