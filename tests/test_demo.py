"""The demo, as a newcomer runs it: the whole chain, once, in a process of its own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from molre_edge.bundle.bundle import Bundle
from molre_edge.cli.app import app
from molre_edge.demo import prepare_folder
from molre_edge.demo.material import _HEADS
from molre_edge.errors import ConfigError
from molre_edge.scans import find_scans
from molre_edge.specs import Precision


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo lies."""
    return tmp_path_factory.mktemp("newcomer") / "a demo"


HEADS = 3
"""Of the demo's eight, so that it takes half the time; the nightly tests take all."""


@pytest.fixture(scope="module", autouse=True)
def done(folder: Path) -> Result:
    """The finished command, without the minutes of training; tests/training has those in small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        patch.setattr("molre_edge.demo.material._HEADS", _HEADS[:HEADS])
        return CliRunner().invoke(app, ["demo", folder.name, "--untrained"])


def test_it_ends_well_and_says_which_report_to_open(done: Result, folder: Path) -> None:
    assert done.exit_code == 0, done.output
    assert "Open a demo/edge-runs/fp16/report.html in a browser" in done.stdout
    assert "  cd 'a demo'\n  molre-edge infer scans --engine fp16\n" in done.stdout
    assert done.stdout.count("Parity passed: as molre-edge's rebuild of") == 3  # the engine's check, and both runs
    assert "Routing is dynamic" in done.stdout


def test_it_leaves_the_parts_that_other_commands_take_up(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "DEMO.txt", "ckpt.pt", "scans", "edge-bundle", "edge-runs"
    }  # fmt: skip
    assert {path.name for path in (folder / "edge-runs").iterdir()} == {"fp32", "fp16"}
    assert set(Bundle.open(folder / "edge-bundle").graphs) == {Precision.FP32, Precision.FP16}
    assert not list(folder.rglob("*.partial*"))


@pytest.mark.parametrize("engine", ["fp32", "fp16"])
def test_both_engines_pass_against_the_pytorch_model_on_every_scan(engine: str, folder: Path) -> None:
    report = json.loads((folder / "edge-runs" / engine / "report.json").read_text())
    assert report["verdict"]["passed"] is True
    assert report["reference"]["kind"] == "pytorch checkpoint"
    assert (report["engine"]["name"], len(report["scans"])) == (f"onnxruntime:{engine}", HEADS)
    page = (folder / "edge-runs" / engine / "report.html").read_text()
    assert "passed" in page and "<script src" not in page and "http://" not in page.replace("http://www.w3.org", "")


def test_a_wrong_export_could_not_hide(folder: Path) -> None:
    """Answers differ between scans, decisions lie on both sides of their thresholds, and gates move."""
    lines = [json.loads(line) for line in (folder / "edge-runs" / "fp32" / "findings.jsonl").read_text().splitlines()]
    probabilities = np.array([[v["probability"] for v in line["findings"].values()] for line in lines])
    positive = np.array([[v["positive"] for v in line["findings"].values()] for line in lines])
    gates = np.array([line["gates"] for line in lines])
    assert np.median(np.ptp(probabilities, axis=0)) > 0.05
    assert 0.3 < positive.mean() < 0.7 and (positive.any(axis=0) & ~positive.all(axis=0)).mean() > 0.9
    assert np.ptp(gates, axis=0).max() > 0.05
    assert gates.min() >= 0 and np.allclose(gates.sum(axis=-1), 1, atol=1e-4)


def test_findings_are_there_for_every_scan(folder: Path) -> None:
    with (folder / "edge-runs" / "fp16" / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "edge-runs" / "fp16" / "scans.csv").open(newline="") as file:
        assert [row["scan"] for row in rows] == [row["scan"] for row in csv.DictReader(file)]
    assert len(rows) == HEADS
    assert len(rows[0]) == 77  # the scan, what is positive, 75 findings


def test_a_second_demo_is_refused_and_leaves_the_first(done: Result, folder: Path) -> None:
    before = (folder / "edge-bundle" / "manifest.json").stat().st_mtime_ns
    command = [sys.executable, "-m", "molre_edge", "demo", str(folder)]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1
    assert "holds a demo already; 'molre-edge demo" in again.stderr
    assert (folder / "edge-bundle" / "manifest.json").stat().st_mtime_ns == before


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


def test_its_scans_are_a_handful_of_series_one_of_them_tilted_and_a_nifti_file(folder: Path) -> None:
    found = find_scans(folder / "scans")
    assert (len(found.scans), found.rejected, found.ignored) == (HEADS, (), ())
    assert sorted({source.kind for source in found.scans}) == ["dicom", "nifti"]
    with (folder / "edge-runs" / "fp32" / "scans.csv").open(newline="") as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"done"}


@pytest.mark.nightly
def test_with_all_its_heads_in_a_process_of_its_own_it_passes_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "molre_edge", "demo", "demo", "--untrained"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(find_scans(tmp_path / "demo" / "scans").scans) == len(_HEADS) == 8


@pytest.mark.nightly  # .ci/run makes the demo itself
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
    for engine in ("fp32", "fp16"):
        report = json.loads((folder / "edge-runs" / engine / "report.json").read_text())
        assert report["verdict"]["passed"] is True and len(report["scans"]) == 6
        auc = report["numbers"]["auc"]
        assert auc["findings"] > 0 and 0 <= auc["mean_engine"] <= 1 and 0 <= auc["mean_reference"] <= 1
