"""``molre-edge evaluate`` as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.model.checkpoint import load_checkpoint, save_checkpoint
from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig, RouterConfig
from molre_edge.parity import auc
from molre_edge.specs import Grid
from molre_edge.training.data_manifest import read_manifest
from molre_edge.training.samples import VolumeSamples, predict
from molre_edge.training.volumes import prepare_volumes

FINDINGS = ("intraparenchymal_hemorrhage", "craniotomy_or_craniectomy")


@pytest.fixture(scope="module")
def checkpoints(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Drawn checkpoints by their number of experts."""
    from molre_edge.demo import draw_model

    folder = tmp_path_factory.mktemp("checkpoints")
    grid = Grid(slices=4, rows=32, cols=32)
    volumes = prepare_volumes(read_manifest(tiny_data, FINDINGS).of("train"), grid, folder / "cache")

    def draw(experts: int) -> Path:
        path = folder / f"{experts}.pt"
        config = ModelConfig(
            backbone=BackboneConfig(id="convnet2d-small", options={"width": 4, "blocks": 2}),
            grid=grid,
            adapter=AdapterConfig(modules=("conv2",) if experts else (), experts=experts, rank=2),
            router=RouterConfig(hidden=4),
            findings=FINDINGS,
            budget=10.0,
        )
        if not path.is_file():
            save_checkpoint(draw_model(config, volumes.load(range(8))), path)
        return path

    return draw


def test_json_has_the_areas_of_the_split(tiny_data: Path, checkpoints: Any, invoke: Any) -> None:
    path = checkpoints(3)
    done = invoke("evaluate", path, tiny_data, "--split", "train", "--json")
    assert done.exit_code == 0
    data = json.loads(done.stdout)
    loaded, cases = load_checkpoint(path), read_manifest(tiny_data, FINDINGS).of("train")
    samples = VolumeSamples(prepare_volumes(cases, loaded.config.grid, Path("cache")))
    scores = predict(loaded.model, samples, 8).probabilities
    areas = [auc(scores[:, i], samples.labels[:, i] == 1) for i in range(2)]
    assert [row["auc"]["auc"] for row in data["findings"]] == pytest.approx(areas, abs=0.02)
    assert data["macro_auc"] == pytest.approx(np.mean(areas), abs=0.02)
    assert (data["scans"], data["split"], data["checkpoint_sha256"]) == (12, "train", loaded.sha256)
    assert np.shape(data["routing"]["usage"]) == (2, 3)
    assert "not a cleared medical device" in data["disclaimer"]


def test_tables_tell_findings_and_experts(tiny_data: Path, checkpoints: Any, invoke: Any) -> None:
    text = invoke("evaluate", checkpoints(3), tiny_data, "--split", "train", "-o", "out").stdout
    assert FINDINGS[0] in text and "Mean AUC" in text and "Calibration: Brier score" in text
    assert "gate raised most by" in text and "Entropy of the gates, router by router" in text
    assert "and between the slices of a scan by" in text
    assert "The gate that differs most between scans with and without a finding" in text
    names = {path.name for path in Path("out").iterdir()}
    assert names == {"evaluation.json", "findings.csv", "routing.csv", "routing.png"}


@pytest.mark.parametrize("experts", [0, 1])
def test_without_routing_there_is_none_to_tell_of(experts: int, tiny_data: Path, checkpoints: Any, invoke: Any) -> None:
    done = invoke("evaluate", checkpoints(experts), tiny_data)
    assert done.exit_code == 0 and "outing" not in done.stdout


def test_findings_without_a_column_are_unknown(tiny_data: Path, checkpoints: Any, invoke: Any, tmp_path: Path) -> None:
    rows = [line.split(",") for line in (tiny_data / "manifest.csv").read_text().splitlines()]
    column = rows[0].index(FINDINGS[0])
    table = "\n".join(",".join([row[0], row[1], row[column]]) for row in rows)
    own = tmp_path / "own"
    own.mkdir()
    for split in ("train", "val", "test"):
        (own / split).mkdir()
        for path in (tiny_data / split).iterdir():
            (own / split / path.name).hardlink_to(path)
    (own / "manifest.csv").write_text(table)
    data = json.loads(invoke("evaluate", checkpoints(3), own, "--split", "train", "--json").stdout)
    assert data["findings"][0]["auc"] is not None
    assert (data["findings"][1]["positives"], data["findings"][1]["negatives"]) == (0, 0)
    (own / "bad.nii.gz").write_bytes(b"text")
    (own / "manifest.csv").write_text(f"{table}\nbad.nii.gz,train,1")
    done = invoke("evaluate", checkpoints(3), own, "--split", "train", "--json")
    assert done.exit_code == 4
    assert [row["scan"] for row in json.loads(done.stdout)["problems"]] == ["bad.nii.gz"]
    assert json.loads(done.stdout)["scans"] == 12


def test_wrong_uses_are_told(tiny_data: Path, checkpoints: Any, invoke: Any) -> None:
    done = invoke("evaluate", checkpoints(0), tiny_data, "--split", "all")
    assert done.exit_code == 2 and "--split all: expected one of train, val, test" in done.stderr
    Path("file").write_text("")
    done = invoke("evaluate", checkpoints(0), tiny_data, "-o", "file")
    assert done.exit_code == 2 and "--out file: is a file; pass a folder" in done.stderr


def test_a_split_without_scans_is_told(tiny_data: Path, checkpoints: Any, invoke: Any, tmp_path: Path) -> None:
    own = tmp_path / "one"
    own.mkdir()
    (own / "a.nii.gz").hardlink_to(next((tiny_data / "train").iterdir()))
    (own / "manifest.csv").write_text(f"scan,split,{FINDINGS[0]}\na.nii.gz,train,1\n")
    done = invoke("evaluate", checkpoints(0), own)
    assert done.exit_code == 1 and "has no scans with split 'test'; choose another with --split" in done.stderr
