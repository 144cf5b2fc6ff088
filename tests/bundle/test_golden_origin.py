"""A manifest that says whose the golden answers are is believed only if its values can be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from molre_edge.bundle.bundle import Bundle, amend_manifest
from molre_edge.bundle.golden_origin import OwnGolden, golden_words
from molre_edge.errors import BundleError

OWN = OwnGolden("answers.npz", "0" * 64, 40, "path", ("logits",), 1e-5, 4e-5, "the model of the study")


def test_it_survives_json() -> None:
    assert OwnGolden.from_dict(json.loads(json.dumps(OWN.to_dict()))) == OWN


def test_the_words_name_whose_answers_they_are() -> None:
    assert golden_words(OWN, 40) == "as your model answered (answers.npz, 40 scans, from scan files)"
    assert "from volumes on the model's grid: differences in reading" in golden_words(replace(OWN, given="grid"), 1)
    rebuilt = golden_words(None, 8)
    assert rebuilt.startswith("as molre-edge's rebuild of the checkpoint answered 8 golden volumes at export")
    assert "differences in preprocessing can't show here" in rebuilt


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../answers.npz"},
        {"file": "x" * 200},
        {"sha256": "0"},
        {"scans": 0},
        {"scans": True},
        {"given": "files"},
        {"outputs": ["gates"]},
        {"outputs": "logits"},
        {"max_abs_dp": "small"},
        {"max_abs_dlogit": -1},
        {"note": "a\nb"},
        {"note": 7},
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    shutil.copy(tiny_bundle / "manifest.json", folder)
    bundle = Bundle.open(folder)
    manifest = {**bundle.manifest, "golden": {"origin": "x", "answers": {**OWN.to_dict(), **changes}}}
    amend_manifest(bundle, manifest, bundle.manifest["files"])
    with pytest.raises(BundleError, match="golden answers: unexpected values"):
        Bundle.open(folder)
