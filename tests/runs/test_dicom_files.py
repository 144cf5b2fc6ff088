"""A run's DICOM results: one for each DICOM scan, the same after a resume, a rerun and a merge; failures are named."""

from __future__ import annotations

import csv
import json
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_fixtures import Errors, Groups

from molre_edge.dicom_results.codes import code_of
from molre_edge.errors import MissingDependencyError, RunError, UsageError
from molre_edge.runs.context import InferOptions
from molre_edge.runs.dicom_folder import DICOM_FOLDER, NO_DICOM_RESULT, NO_DICOM_STUDY
from molre_edge.runs.infer_result import InferResult
from molre_edge.runs.merge import merge_shards
from molre_edge.runs.scan_ids import IdSecret
from molre_edge.runs.store import RunStore, Task

Run = Callable[..., InferResult]
SECRET = IdSecret(bytes(32))


@pytest.fixture
def scans(tiny_scans: Path, tmp_path: Path) -> Path:
    """A head in DICOM and one in NIfTI."""
    folder = tmp_path / "scans"
    shutil.copytree(tiny_scans / "head-2", folder / "head-2")
    shutil.copy(tiny_scans / "head-4.nii.gz", folder)
    return folder


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / DICOM_FOLDER).iterdir()}


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_a_dicom_scan_gets_its_report_and_a_nifti_file_a_note(run: Run, scans: Path) -> None:
    result = run(scans, sr="comprehensive", secondary_capture=True)
    table = rows(result.folder / "scans.csv")
    scan = table["head-2"]["scan"]
    assert result.dicom is not None and result.exit_code == 0 and not result.no_dicom_result
    assert set(files(result.folder)) == {f"{scan}.sr.dcm", f"{scan}.capture.dcm"}
    assert stat.S_IMODE(result.dicom.stat().st_mode) == 0o700
    assert table["head-4.nii.gz"]["warnings"].split("; ")[-1] == NO_DICOM_STUDY
    assert any("NIfTI files name no study, so they have no DICOM result: 1" in note for note in result.notes)
    said = {line["scan"]: line for line in map(json.loads, (result.folder / "findings.jsonl").read_text().splitlines())}
    report = pydicom.dcmread(result.dicom / f"{scan}.sr.dcm")
    exact = [item.value for item in report.iterall() if item.keyword == "FloatingPointValue"]
    probabilities = [value["probability"] for value in said[scan]["findings"].values()]
    assert exact[::2] == probabilities and len(probabilities) > 1
    [image] = [item for item in report.ContentSequence if item.ValueType == "IMAGE"]
    with (result.folder / "slices.csv").open(newline="") as file:
        mixed = [row for row in csv.DictReader(file) if row["scan"] == scan]
    attention = said[scan]["attention"]
    uids = {row["sop_instance_uid"] for row in mixed if int(row["slice"]) == attention["slice"]}
    uid = image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert uid in uids and attention["source_slice"] > 0
    assert uid not in (result.folder / "findings.jsonl").read_text()


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("place", "reports"),
    [
        (".", 1),
        ("dicom_head/derived_ge_head_7_syntaxes_in_one_series", 1),  # of the study that is first above
        ("dicom_head/derived_ge_head_enhanced_multiframe_14_frames", 1),
    ],
)
def test_the_report_of_every_real_scan_is_valid_and_holds_what_was_answered(
    place: str, reports: int, run: Run, data_dir: Path, dciodvfy: Errors, dsrdump: Groups
) -> None:
    result = run(data_dir / place, sr="comprehensive3d", secondary_capture=True)
    table = {row["scan"]: row for row in rows(result.folder / "scans.csv").values()}
    lines = map(json.loads, (result.folder / "findings.jsonl").read_text().splitlines())
    said = {line["scan"]: line["findings"] for line in lines}
    presence = {True: "52101004", False: "272519000", None: "373068000"}
    seen = 0
    assert result.dicom is not None and set(said) == {scan.scan for scan in result.scans}
    for scan, findings in said.items():
        paths = sorted(result.dicom.glob(f"{scan}.*"))
        warnings = table[scan]["warnings"].split("; ")
        assert bool(paths) != bool({NO_DICOM_STUDY, NO_DICOM_RESULT} & set(warnings))
        assert [error for path in paths for error in dciodvfy(path)] == []
        if not paths:
            continue
        seen += 1
        groups = dsrdump(result.dicom / f"{scan}.sr.dcm")
        assert list(groups) == list(findings)
        for name, finding in findings.items():
            group = dict(groups[name])
            assert group.pop("Finding") == code_of(name).value
            assert group.pop("Presence of property") == presence[finding["positive"]]
            assert float(group.pop("Probability")) == pytest.approx(finding["probability"], abs=1e-13)
            assert float(group.pop("Decision threshold")) == pytest.approx(finding["threshold"], abs=1e-13)
            assert group == {}
    assert seen == reports


def test_without_the_options_there_is_no_such_folder(run: Run, scans: Path) -> None:
    result = run(scans)
    assert result.dicom is None and result.to_dict()["dicom"] is None
    assert not (result.folder / DICOM_FOLDER).exists()


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_result_that_can_not_be_made_is_named_and_stops_nothing(run: Run, tiny_scans: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_scans, tmp_path / "scans"))
    for path in (folder / "head-1").iterdir():
        slice_ = pydicom.dcmread(path)
        slice_.PatientID = "P" * 64 + "!"
        slice_.save_as(path)
    result = run(folder, secondary_capture=True)
    row = rows(result.folder / "scans.csv")["head-1"]
    assert row["status"] == "done" and NO_DICOM_RESULT in row["warnings"]
    assert result.no_dicom_result == (row["scan"],) and result.exit_code == 4
    assert "have no DICOM result" in result.meaning
    assert any(f"no DICOM result could be made for {row['scan']};" in note for note in result.notes)
    assert len(result.scans) == 4 and len(files(result.folder)) == 2
    [line] = [each for each in (result.folder / "findings.jsonl").read_text().splitlines() if row["scan"] in each]
    assert "invalid_identity" in line and "PPP" not in line


@pytest.fixture
def store(task: Task, tmp_path: Path) -> Callable[..., RunStore]:
    def open_store(name: str, resume: bool = False, shard: str | None = None) -> RunStore:
        start = RunStore.resume if resume else RunStore.create
        return start(tmp_path / name, replace(task, dicom="capture", shard=shard), SECRET)

    return open_store


def test_a_rerun_a_resume_and_a_merge_leave_the_same_bytes(
    run: Run, store: Any, tiny_scans: Path, tmp_path: Path
) -> None:
    once = run(tiny_scans, store("once"), secondary_capture=True)
    wanted = files(once.folder)
    assert len(wanted) == 3
    for i in (1, 2):
        run(tiny_scans, store(f"shard-{i}", shard=f"{i}/2"), secondary_capture=True)
    merged = merge_shards([tmp_path / "shard-1", tmp_path / "shard-2"], tmp_path / "merged")
    assert files(merged.folder) == wanted and merged.dicom is not None
    assert stat.S_IMODE(merged.dicom.stat().st_mode) == 0o700

    lost, *kept = sorted(wanted)
    (once.folder / "outputs" / f"{lost.split('.')[0]}.npz").unlink()  # killed before the answer was stored
    (once.folder / DICOM_FOLDER / f".{kept[0]}.abcdefgh.partial.dcm").write_bytes(b"half")
    (once.folder / DICOM_FOLDER / "scan-aaaaaaaaaaaaaaaa.capture.dcm").write_bytes(b"of a scan that is gone")
    run(tiny_scans, store("once", resume=True), secondary_capture=True)
    assert files(once.folder) == wanted


def test_a_run_is_resumed_with_its_own_choice_of_results(store: Any, task: Task, run: Run, scans: Path) -> None:
    run(scans, store("once"), secondary_capture=True)
    with pytest.raises(RunError, match="another choice of DICOM results"):
        RunStore.resume(scans.parent / "once", task, SECRET)


def test_a_run_of_a_version_before_is_resumed(store: Any, task: Task, run: Run, scans: Path, tmp_path: Path) -> None:
    run(scans, RunStore.create(tmp_path / "old", task, SECRET))
    head = json.loads((tmp_path / "old" / "run.json").read_text())
    del head["task"]["dicom"]
    (tmp_path / "old" / "run.json").write_text(json.dumps({**head, "finished": False}))
    assert RunStore.newest_unfinished(tmp_path, task, SECRET) == tmp_path / "old"
    RunStore.resume(tmp_path / "old", task, SECRET).close()


def test_options_are_judged_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--sr pdf: expected comprehensive3d or comprehensive"):
        InferOptions(scans=Path("scans"), sr="pdf")
    both = InferOptions(scans=Path("scans"), sr="comprehensive3d", secondary_capture=True)
    assert both.as_typed().endswith("--sr comprehensive3d --secondary-capture")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingDependencyError, match="highdicom"):
        InferOptions(scans=Path("scans"), secondary_capture=True)
    InferOptions(scans=Path("scans"))
