"""``molre-edge infer`` as a user types it: what it leaves, what it says, and how it ends."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.engines.choice import choose_engine
from molre_edge.parity import load_limits
from molre_edge.runs.folder_lock import FolderLock
from molre_edge.runs.store import Task
from molre_edge.specs import Precision
from molre_edge.verification.passed import VerifiedRecord, record_path, subject_of

FILES = {
    "slices.csv",
    "findings.csv",
    "findings.jsonl",
    "golden.npz",
    "ids.secret",
    "junit.xml",
    "outputs",
    "report.html",
    "report.json",
    "run.json",
    "scans.csv",
    "timing.json",
}
GOLDEN = ("--engine", "fp32", "--reference", "golden")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def words_of(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def write_water(path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((96, 96, 30), dtype=np.int16), np.diag([2.4, 2.4, 5.0, 1.0]))
    nibabel.save(image, path)


@pytest.fixture
def infer(invoke: Callable[..., Any], tiny_bundle: Path) -> Callable[..., Any]:
    """Infer with the tiny bundle, in this process."""
    return lambda *words: invoke("infer", "--bundle", tiny_bundle, *words)


@pytest.fixture
def alone(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle in a folder of its own, without its checkpoint."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "box" / "edge-bundle"))


@pytest.fixture
def mixed(tiny_scans: Path, tmp_path: Path) -> Path:
    """A good head, a block of water that looks like a head from outside, and a text."""
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_scans / "head-2", folder / "good")
    write_water(folder / "water.nii.gz")
    (folder / "notes.txt").write_text("nothing")
    return folder


# ---------------------------------------------------------------------------------------------------- what it leaves


def test_it_leaves_the_documented_files_and_ends_with_0(infer: Any, tiny_scans: Path) -> None:
    done = infer(tiny_scans, *GOLDEN, "-o", "run")
    assert done.exit_code == 0
    assert {path.name for path in Path("run").iterdir()} == FILES
    table = rows(Path("run/scans.csv"))
    assert [row["row"] for row in table] == ["1", "2", "3", "4"]
    assert {path.stem for path in Path("run/outputs").iterdir()} == {row["scan"] for row in table}
    assert "Parity passed: as molre-edge's rebuild of the checkpoint answered 3 golden volumes" in done.stdout
    assert "4 scans answered" in done.stdout
    report = json.loads(Path("run/report.json").read_text())
    assert (
        report["verdict"]["headline"] in words_of(done.stdout)
        and "preprocessing can't" in report["verdict"]["headline"]
    )
    assert "not a diagnosis" in words_of(done.stdout)
    assert (
        "Engine: onnxruntime:fp32" in done.stderr
        and "Reference: the bundle's golden answers, as asked for" in done.stderr
    )


def test_dicom_results_have_a_folder_of_their_own_and_it_says_whom_they_name(infer: Any, tiny_scans: Path) -> None:
    done = infer(tiny_scans / "head-1", *GOLDEN, "--secondary-capture", "-o", "run", "--json")
    assert done.exit_code == 0
    assert {path.name for path in Path("run").iterdir()} == FILES | {"dicom"}
    said = json.loads(done.stdout)
    assert (said["dicom"], said["no_dicom_result"]) == (str(Path("run") / "dicom"), [])
    assert "DICOM results, which name patients: run/dicom" in words_of(done.stderr)
    wrong = infer(tiny_scans, "--sr", "pdf")
    assert wrong.exit_code == 2 and "expected comprehensive3d or comprehensive" in words_of(wrong.stderr)


def test_shards_share_a_secret_and_are_merged_into_the_run_that_all_scans_make(
    infer: Any, invoke: Any, tiny_scans: Path
) -> None:
    assert infer(tiny_scans, *GOLDEN, "-o", "one", "--id-secret", "ids.secret").exit_code == 0
    for i in (1, 2):
        done = infer(tiny_scans, *GOLDEN, "-o", f"part-{i}", "--shard", f"{i}/2", "--id-secret", "ids.secret", "--json")
        assert (done.exit_code, json.loads(done.stdout)["shard"]) == (0, f"{i}/2")
    done = invoke("report", "--merge", "part-1", "part-2", "-o", "merged", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["run"] == "merged"
    for name in ("scans.csv", "findings.csv", "slices.csv"):
        assert Path("merged", name).read_bytes() == Path("one", name).read_bytes()
    done = invoke("report", "--merge", "part-1")
    assert done.exit_code == 1 and "missing: shard 2/2" in done.stderr
    done = infer(tiny_scans, *GOLDEN, "--shard", "1/2")
    assert done.exit_code == 2 and "--shard needs --id-secret FILE" in done.stderr


def test_a_shard_does_not_run_below_its_scans_where_others_would_find_it(
    infer: Any, tiny_scans: Path, tmp_path: Path
) -> None:
    scans = Path(shutil.copytree(tiny_scans, tmp_path / "scans"))
    done = infer(scans, *GOLDEN, "--shard", "1/2", "--id-secret", "ids.secret", "-o", scans / "runs" / "1")
    assert done.exit_code == 2 and "the run's folder lies below SCANS" in words_of(done.stderr)
    assert not (scans / "runs").exists() and not Path("ids.secret").exists()


def test_the_default_folder_is_named_by_the_time_and_two_in_one_second_get_one_each(
    infer: Any, tiny_scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Noon:
            return cls(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)

    monkeypatch.setattr("molre_edge.runs.store.datetime", Noon)
    for _ in range(2):
        assert infer(tiny_scans / "head-1", *GOLDEN).exit_code == 0
    assert sorted(p.name for p in Path("edge-runs").iterdir()) == ["20260102T120000Z", "20260102T120000Z-2"]


def test_by_default_the_pytorch_model_beside_the_bundle_is_the_reference(
    infer: Any, tiny_scans: Path, tiny_checkpoint: Path
) -> None:
    done = infer(tiny_scans, "-o", "run", "--json", "--reference-scans", "2")
    assert done.exit_code == 0, done.output
    report = json.loads(Path("run/report.json").read_text())
    assert report["engine"]["name"] == "onnxruntime:fp16"
    assert report["reference"]["kind"] == "pytorch checkpoint"
    assert report["scans"] == [row["scan"] for row in rows(Path("run/scans.csv"))][:2]
    assert report["command"] == "molre-edge infer SCANS --engine fp16 --reference-scans 2"
    assert {row["who"] for row in report["timing"]} == {"onnxruntime:fp16", "torch:fp32 (reference)"}
    assert "The PyTorch reference adds about" in done.stderr and "for 2 scans" in done.stderr


def test_the_torch_engine_reproduces_its_own_golden_answers(
    infer: Any, tiny_scans: Path, tiny_checkpoint: Path
) -> None:
    for reference in ("auto", "golden"):
        assert infer(tiny_scans, "-e", "torch", "--reference", reference, "-o", reference).exit_code == 0
        report = json.loads(Path(reference, "report.json").read_text())
        assert (report["engine"]["name"], report["reference"]["kind"]) == ("torch:fp32", "golden answers")


def test_names_of_people_are_in_scans_csv_and_slices_csv_and_nowhere_else(
    invoke: Any, tiny_scans: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    shutil.copytree(tiny_scans / "head-1", scans / "Muster^Erika" / "head")
    for path in (scans / "Muster^Erika" / "head").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID = "Muster^Erika", "MUSTER-4711"
        dataset.save_as(path)
    shutil.copytree(scans / "Muster^Erika" / "head", scans / "Muster^cut")
    sorted((scans / "Muster^cut").iterdir())[5].unlink()
    broken = sorted((scans / "Muster^cut").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:-5000])
    write_water(scans / "Muster-water.nii.gz")
    (scans / "Muster.pdf").write_bytes(b"%PDF-1.4 Muster")
    done = invoke("infer", scans, *GOLDEN, "--bundle", tiny_bundle, "-o", "run")
    assert done.exit_code == 4
    secrets = [b"Muster", b"MUSTER-4711"]
    shown = (done.stdout + done.stderr).encode()
    for path in Path("run").rglob("*"):
        if path.is_file():
            found = [secret for secret in secrets if secret.lower() in path.read_bytes().lower()]
            assert bool(found) == (path.name in ("scans.csv", "slices.csv")), path
    assert not any(secret.lower() in shown.lower() for secret in secrets)


# ------------------------------------------------------------------------------------------------------ how it ends


def test_a_bad_scan_in_a_batch_ends_with_4_and_is_shown_with_its_reason(infer: Any, mixed: Path) -> None:
    done = infer(mixed, *GOLDEN, "-o", "run")
    assert done.exit_code == 4
    [bad] = [row for row in rows(Path("run/scans.csv")) if row["status"] == "rejected"]
    assert bad["path"] == "water.nii.gz" and bad["code"] and bad["reason"]
    assert f"{bad['scan']} cannot be used: {bad['reason']}" in words_of(done.stderr)
    assert bad["code"] in done.stdout


def test_a_study_that_is_still_arriving_is_left_for_later(infer: Any, tiny_scans: Path, tmp_path: Path) -> None:
    for name in ("there", "arriving"):
        shutil.copytree(tiny_scans / "head-1", tmp_path / "drop" / name)
    for path in (tmp_path / "drop" / "there").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"  # a study of its own
        dataset.save_as(path)
        os.utime(path, (1e9, 1e9))
    done = infer(tmp_path / "drop", *GOLDEN, "--settle", "600", "-o", "run")
    assert done.exit_code == 4
    assert {row["path"]: row["code"] for row in rows(Path("run/scans.csv"))} == {
        "there": "",
        "arriving": "still_arriving",
    }


def test_an_engine_that_does_not_answer_as_pytorch_did_is_refused_before_any_scan(infer: Any, mixed: Path) -> None:
    Path("strict.toml").write_text("[fp32]\nmax_abs_dp = 0\n")
    done = infer(mixed, *GOLDEN, "-o", "run", "--limits", "strict.toml", "--json")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "so it is not used: max_abs_dp: largest difference" in done.stderr
    assert not Path("run").exists()


def test_an_engine_is_verified_once_and_again_when_the_record_is_gone(infer: Any, tiny_scans: Path) -> None:
    told = []
    for name in ("first", "second"):
        told.append(infer(tiny_scans / "head-1", *GOLDEN, "--threads", "1", "-o", name).stderr)
    record_path().unlink()  # type: ignore[union-attr]
    told.append(infer(tiny_scans / "head-1", *GOLDEN, "--threads", "1", "-o", "third").stderr)
    assert ["verified now in" in text for text in told] == [True, False, True]
    assert "verified on this machine on 2" in told[1]


def test_failed_parity_ends_with_3_also_when_a_scan_is_bad(infer: Any, mixed: Path, tiny_bundle: Path) -> None:
    Path("strict.toml").write_text("[fp32]\nmax_abs_dp = 0\n")
    bundle, gate = Bundle.open(tiny_bundle), load_limits("strict.toml")[Precision.FP32]
    with choose_engine("fp32", bundle).runner as runner:  # an engine that passed once and does not any more
        VerifiedRecord(record_path()).add(subject_of(bundle, runner, gate), "passed")
    done = infer(mixed, *GOLDEN, "-o", "run", "--limits", "strict.toml", "--quiet")
    assert done.exit_code == 3
    assert done.stdout == ""
    assert "error: parity failed: max_abs_dp; see run/report.html" in done.stderr
    assert json.loads(Path("run/report.json").read_text())["limits_source"] == "--limits strict.toml"


def test_no_usable_scan_ends_with_1_and_leaves_the_reasons(infer: Any, mixed: Path) -> None:
    done = infer(mixed / "water.nii.gz", *GOLDEN, "-o", "run")
    assert done.exit_code == 1
    assert "no scan could be used; the reasons are in scans.csv" in done.stderr
    assert {path.name for path in Path("run").iterdir()} == FILES - {"slices.csv"}
    assert [row["code"] for row in rows(Path("run/scans.csv"))] == ["not_hounsfield"]


def test_a_folder_without_any_image_ends_with_1_and_leaves_no_run(infer: Any) -> None:
    (Path("text") / "below").mkdir(parents=True)
    Path("text/below/notes.txt").write_text("nothing")
    done = infer("text", *GOLDEN, "-o", "run")
    assert done.exit_code == 1
    assert "text: contains no head CT in DICOM or NIfTI (files there: 1 not_a_scan" in words_of(done.stderr)
    assert not Path("run").exists()


def test_findings_and_what_parity_was_judged_on_are_told(infer: Any, tiny_scans: Path, tiny_checkpoint: Path) -> None:
    golden = words_of(infer(tiny_scans, *GOLDEN, "-o", "run").stdout)
    assert "golden volumes of the bundle, not on these scans" in golden
    row = rows(Path("run/findings.csv"))[0]
    assert f"{row['scan']} {', '.join(row['positive'].split()[:2])}" in golden
    some = words_of(infer(tiny_scans, "--reference-scans", "2", "-o", "other").stdout)
    assert "Parity passed" in some and "; on 2 of 4 scans" in some


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        ([".", "--bundle", "nowhere"], "nowhere: no such bundle. Make one with 'molre-edge export CKPT -o nowhere'"),
        ([".", "--engine", "fp4"], "--engine fp4: expected fp32, fp16, int8, fp8"),
        ([".", "--engine", "torch:fp16"], "--engine torch:fp16: expected"),
        ([".", "--reference", "gold"], "--reference gold: no such file, and none of auto, golden, none"),
        ([".", "--reference-scans", "0"], "--reference-scans 0: expected a whole number of at least 1, or 'all'"),
        ([".", "--reference-scans", "few"], "--reference-scans few: expected"),
        ([".", "--labels", "nowhere.csv"], "'nowhere.csv' does not exist"),
        ([".", "--limits", "."], "is a directory"),
        ([".", "--threads", "0"], "Invalid value for '--threads'"),
    ],
)
def test_a_wrong_use_ends_with_2_and_says_what_was_expected(words: list[str], message: str, infer: Any) -> None:
    done = infer(*words)
    assert done.exit_code == 2
    assert message in words_of(done.stderr)
    assert not Path("edge-runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reference", "other.pt"], "other.pt: is not the checkpoint that the bundle was exported from"),
        (["--engine", "int8"], "has no int8 graph, only fp32, fp16. Expected one: 'molre-edge calibrate' makes it"),
        (["--expect-digest", "0" * 64], "expected 000000"),
        (["--limits", "other.pt"], "other.pt: not a TOML file"),
        (["--limits", "odd.toml"], "odd.toml: unknown table [fp4]"),
        (["--labels", "other.pt"], "expected a column 'scan'"),
        (["--labels", "nobody.csv"], "none of its 1 lines names a scan of this run"),
        (["--out", "other.pt"], "other.pt: exists already"),
        (["--out", "full"], "full: exists already. Choose another folder with -o"),
        (["--out", "other.pt/below"], "Not a directory"),
        (["--resume"], "no interrupted run with this bundle, engine, reference and folder of scans"),
        (["--resume", "-o", "full"], "full: not a run of molre-edge"),
        (["--resume", "-o", "nowhere"], "nowhere: no such folder. Name the folder of a run"),
    ],
)
def test_what_can_be_mended_ends_with_1_and_leaves_nothing(
    words: list[str], message: str, infer: Any, tiny_scans: Path
) -> None:
    Path("other.pt").write_text("no checkpoint, no table")
    Path("odd.toml").write_text("[fp4]\n")
    Path("nobody.csv").write_text("scan,intracranial_hemorrhage_any\nnobody,1\n")
    (Path("full") / "of").mkdir(parents=True)
    there = set(Path().rglob("*"))
    done = infer(tiny_scans / "head-1", "--reference", "golden", *words)
    assert done.exit_code == 1
    assert message in words_of(done.stderr)
    assert set(Path().rglob("*")) - there <= {Path("edge-runs")}


@pytest.mark.parametrize("file", ["graphs/fp32.onnx", "golden/golden.npz", MANIFEST])
def test_an_altered_bundle_ends_with_1_and_leaves_nothing(
    file: str, invoke: Any, tiny_scans: Path, alone: Path
) -> None:
    digest = Bundle.open(alone).digest
    with (alone / file).open("ab") as stream:
        stream.write(b" ")
    done = invoke("infer", tiny_scans, *GOLDEN, "--bundle", alone, "--expect-digest", digest, "-o", "run")
    assert done.exit_code == 1
    assert "altered or damaged" in done.stderr or "its digest is" in done.stderr
    assert not Path("run").exists()


def test_the_expected_digest_is_the_one_that_export_printed(infer: Any, tiny_scans: Path, tiny_bundle: Path) -> None:
    digest = hashlib.sha256((tiny_bundle / MANIFEST).read_bytes()).hexdigest()
    assert infer(tiny_scans / "head-1", *GOLDEN, "-q", "--expect-digest", digest.upper(), "-o", "run").exit_code == 0


# -------------------------------------------------------------------------------------------------- options and words


def test_the_bundle_is_found_by_the_environment_and_by_its_default_name(
    invoke: Any, tiny_scans: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = tiny_scans / "head-1"
    assert invoke("infer", scan, *GOLDEN, "-o", "none").exit_code == 2
    monkeypatch.setenv("MOLRE_EDGE_BUNDLE", str(alone))
    assert invoke("infer", scan, *GOLDEN, "-o", "by-environment").exit_code == 0
    monkeypatch.delenv("MOLRE_EDGE_BUNDLE")
    monkeypatch.chdir(alone.parent)
    assert invoke("infer", scan, *GOLDEN, "-o", "by-default").exit_code == 0


def test_labels_bring_auc_into_the_report(infer: Any, tiny_scans: Path, tiny_checkpoint: Path) -> None:
    names = ("head-1", "head-2", "head-3", "head-4.nii.gz")
    lines = [f"{tiny_scans / name},{i % 2},63" for i, name in enumerate(names)]
    Path("labels.csv").write_text("\n".join(["scan,intracranial_hemorrhage_any,age", *lines]))
    done = infer(tiny_scans, "-e", "fp32", "-o", "run", "--labels", "labels.csv", "--reference", tiny_checkpoint)
    assert done.exit_code == 0
    assert "mean AUC of 1 findings" in done.stdout
    report = json.loads(Path("run/report.json").read_text())
    assert {c["name"]: c["judged"] for c in report["verdict"]["checks"]}["mean_auc_drop"]
    assert "AUC" in Path("run/report.html").read_text()
    done = infer(tiny_scans, *GOLDEN, "-o", "run2", "--labels", "labels.csv")
    assert "Note: the labels were not used" in done.stdout


def test_every_series_of_a_study_on_request(infer: Any, tiny_scans: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(tiny_scans / "head-1", study / "one")
    shutil.copytree(tiny_scans / "head-1", study / "two")
    for path in (study / "two").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = "1.2.3.4"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{dataset.InstanceNumber}"
        dataset.save_as(path)
    assert infer(study, *GOLDEN, "-o", "one", "-q").exit_code == 0
    assert sorted(row["status"] for row in rows(Path("one/scans.csv"))) == ["done", "ignored"]
    assert infer(study, *GOLDEN, "-o", "all", "-q", "--all-series").exit_code == 0
    assert [row["status"] for row in rows(Path("all/scans.csv"))] == ["done", "done"]


def test_stdout_is_one_json_object_and_nothing_else(spawn: Any, mixed: Path, alone: Path) -> None:
    done = spawn("infer", mixed, *GOLDEN, "--bundle", alone, "-o", "run", "--json")
    assert done.returncode == 4
    result = json.loads(done.stdout)
    assert (result["run"], result["scans"], result["exit_code"]) == ("run", 1, 4)
    assert {row["scan"] for row in rows(Path(result["slices"]))} == {each["scan"] for each in result["findings"]}
    assert result["parity"]["passed"] is True
    bad = next(row["scan"] for row in rows(Path("run/scans.csv")) if row["status"] == "rejected")
    assert [each["scan"] for each in result["rejected"]] == [bad]
    [line] = [json.loads(line) for line in Path("run/findings.jsonl").read_text().splitlines()]
    [told] = result["findings"]
    assert told == {key: line[key] for key in told} and told["findings"]
    assert {row["phase"] for row in result["timing"]} >= {"read", "compute", "end_to_end"}
    assert "Parity passed" in done.stderr
    failed = spawn("infer", mixed, *GOLDEN, "--bundle", "nowhere", "--json")
    assert (failed.returncode, failed.stdout) == (2, "")


def test_quiet_says_nothing_when_all_is_well(spawn: Any, tiny_scans: Path, alone: Path) -> None:
    done = spawn("infer", tiny_scans, *GOLDEN, "--bundle", alone, "-o", "run", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = spawn("infer", tiny_scans, *GOLDEN, "--bundle", alone, "-o", "run2", "--quiet", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["scans"] == 4


def test_paths_may_hold_blanks_markup_and_bytes_that_are_no_text(
    spawn: Any, tiny_scans: Path, alone: Path, tmp_path: Path
) -> None:
    import os

    scans, out = tmp_path / "the scans [bold]", "a run [/red] :warning:"
    for name in ("a b", os.fsdecode(b"caf\xe9"), "[bold]x[/bold]"):
        shutil.copytree(tiny_scans / f"head-{len(list(scans.glob('*'))) + 1}", scans / name)
    done = spawn("infer", scans, *GOLDEN, "--bundle", alone, "-o", out)
    assert done.returncode == 0, done.stderr
    assert f"Report: {out}/report.html" in done.stdout
    assert [row["path"] for row in rows(Path(out, "scans.csv"))] == ["[bold]x[/bold]", "a b", "caf\\udce9"]
    again = spawn("infer", scans, *GOLDEN, "--bundle", alone, "-o", out, "--resume")
    assert again.returncode == 0 and "0 to do, 3 done before" in again.stderr
    odd = spawn("infer", scans, *GOLDEN, "--bundle", alone, "-o", os.fsdecode(b"run-\xe9"))
    assert odd.returncode == 0, odd.stderr


def test_a_sign_that_the_terminal_can_not_show_is_no_reason_to_fail(
    spawn: Any, tiny_scans: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = spawn("infer", tiny_scans / "head-1", *GOLDEN, "--bundle", alone, "-o", "run")
    assert done.returncode == 0, done.stderr
    assert "\\u2713 max_abs_dp" in done.stdout


# ------------------------------------------------------------------------------------------------- without PyTorch


@pytest.mark.parametrize("reference", ["golden", "none"])
def test_the_edge_never_imports_what_export_needs(reference: str, spawn: Any, tiny_scans: Path, alone: Path) -> None:
    words = ("infer", tiny_scans, "-e", "onnxruntime:fp32", "--reference", reference, "--bundle", alone, "-o", "run")
    done = spawn(*words, driver=("imports", 0))
    assert done.returncode == 0, done.stderr
    imported = done.stderr.split("IMPORTED")[1].split()
    assert "onnxruntime" in imported
    assert not {"torch", "transformers", "onnx", "onnxscript", "matplotlib"} & set(imported)
    assert not {"pydicom", "nibabel", "SimpleITK"} & set(imported), "files from outside are read in other processes"


def test_without_pytorch_the_golden_answers_are_the_reference_and_it_says_so(
    spawn: Any, tiny_scans: Path, tiny_bundle: Path, tiny_checkpoint: Path
) -> None:
    words = ("infer", tiny_scans, "-e", "fp32", "--bundle", tiny_bundle)
    done = spawn(*words, "-o", "run", driver=("without", 0))
    assert done.returncode == 0, done.stderr
    assert "Reference: the golden answers, since torch is not installed" in done.stderr
    assert json.loads(Path("run/report.json").read_text())["verdict"]["passed"] is True
    for asked in (("--reference", tiny_checkpoint), ("-e", "torch")):
        done = spawn(*words, *asked, driver=("without", 0))
        assert done.returncode == 1
        assert "pip install 'molre-edge[export]'" in done.stderr


# -------------------------------------------------------------------------------------- cut, and gone on with

MOMENTS = {
    "before the first answer": 3,
    "amid the answers": 5,
    "after the last answer": 7,
    "before the report": 11,
    "before the end": 13,
}
"""How many files of a run of four scans are in place: secret, description, table, four answers, results."""


@pytest.fixture(scope="module")
def uncut(tiny_bundle: Path, tiny_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run that nobody cut leaves."""
    from typer.testing import CliRunner

    from molre_edge.cli import app

    out = tmp_path_factory.mktemp("uncut") / "run"
    words = ["infer", str(tiny_scans), *GOLDEN, "--bundle", str(tiny_bundle), "-o", str(out)]
    assert CliRunner().invoke(app, words).exit_code == 0
    return named_tables(out)


def named_tables(run: Path) -> dict[str, str]:
    """Tables of a run with paths in the place of ids, which are other ones in each run."""
    paths = {row["scan"]: row["path"] for row in rows(run / "scans.csv")}
    tables = {name: (run / name).read_text() for name in ("findings.csv", "scans.csv")}
    return {name: re.sub(r"scan-[a-z2-7]{16}", lambda found: paths[found[0]], text) for name, text in tables.items()}


def check_whole(run: Path, uncut: dict[str, str]) -> None:
    assert named_tables(run) == uncut
    assert {path.name for path in run.iterdir()} == FILES
    assert len(list((run / "outputs").iterdir())) == 4
    assert json.loads((run / "run.json").read_text())["finished"] is True


@pytest.mark.parametrize("files", MOMENTS.values(), ids=MOMENTS.keys())
def test_a_run_that_was_killed_goes_on_where_it_stopped(
    files: int, spawn: Any, infer: Any, tiny_scans: Path, tiny_bundle: Path, uncut: dict[str, str]
) -> None:
    killed = spawn("infer", tiny_scans, *GOLDEN, "--bundle", tiny_bundle, "-o", "run", driver=("SIGKILL", files))
    assert killed.returncode == -9
    answered = min(max(files - 3, 0), 4)
    done = infer(tiny_scans, *GOLDEN, "-o", "run", "--resume")
    assert done.exit_code == 0
    before = f", {answered} done before" if answered else ""
    assert f"Scans: {4 - answered} to do{before}\n" in done.stderr
    check_whole(Path("run"), uncut)


def test_a_run_that_was_killed_before_it_wrote_anything_is_started_again(
    spawn: Any, infer: Any, tiny_scans: Path, tiny_bundle: Path, uncut: dict[str, str]
) -> None:
    assert (
        spawn("infer", tiny_scans, *GOLDEN, "--bundle", tiny_bundle, "-o", "run", driver=("SIGKILL", 0)).returncode
        == -9
    )
    assert infer(tiny_scans, *GOLDEN, "-o", "run").exit_code == 0
    check_whole(Path("run"), uncut)


def test_the_newest_run_that_was_cut_is_found_without_its_name(
    spawn: Any, infer: Any, tiny_scans: Path, tiny_bundle: Path, uncut: dict[str, str]
) -> None:
    spawn("infer", tiny_scans, *GOLDEN, "--bundle", tiny_bundle, driver=("SIGKILL", 4))
    done = infer(tiny_scans, *GOLDEN, "--resume")
    [run] = Path("edge-runs").iterdir()
    assert done.exit_code == 0 and f"Resuming {run}" in done.stderr
    check_whole(run, uncut)
    assert infer(tiny_scans, *GOLDEN, "--resume").exit_code == 1


@pytest.mark.parametrize("what", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_ends_with_130_and_says_how_to_go_on(
    what: str, spawn: Any, infer: Any, tiny_scans: Path, tiny_bundle: Path, uncut: dict[str, str]
) -> None:
    words = ("infer", tiny_scans, *GOLDEN, "--bundle", tiny_bundle, "-o", "run")
    stopped = spawn(*words, driver=(what, 4))
    assert stopped.returncode == 130
    assert "what is done is kept: add --resume -o run to continue" in stopped.stderr
    assert "Traceback" not in stopped.stderr and stopped.stdout == ""
    assert not list(Path("run").rglob(".*"))
    assert infer(*words[1:], "--resume").exit_code == 0
    check_whole(Path("run"), uncut)


@pytest.mark.parametrize("size", [2_000, 8_000], ids=["at an answer", "at the results"])
def test_a_full_disk_ends_with_1_and_the_run_can_go_on(
    size: int, spawn: Any, infer: Any, tiny_scans: Path, tiny_bundle: Path, uncut: dict[str, str]
) -> None:
    words = ("infer", tiny_scans, *GOLDEN, "--bundle", tiny_bundle, "-o", "run")
    full = spawn(*words, driver=("full", size))
    assert full.returncode == 1
    assert "File too large; what is done is kept: add --resume -o run to continue" in full.stderr
    assert "Traceback" not in full.stderr
    assert infer(*words[1:], "--resume").exit_code == 0
    check_whole(Path("run"), uncut)


def test_two_at_once_into_one_folder_end_with_one_run_and_one_refusal(tiny_scans: Path, tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "molre_edge", "infer", *GOLDEN, "--bundle", str(tiny_bundle), "-o", "run"]
    started = [
        subprocess.Popen([*command, str(tiny_scans / name)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in ("head-1", "head-2")
    ]
    told = [process.communicate()[1] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) == [0, 1], told
    refused = told[codes.index(1)]
    # who comes when the other has ended already is told that the folder is not empty
    assert "is using this run's folder" in refused or "exists already" in refused
    scans = json.loads(Path("run/run.json").read_text())["task"]["scans"]
    assert scans == Task.hide(tiny_scans / f"head-{codes.index(0) + 1}")
    assert len(rows(Path("run/findings.csv"))) == 1 and {path.name for path in Path("run").iterdir()} == FILES


def test_a_run_in_use_is_not_resumed_and_has_no_report_yet(invoke: Any, infer: Any, tiny_scans: Path) -> None:
    assert infer(tiny_scans / "head-1", *GOLDEN, "-o", "run").exit_code == 0
    lock = FolderLock.take(Path("run"))
    assert isinstance(lock, FolderLock)
    again = infer(tiny_scans / "head-1", *GOLDEN, "-o", "run", "--resume")
    assert again.exit_code == 1
    assert re.search(r"run: process \d+ on .* since .* is using this run's folder", again.stderr)
    report = invoke("report", "run")
    assert report.exit_code == 1
    assert re.search(r"this run is unfinished, process \d+ on .* is working on it", report.stderr)
    lock.release()
    assert infer(tiny_scans / "head-1", *GOLDEN, "-o", "run", "--resume").exit_code == 0


def test_the_former_name_of_an_option_still_works_with_a_warning(infer: Any, tiny_scans: Path) -> None:
    Path("strict.toml").write_text("[fp32]\nmax_abs_dp = 0\n")
    for words in (("--gates", "strict.toml"), ("--gates=strict.toml",)):
        done = infer(tiny_scans / "head-1", *GOLDEN, "-o", "run", *words)
        assert done.exit_code == 3
        assert "warning: --gates is now called --limits" in done.stderr
    assert "--gates" not in infer("--help").stdout


def test_a_run_is_not_gone_on_with_by_another_engine(infer: Any, tiny_scans: Path) -> None:
    assert infer(tiny_scans / "head-1", *GOLDEN, "-o", "run").exit_code == 0
    done = infer(tiny_scans / "head-1", "-e", "fp16", "--reference", "golden", "-o", "run", "--resume")
    assert done.exit_code == 1
    assert "that run had engine 'onnxruntime:fp32', not 'onnxruntime:fp16'" in done.stderr


def test_a_finished_run_takes_in_what_changed_appeared_and_vanished(
    infer: Any, tiny_scans: Path, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    for name in ("head-1", "head-2"):
        shutil.copytree(tiny_scans / name, scans / name)
    assert infer(scans, *GOLDEN, "-o", "run").exit_code == 0
    first = {row["scan"]: row["positive"] for row in rows(Path("run/findings.csv"))}
    before = {row["path"]: row["scan"] for row in rows(Path("run/scans.csv"))}
    shutil.rmtree(scans / "head-1")
    shutil.rmtree(scans / "head-2")
    shutil.copytree(tiny_scans / "head-3", scans / "head-2", copy_function=shutil.copyfile)
    shutil.copy(tiny_scans / "head-4.nii.gz", scans)
    done = infer(scans, *GOLDEN, "-o", "run", "--resume")
    assert done.exit_code == 0 and "2 to do, 1 done before" in done.stderr
    table = {row["path"]: (row["row"], row["status"]) for row in rows(Path("run/scans.csv"))}
    assert table == {"head-1": ("1", "done"), "head-2": ("2", "done"), "head-4.nii.gz": ("3", "done")}
    assert before.items() <= {row["path"]: row["scan"] for row in rows(Path("run/scans.csv"))}.items()
    second = {row["scan"]: row["positive"] for row in rows(Path("run/findings.csv"))}
    one, two = before["head-1"], before["head-2"]
    assert second[one] == first[one] and second[two] != first[two]


def test_a_damaged_run_is_told_and_a_damaged_answer_is_asked_again(infer: Any, tiny_scans: Path) -> None:
    assert infer(tiny_scans, *GOLDEN, "-o", "run").exit_code == 0
    next(Path("run/outputs").iterdir()).write_bytes(b"PK")
    done = infer(tiny_scans, *GOLDEN, "-o", "run", "--resume")
    assert done.exit_code == 0 and "1 to do, 3 done before" in done.stderr
    Path("run/scans.csv").write_text("nonsense")
    done = infer(tiny_scans, *GOLDEN, "-o", "run", "--resume")
    assert done.exit_code == 1 and "scans.csv: damaged" in done.stderr
