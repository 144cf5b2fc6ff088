"""``molre-edge synthesize``, and the whole way from its data to findings."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from molre_edge.training.data_manifest import read_manifest


def test_it_makes_scans_and_a_manifest(invoke: Any) -> None:
    done = invoke("synthesize", "data", "--scans", 10, "--size", "8x48x48", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout) == {"folder": "data", "scans": 10}
    manifest = read_manifest(Path("data"))
    assert (len(manifest.cases), len(manifest.findings), len(manifest.of("train"))) == (10, 75, 6)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["."], 2, ".: already exists and is not empty; name a new folder"),
        (["new", "--size", "8x48"], 2, "--size 8x48: expected SLICESxROWSxCOLS"),
        (["new", "--findings", "stroke,"], 2, "--findings stroke,: expected names"),
        (["new", "--findings", "stroke"], 1, "'stroke' can't be shown in a synthetic head"),
        (["new", "--scans", "3"], 2, "--scans"),
    ],
)
def test_what_can_not_be_made_is_told_and_leaves_nothing(
    words: list[str], code: int, message: str, invoke: Any
) -> None:
    Path("mine.txt").write_text("mine")
    done = invoke("synthesize", *words)
    assert done.exit_code == code and message in " ".join(done.stderr.split())
    assert [path.name for path in Path().iterdir()] == ["mine.txt"]


def test_from_synthetic_scans_to_findings_in_five_commands(invoke: Any) -> None:
    findings = "craniotomy_or_craniectomy,hydrocephalus"
    words = ["--scans", 24, "--size", "8x48x48", "--findings", findings, "--prevalence", 0.5]
    assert invoke("synthesize", "data", *words).exit_code == 0
    tiny = ["--backbone", "convnet3d-small", "--grid", "4x32x32", "--epochs", 2]  # the manifest has these findings only
    assert invoke("train", "data", *tiny, "--adapter", "none", "--train-backbone", "-o", "backbone.pt").exit_code == 0
    tiny = ["--init", "backbone.pt", "--findings", findings, "--rank", 2, "--epochs", 2]
    assert invoke("train", "data", *tiny).exit_code == 0
    evaluated = json.loads(invoke("evaluate", "ckpt.pt", "data", "--json").stdout)
    assert invoke("export", "ckpt.pt", "--precision", "fp32", "--golden-volumes", 2).exit_code == 0
    labels = ["--labels", "data/manifest.csv", "--engine", "fp32", "-o", "run"]
    done = invoke("infer", "data/test", *labels, "--json")
    assert done.exit_code == 0, done.stderr
    with Path("run/findings.csv").open() as file:
        scans = {row["scan"] for row in csv.DictReader(file)}
    assert len(scans) == evaluated["scans"] == len(read_manifest(Path("data")).of("test"))
