"""The headers of the series that was answered, read within bounds, and of no other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from molre_edge.dicom_results.facts import ResultError
from molre_edge.dicom_results.identity import HEADER_TAGS
from molre_edge.dicom_results.sources import answered_source, frames_of, read_source_headers
from molre_edge.scans import FoundFile, GridSlice, ScanSource, SliceSource, find_scans


@pytest.fixture
def study(tiny_scans: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_scans / "head-1", tmp_path / "study"))


def test_only_what_a_result_needs_is_read_of_each_image(study: Path) -> None:
    [source] = find_scans(study).scans
    headers = read_source_headers(source)
    assert len(headers) == len(source.files) == 12
    assert len({header.SOPInstanceUID for header in headers}) == 12
    assert {item.keyword for header in headers for item in header} <= set(HEADER_TAGS)
    assert headers[0].StudyDescription == "SYNTHETIC HEAD CT"


def test_a_scan_that_changed_since_it_was_found_or_is_gone_is_refused(study: Path) -> None:
    [source] = find_scans(study).scans
    source.files[3].touch()
    with pytest.raises(ResultError, match="can't be read again \\(changed") as refused:
        read_source_headers(source)
    assert refused.value.code == "source_unreadable"
    source.files[3].unlink()
    with pytest.raises(ResultError, match="can't be read again"):
        read_source_headers(source)


def test_a_nifti_file_has_no_study(tiny_scans: Path) -> None:
    [source] = find_scans(tiny_scans / "head-4.nii.gz").scans
    with pytest.raises(ResultError, match="names no patient and no study") as refused:
        read_source_headers(source)
    assert refused.value.code == "not_dicom"


def test_the_series_that_replaced_another_is_the_one_reported_on() -> None:
    other = ScanSource(Path("b"), (Path("b/1"), Path("b/2")), "dicom")
    source = ScanSource(Path("a"), (Path("a/1"),), "dicom", alternatives=(other,))

    def slices(*files: str) -> list[GridSlice]:
        return [GridSlice(1, 1.0, SliceSource(Path(file), "", 1), 1, 0.0) for file in files]

    assert answered_source(source, slices("a/1")) is source
    assert answered_source(source, slices("b/2", "b/1")) is other
    for unknown in (slices("c/1"), slices()):
        with pytest.raises(ResultError, match="not among those that were found"):
            answered_source(source, unknown)


def test_two_volumes_of_one_multi_frame_file_are_told_apart_by_their_frames() -> None:
    file = (Path("a"),)
    other = ScanSource(file[0], file, "dicom", found=(FoundFile(1, 2, 3, frames=(2, 3)),))
    source = ScanSource(file[0], file, "dicom", alternatives=(other,), found=(FoundFile(1, 2, 3, frames=(0, 1)),))
    assert answered_source(source, [GridSlice(1, 1.0, SliceSource(file[0], "", 2), 1, 0.0)]) is source
    assert answered_source(source, [GridSlice(1, 1.0, SliceSource(file[0], "", 3), 1, 0.0)]) is other


def test_frames_are_those_that_the_volume_took() -> None:
    found = FoundFile(1, 2, 3, frames=(0, 2))
    source = ScanSource(Path("a"), (Path("a"), Path("b")), "dicom", found=(found, replace(found, frames=())))
    assert frames_of(source) == ((0, 2), ())
