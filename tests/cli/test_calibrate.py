"""``molre-edge calibrate`` as a user types it; what a calibration is worth is tested with its parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import BundleError
from molre_edge.specs import Precision

LOOSE = (
    "[int8]\nmax_abs_dp = 0.1\nmax_abs_dlogit = 0.5\nflip_margin_logit = 0.5\nmax_flips_fraction = 0.1\n"
    "min_cosine = 0.97\nmax_routing_l1 = 0.15\n"
)


@pytest.fixture
def words(tiny_bundle: Path, tiny_scans: Path) -> list[str]:
    shutil.copytree(tiny_bundle, "edge-bundle")
    Path("gates.toml").write_text(LOOSE)
    return ["calibrate", str(tiny_scans), "--gates", "gates.toml", "--ranges", "mse", "--threads", "1"]


def test_calibrate_and_infer_end_in_a_parity_report_that_passes(
    invoke: Any, words: list[str], tiny_scans: Path
) -> None:
    done = invoke(*words)
    assert done.exit_code == 0, done.stderr
    digest = Bundle.open(Path("edge-bundle")).digest
    assert f"Digest: {digest}" in done.stdout
    assert "times as fast as float16" in done.stdout
    again = invoke(*words, "--json")
    assert (json.loads(again.stdout)["unchanged"], json.loads(again.stdout)["digest"]) == (True, digest)
    run = invoke("infer", tiny_scans, "--engine", "int8", "--gates", "gates.toml", "--reference", "golden", "-o", "run")
    assert run.exit_code == 0, run.stderr
    assert "Parity passed" in run.stdout
    report = json.loads(Path("run/report.json").read_text())
    assert report["engine"]["precision"] == "int8"
    assert report["limits"]["name"] == "int8"
    manifest = Bundle.open(Path("edge-bundle")).manifest
    coverage = manifest["calibration"]["coverage"]
    assert coverage in done.stdout
    assert coverage in invoke("inspect", "edge-bundle").stdout
    assert coverage in Path("edge-bundle/calibration/report.html").read_text().replace("&#39;", "'")


def test_labels_are_judged_by_both_commands(
    invoke: Any, words: list[str], tiny_scans: Path, tiny_checkpoint: Path
) -> None:
    scans = sorted(path.name for path in tiny_scans.iterdir())
    finding = Bundle.open(Path("edge-bundle")).findings[0]
    rows = "".join(f"{name},{place % 2}\n" for place, name in enumerate(scans))
    Path("labels.csv").write_text(f"scan,{finding}\n{rows}")
    gates = LOOSE + "max_mean_auc_drop = 1.0\nmax_finding_auc_drop = 1.0\n"
    Path("gates.toml").write_text(gates)
    done = invoke(*words, "--labels", "labels.csv")
    assert done.exit_code == 0, done.stderr
    assert "all 4 scans, as ONNX Runtime runs it: passed: 10 of 10" in done.stdout
    more = ["--gates", "gates.toml", "--labels", "labels.csv", "--reference", tiny_checkpoint, "-o", "run"]
    run = invoke("infer", tiny_scans, "--engine", "int8", *more)
    assert run.exit_code == 0, run.stderr
    assert "10 of 10 checks kept their limits" in run.stdout


def test_an_impossible_budget_ends_with_3_and_writes_nothing(invoke: Any, words: list[str]) -> None:
    Path("gates.toml").write_text("[int8]\nmax_abs_dp = 1e-9\n")
    before = Bundle.open(Path("edge-bundle")).digest
    done = invoke(*words)
    assert done.exit_code == 3
    assert "worst findings" in done.stderr and "blocks and layers were measured alone" in done.stderr
    assert "Keep --engine fp16" in done.stderr
    assert Bundle.open(Path("edge-bundle")).digest == before
    assert not list(Path("edge-bundle").glob("graphs/*int8*"))
    assert not Path("edge-bundle/calibration").exists()


def test_bad_scans_are_named_and_the_rest_goes_on(invoke: Any, words: list[str], tiny_scans: Path) -> None:
    scans = shutil.copytree(tiny_scans, "scans")
    (Path("scans") / "NAME^OF^PATIENT").mkdir()
    cut = Path("scans") / "NAME^OF^PATIENT" / "cut.nii.gz"
    cut.write_bytes((tiny_scans / "head-4.nii.gz").read_bytes()[:3000])
    done = invoke("calibrate", scans, *words[2:], "--json")
    assert done.exit_code == 4, done.stderr
    assert "cut.nii.gz can't be used" in done.stderr
    assert json.loads(done.stdout)["rejected"][0]["name"] == "cut.nii.gz"
    assert "PATIENT" not in done.stdout + done.stderr
    assert Precision.INT8 in Bundle.open(Path("edge-bundle")).graphs
    assert "cut.nii" not in Path("edge-bundle/calibration/report.json").read_text()
    again = invoke("calibrate", scans, *words[2:])
    assert "Unchanged" in again.stdout
    assert again.exit_code == 4, "a result that is there already hides no bad scan"
    assert "1 of these scans could not be used" in again.stderr


def test_two_scans_warn_and_one_is_refused(invoke: Any, words: list[str], tiny_scans: Path) -> None:
    for number in (1, 2):
        shutil.copytree(tiny_scans / f"head-{number}", Path("some") / f"{number}")
    done = invoke("calibrate", "some", *words[2:])
    assert "only 4 slices of 1 scans" in done.stderr
    alone = invoke("calibrate", tiny_scans / "head-1", *words[2:])
    assert alone.exit_code == 1
    assert "needs at least two" in alone.stderr


@pytest.mark.parametrize("moment", range(6))  # report, page, graph, the memory of what was made here, manifest
def test_killed_at_any_file_the_bundle_is_the_old_or_the_new_one(
    spawn: Any, words: list[str], moment: int, tiny_bundle: Path
) -> None:
    old = Bundle.open(tiny_bundle).digest
    done = spawn(*words, driver=("SIGKILL", moment))
    bundle = Bundle.open(Path("edge-bundle"))
    if done.returncode == 0:
        assert moment == 5 and bundle.read("graphs/int8.onnx")
        return
    assert moment < 5 and bundle.digest == old
    for name in bundle.manifest["files"]:
        bundle.read(name)
    with pytest.raises(BundleError, match="calibrate"):
        bundle.graph(Precision.INT8)


def test_torch_is_not_loaded(spawn: Any, words: list[str]) -> None:
    done = spawn(*words, driver=("imports", 0))
    assert done.returncode == 0, done.stderr
    imported = done.stderr.split("IMPORTED", 1)[1].split()
    assert "onnx" in imported and "torch" not in imported


def test_without_onnx_it_says_what_to_install(spawn: Any, words: list[str]) -> None:
    done = spawn(*words, driver=("without", 0))
    assert done.returncode == 1
    assert "molre-edge[export]" in done.stderr


def test_a_wrong_use_ends_with_2(invoke: Any) -> None:
    assert invoke("calibrate", "nowhere").exit_code == 2
    assert invoke("calibrate", ".", "--ranges", "guess").exit_code == 2
    assert invoke("calibrate", ".", "--bundle", "nowhere").exit_code == 2


def test_the_format_reaches_the_calibration(invoke: Any, words: list[str]) -> None:
    done = invoke(*words, "--precision", "fp8", "--ranges", "entropy")
    assert done.exit_code == 1
    assert "entropy ranges do not suit fp8" in " ".join(done.stderr.split())
    assert invoke(*words, "--precision", "fp16").exit_code == 2
