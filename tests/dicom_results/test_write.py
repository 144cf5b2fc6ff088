"""Files that name patients are for their owner alone, and are whole or not there."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from molre_edge.dicom_results.facts import ResultError, ResultFacts
from molre_edge.dicom_results.write import write_results
from molre_edge.runs.scan_findings import Finding

Make = Callable[..., list[Dataset]]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_both_files_are_for_their_owner_alone(
    findings: list[Finding], headers: Make, facts: ResultFacts, tmp_path: Path
) -> None:
    folder = tmp_path / "dicom"
    folder.mkdir(mode=0o755)
    paths = write_results(findings[:1], headers(), facts, folder, "scan-a", capture=True)
    assert [path.name for path in paths] == ["scan-a.sr.dcm", "scan-a.capture.dcm"]
    assert {path.name for path in folder.iterdir()} == {path.name for path in paths}
    assert mode(folder) == 0o700 and {mode(path) for path in paths} == {0o600}
    assert [pydicom.dcmread(path).Modality for path in paths] == ["SR", "OT"]
    before = [path.read_bytes() for path in paths]
    write_results(findings[:1], headers(), facts, folder, "scan-a", capture=True)
    assert [path.read_bytes() for path in paths] == before


def test_a_refusal_writes_nothing(findings: list[Finding], headers: Make, facts: ResultFacts, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="StudyInstanceUID is missing"):
        write_results(findings, headers(StudyInstanceUID=None), facts, tmp_path / "dicom", "scan-a", capture=True)
    assert not (tmp_path / "dicom").exists()


def test_what_a_library_can_not_do_is_a_refusal_too(
    findings: list[Finding], headers: Make, facts: ResultFacts, tmp_path: Path
) -> None:
    with pytest.raises(ResultError, match=r"a bug in making it \(KeyError at base.py:\d+\)") as refused:
        write_results(findings, headers(SOPClassUID="1.2.3.9.9"), facts, tmp_path / "dicom", "scan-a")
    assert refused.value.code == "result_failed"
