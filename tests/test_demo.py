"""The demo, as a newcomer runs it: the whole chain, once.

In CI it is the trained one that was made just before, by the program that is tested; else one is made here, small and
with random weights.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import molre_edge
from molre_edge.bundle.bundle import Bundle
from molre_edge.cli.app import app
from molre_edge.demo import make_demo, prepare_folder
from molre_edge.demo.material import _HEADS, DATA, LEARNED, SCANS_TO_LEARN
from molre_edge.errors import ConfigError
from molre_edge.findings import default_findings
from molre_edge.model.checkpoint import load_checkpoint
from molre_edge.scans import find_scans, read_scan, to_grid
from molre_edge.specs import Grid, Precision
from molre_edge.synthetic import make_head

TRAINED = os.environ.get("MOLRE_EDGE_TEST_DEMO")
"""The folder of a demo, as 'molre-edge demo' leaves it; what it said is in a file of that name with .txt."""
FEWER = 3
"""Of the demo's eight heads in the small one."""


@dataclass(frozen=True)
class Demo:
    """A finished demo: its folder, what it said, and how many scans, heads and findings it has."""

    folder: Path
    said: str | None
    scans: int
    heads: int
    findings: tuple[str, ...]


def small(patch: pytest.MonkeyPatch) -> None:
    """Fewer and coarser heads, on a coarser grid."""
    patch.setattr("molre_edge.demo.material._HEADS", _HEADS[:FEWER])
    patch.setattr("molre_edge.synthetic.make_head", partial(make_head, shape=(12, 96, 96)))
    patch.setattr("molre_edge.demo.model._GRID", Grid(slices=4, rows=48, cols=48))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    if TRAINED:
        said = Path(f"{TRAINED}.txt")
        return Demo(
            Path(TRAINED), said.read_text() if said.is_file() else None, SCANS_TO_LEARN // 5, len(_HEADS), LEARNED
        )
    folder = tmp_path_factory.mktemp("newcomer") / "a demo"
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        done = CliRunner().invoke(app, ["demo", str(folder), "--untrained"])
    assert done.exit_code == 0, done.output
    return Demo(folder, done.stdout, FEWER, FEWER, tuple(finding.name for finding in default_findings()))


def test_it_ends_well_and_says_which_report_to_open(demo: Demo) -> None:
    if demo.said is None:
        pytest.skip(f"what the demo said is not in {TRAINED}.txt")
    assert f"Open {demo.folder}/edge-runs/fp16/report.html in a browser" in demo.said
    assert f"  cd {shlex.quote(str(demo.folder))}\n  molre-edge infer scans --engine fp16\n" in demo.said
    assert demo.said.count("Parity passed: as molre-edge's rebuild of") == 3  # the engine's check, and both runs
    assert "Routing is dynamic" in demo.said


def test_it_leaves_the_parts_that_other_commands_take_up(demo: Demo) -> None:
    assert {path.name for path in demo.folder.iterdir()} == {
        "DEMO.txt", "ckpt.pt", "scans", "edge-bundle", "edge-runs",
        *(("data", "backbone.pt", "backbone-training", "ckpt-training") if TRAINED else ()),
    }  # fmt: skip
    assert {path.name for path in (demo.folder / "edge-runs").iterdir()} == {"fp32", "fp16"}
    assert set(Bundle.open(demo.folder / "edge-bundle").graphs) == {Precision.FP32, Precision.FP16}
    assert not list(demo.folder.rglob("*.partial*"))


@pytest.mark.parametrize("engine", ["fp32", "fp16"])
def test_both_engines_pass_against_the_pytorch_model_on_every_scan(engine: str, demo: Demo) -> None:
    report = json.loads((demo.folder / "edge-runs" / engine / "report.json").read_text())
    assert report["verdict"]["passed"] is True
    assert report["reference"]["kind"] == "pytorch checkpoint"
    assert (report["engine"]["name"], len(report["scans"])) == (f"onnxruntime:{engine}", demo.scans)
    page = (demo.folder / "edge-runs" / engine / "report.html").read_text()
    assert "passed" in page and "<script src" not in page and "http://" not in page.replace("http://www.w3.org", "")


def test_answers_differ_between_scans_and_gates_are_shares_that_move(demo: Demo) -> None:
    findings = demo.folder / "edge-runs" / "fp32" / "findings.jsonl"
    lines = [json.loads(line) for line in findings.read_text().splitlines()]
    probabilities = np.array([[v["probability"] for v in line["findings"].values()] for line in lines])
    positive = np.array([[v["positive"] for v in line["findings"].values()] for line in lines])
    gates = np.array([line["gates"] for line in lines])
    assert np.median(np.ptp(probabilities, axis=0)) > 0.05
    assert (positive.any(axis=0) & ~positive.all(axis=0)).mean() > 0.5
    assert np.ptp(gates, axis=0).max() > 0.01
    assert gates.min() >= 0 and np.allclose(gates.sum(axis=-1), 1, atol=1e-4)


def test_findings_are_there_for_every_scan(demo: Demo) -> None:
    with (demo.folder / "edge-runs" / "fp16" / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (demo.folder / "edge-runs" / "fp16" / "scans.csv").open(newline="") as file:
        assert [row["scan"] for row in rows] == [row["scan"] for row in csv.DictReader(file)]
    assert len(rows) == demo.scans
    assert list(rows[0])[2:] == list(demo.findings)  # after the scan, and what is positive


def test_a_second_demo_is_refused_and_leaves_the_first(demo: Demo) -> None:
    before = (demo.folder / "edge-bundle" / "manifest.json").stat().st_mtime_ns
    again = CliRunner().invoke(app, ["demo", str(demo.folder)])
    assert again.exit_code == 1
    assert "holds a demo already; 'molre-edge demo" in again.stderr
    assert (demo.folder / "edge-bundle" / "manifest.json").stat().st_mtime_ns == before


def test_its_scans_are_a_handful_of_series_one_of_them_tilted_and_a_nifti_file(demo: Demo) -> None:
    found = find_scans(demo.folder / "scans")
    assert (len(found.scans), found.rejected, found.ignored) == (demo.heads, (), ())
    assert sorted({source.kind for source in found.scans}) == ["dicom", "nifti"]
    with (demo.folder / "edge-runs" / "fp32" / "scans.csv").open(newline="") as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"done"}


@pytest.mark.skipif(not TRAINED, reason="the demo that was made here has not been trained")
def test_what_it_has_learned_is_in_both_reports(demo: Demo) -> None:
    check_learned(demo.folder, demo.scans)


def check_learned(folder: Path, scans: int) -> None:
    """Both reports have the AUC of engine and reference on the scans that the model has not seen."""
    for engine in ("fp32", "fp16"):
        report = json.loads((folder / "edge-runs" / engine / "report.json").read_text())
        assert report["verdict"]["passed"] is True and len(report["scans"]) == scans
        auc = report["numbers"]["auc"]
        assert auc["findings"] > 0 and 0 <= auc["mean_engine"] <= 1 and 0 <= auc["mean_reference"] <= 1


def test_a_wrong_export_of_the_drawn_model_could_not_hide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers differ between scans, decisions lie on both sides of their thresholds, and gates move."""
    asked: list[Any] = []

    def note(*given: object, **more: object) -> SimpleNamespace:
        asked.append((given, more))
        return SimpleNamespace(exit_code=0)

    small(monkeypatch)
    monkeypatch.setattr(molre_edge, "export_checkpoint", note, raising=False)
    monkeypatch.setattr(molre_edge, "infer_scans", note, raising=False)
    folder = tmp_path / "demo"
    assert make_demo(folder, untrained=True).exit_code == 0
    export, *runs = asked
    assert export[0] == (folder / "ckpt.pt", folder / "edge-bundle")
    assert [given for given, _ in runs] == [(folder / "scans", "fp32"), (folder / "scans", "fp16")]
    assert all(more["labels"] is None and more["reference"] == str(folder / "ckpt.pt") for _, more in runs)
    assert not (folder / DATA).exists()
    model = load_checkpoint(folder / "ckpt.pt").model
    volumes = np.stack([to_grid(read_scan(source), model.config.grid) for source in find_scans(folder / "scans").scans])
    with torch.no_grad():
        answers = model(torch.from_numpy(volumes.astype(np.float32)))
    probabilities = torch.sigmoid(answers.logits.double()).numpy()
    positive = probabilities >= np.array(model.config.thresholds)
    assert len(volumes) == FEWER
    assert np.median(np.ptp(probabilities, axis=0)) > 0.05
    assert 0.3 < positive.mean() < 0.7 and (positive.any(axis=0) & ~positive.all(axis=0)).mean() > 0.9
    assert np.ptp(answers.gates.numpy(), axis=0).max() > 0.05


def test_force_empties_an_earlier_demo_and_nothing_a_link_points_to(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "thesis.tex").touch()
    prepare_folder(tmp_path / "demo", force=False)
    (tmp_path / "demo" / "scans").symlink_to(work)
    (tmp_path / "demo" / "edge-runs" / "fp32").mkdir(parents=True)
    with pytest.raises(ConfigError, match="--force"):
        prepare_folder(tmp_path / "demo", force=False)
    prepare_folder(tmp_path / "demo", force=True)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["DEMO.txt"]
    assert (work / "thesis.tex").exists()


@pytest.mark.nightly
def test_with_all_its_heads_in_a_process_of_its_own_it_passes_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "molre_edge", "demo", "demo", "--untrained"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(find_scans(tmp_path / "demo" / "scans").scans) == len(_HEADS) == 8


@pytest.mark.nightly  # .ci/run makes the demo itself, and the tests above look at it
def test_as_it_stands_it_trains_first_and_the_reports_have_the_auc_of_both_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a few scans for an epoch: it takes some minutes otherwise, and learns something."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("molre_edge.demo.material.SCANS_TO_LEARN", 30)
    monkeypatch.setattr("molre_edge.demo.model._EPOCHS", (1, 1))
    done = CliRunner().invoke(app, ["demo", "--quiet"])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "edge-demo"
    assert {"DEMO.txt", "ckpt.pt", "scans", "data", "edge-bundle", "edge-runs"} < {p.name for p in folder.iterdir()}
    assert len(find_scans(folder / "scans").scans) == 8
    check_learned(folder, 6)
