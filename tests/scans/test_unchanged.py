"""What is read is what was found; a study that is still arriving is left for later."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans import ScanSource, find_scans, read_scan

OLD = (1_000_000_000, 1_000_000_000)


def refusal(source: ScanSource) -> str:
    with pytest.raises(ScanError) as caught:
        read_scan(source)
    return caught.value.code


def replace_keeping_size_and_time(path: Path, data: bytes) -> None:
    """As a tool that copies with times does: only the file system's own time tells."""
    before = path.stat()
    assert len(data) == before.st_size
    other = path.with_name(path.name + ".new")
    other.write_bytes(data)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def test_files_that_were_replaced_between_finding_and_reading_are_refused(head_folder: Path) -> None:
    [source] = find_scans(head_folder).scans
    mark = source.fingerprint()
    path = head_folder / "010.dcm"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    assert refusal(source) == "changed"
    assert source.fingerprint() == mark  # it is of what was found
    [again] = find_scans(head_folder).scans
    assert again.fingerprint() != mark and len(read_scan(again).hu) == 35


def test_a_replacement_of_the_same_size_and_time_is_noticed(head_folder: Path) -> None:
    [source] = find_scans(head_folder).scans
    path = head_folder / "010.dcm"
    replace_keeping_size_and_time(path, path.read_bytes()[:-2] + b"\1\0")
    assert refusal(source) == "changed"


def test_a_header_that_is_not_the_one_that_was_found_is_refused(head_folder: Path) -> None:
    from dataclasses import replace

    [source] = find_scans(head_folder).scans
    path = head_folder / "010.dcm"
    dataset = pydicom.dcmread(path)
    dataset.PatientID = "OTHER-IDX"
    dataset.save_as(path)
    now = path.stat()
    found = [
        replace(each, size=now.st_size, modified_ns=now.st_mtime_ns, changed_ns=now.st_ctime_ns) if at == 10 else each
        for at, each in enumerate(source.found)
    ]  # as on a file system that keeps no such times
    assert refusal(replace(source, found=tuple(found))) == "changed"


def test_a_changed_scan_is_not_replaced_by_another_series(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "a", study="1.2.3")
    write_series(tmp_path / "b", study="1.2.3", ConvolutionKernel="H70h")
    [source] = find_scans(tmp_path).scans
    os.utime(source.files[0])
    assert len(source.alternatives) == 1 and refusal(source) == "changed"


def test_a_nifti_file_that_was_replaced_is_refused(tmp_path: Path, write_nifti: Any) -> None:
    path = write_nifti(tmp_path / "a.nii")
    [source] = find_scans(path).scans
    mark = source.fingerprint()
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[-1000:] = 0
    replace_keeping_size_and_time(path, data.tobytes())
    assert refusal(source) == "changed" and source.fingerprint() == mark
    [again] = find_scans(path).scans
    assert len(read_scan(again).hu) == 35


def test_a_source_keeps_what_was_found_on_its_way_to_a_reader(head_folder: Path) -> None:
    [source] = find_scans(head_folder).scans
    assert len(source.found) == 35 and source.candidates and source.folders == ((head_folder, 35),)
    assert ScanSource.from_dict(source.to_dict()) == source


def test_a_study_that_was_changed_just_now_is_left_for_later(
    head_folder: Path, tmp_path: Path, write_nifti: Any
) -> None:
    write_nifti(tmp_path / "series" / "a.nii.gz")
    found = find_scans(head_folder, settle_seconds=600)
    assert not found.scans
    assert {(entry.code, entry.files) for entry in found.rejected} == {("still_arriving", 35), ("still_arriving", 1)}
    for path in head_folder.iterdir():
        os.utime(path, OLD)
    assert len(find_scans(head_folder, settle_seconds=600).scans) == 2
    os.utime(head_folder / "034.dcm")
    assert [scan.kind for scan in find_scans(head_folder, settle_seconds=600).scans] == ["nifti"]


def test_files_that_came_after_finding_are_warned_of(head_folder: Path) -> None:
    [source] = find_scans(head_folder).scans
    shutil.copy(head_folder / "000.dcm", head_folder / "new.dcm")
    [warning] = read_scan(source).warnings
    assert warning.code == "still_arriving" and "1 files came" in warning.text


def test_a_file_that_is_replaced_while_it_is_read_is_refused(head_folder: Path, monkeypatch: Any) -> None:
    [source] = find_scans(head_folder).scans

    def replaced_meanwhile(_: Any) -> tuple[()]:
        path = head_folder / "010.dcm"
        replace_keeping_size_and_time(path, path.read_bytes())
        return ()

    monkeypatch.setattr("molre_edge.scans.read.check_neighbours", replaced_meanwhile)
    assert refusal(source) == "changed"
