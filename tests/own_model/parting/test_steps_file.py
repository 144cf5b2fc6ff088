"""Values of the user's chain: every array is optional, and one of another form is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.errors import OwnModelError
from molre_edge.own_model.parting.steps_file import STEPS, read_steps


def saved(folder: Path, **arrays: Any) -> Path:
    (folder / STEPS).mkdir()
    np.savez(folder / STEPS / "scan-0001.npz", **arrays)
    return folder


def test_what_was_saved_is_read_and_the_rest_is_missing(tmp_path: Path) -> None:
    steps = read_steps(saved(tmp_path, files=np.array(["a.dcm", "b.dcm"]), gates=np.ones((4, 2, 3))), "scan-0001")
    assert steps is not None and steps.files == ("a.dcm", "b.dcm")
    assert list(steps.values) == ["gates"] and steps.values["gates"].dtype == np.float32
    assert read_steps(tmp_path, "scan-0002") is None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"hu": np.ones((2, 3))}, r"hu: expected numbers \[slices, rows, cols\], got float64 \[2, 3\]"),
        ({"windowed": np.ones((2, 3, 4))}, r"windowed: expected numbers \[slices, channels, rows, cols\]"),
        ({"embedding": np.array([1.0, np.nan])}, "embedding: NaN or infinity"),
        ({"files": np.ones(3)}, "files: expected a list of texts"),
        ({"pixels": np.ones(3)}, "unknown array 'pixels'"),
        ({"hu": np.array([{}])}, "Python objects are never unpacked"),
    ],
)
def test_another_form_is_refused_by_name(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(OwnModelError, match=words):
        read_steps(saved(tmp_path, **arrays), "scan-0001")
