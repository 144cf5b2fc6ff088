"""answers.npz as a program of the user wrote it: what is read, and what is refused by name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.errors import OwnModelError
from molre_edge.own_model.answers import ANSWERS, logits_of, read_answers, write_answers

GOOD: dict[str, Any] = {
    "given": np.array("path"),
    "scans": np.array(["scan-0001", "scan-0002"]),
    "findings": np.array(["bleed", "shift", "mass"]),
    "logits": np.array([[0.1, -2.0, 3.0], [1.0, 2.0, 3.0]], np.float32),
}


def write(folder: Path, **changes: Any) -> Path:
    arrays = {name: array for name, array in {**GOOD, **changes}.items() if array is not None}
    np.savez(folder / ANSWERS, **arrays)
    return folder / ANSWERS


def test_good_answers_are_read_with_their_hash(tmp_path: Path) -> None:
    path = write(tmp_path, embedding=np.ones((2, 4)), gates=np.full((2, 3, 1, 2), 0.5))
    answers = read_answers(path)
    assert answers.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (answers.given, answers.scans[1], answers.findings[2]) == ("path", "scan-0002", "mass")
    assert answers.outputs == ("logits", "embedding", "gates")
    assert (answers.logits.low == GOOD["logits"]).all()


def test_probabilities_are_read_too(tmp_path: Path) -> None:
    answers = read_answers(write(tmp_path, logits=None, probabilities=np.full((2, 3), 0.1)))  # float64, no float32
    assert np.abs(answers.logits.low + np.log(9)).max() < 1e-12 and answers.outputs == ("logits",)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / ANSWERS
    write_answers(path, given="hu", scans=("scan-0001",), findings=("a",), arrays={"probabilities": np.array([[0.25]])})
    answers = read_answers(path)
    assert (answers.given, answers.scans, answers.findings) == ("hu", ("scan-0001",), ("a",))
    assert answers.logits.low[0, 0] == pytest.approx(np.log(1 / 3), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"given": None}, "has no array 'given'"),
        ({"given": np.array("files")}, "given: expected one of path, hu, grid, what your model got; got 'files'"),
        ({"scans": np.array(["a", "a"])}, "scans: expected each name once"),
        ({"findings": np.array([1, 2, 3])}, r"findings: expected a list of texts, got int64 \[3\]"),
        ({"findings": np.array(["bleed"])}, "logits: 3 columns; expected 1, one a finding"),
        ({"logits": None}, "expected one of the arrays logits and probabilities"),
        ({"probabilities": np.full((2, 3), 0.5)}, "expected one of the arrays logits and probabilities"),
        (
            {"logits": np.zeros((3, 3))},
            r"logits: expected floats \[2, n\], a row for each of scans; got float64 \[3, 3\]",
        ),
        ({"logits": np.zeros((2, 3), int)}, "logits: expected floats"),
        ({"logits": np.array([[0, 1, 2], [0, np.nan, 2]])}, "logits: NaN or infinity in 1 of 2 scans, first in row 2"),
        ({"logits": None, "probabilities": np.array([[0, 1, 2.0]] * 2)}, "probabilities: from 0 to 2; expected 0 to 1"),
        ({"gates": np.zeros((2, 3))}, r"gates: expected floats \[2, n, n, n\]"),
        ({"logits": np.array([[None] * 3] * 2)}, "Python objects are never unpacked"),
    ],
)
def test_bad_answers_are_refused_by_name(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(OwnModelError, match=words) as caught:
        read_answers(write(tmp_path, **changes))
    assert ANSWERS in str(caught.value) and "answer_scans.py" in str(caught.value)


def test_a_missing_file_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OwnModelError, match="can't be read"):
        read_answers(tmp_path / ANSWERS)
    os.mkfifo(tmp_path / ANSWERS)
    with pytest.raises(OwnModelError, match="pipe"):
        read_answers(tmp_path / ANSWERS)


def test_float32_probabilities_in_a_float64_array_are_still_those_of_float32() -> None:
    logits = np.array([[9.3, 14.0, -14.0]])
    stored = (1 / (1 + np.exp(-logits.astype(np.float32)))).astype(np.float64)  # as float() and tolist() leave them
    assert np.abs(logits_of(stored, "probabilities").nearest(logits) - logits).max() < 1e-4
