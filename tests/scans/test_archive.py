"""A study in a zip archive, or gzipped file by file, is read as one in a folder; nothing is unpacked to disk."""

from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans import find_scans, read_scan
from molre_edge.scans.archive_path import archive_of
from molre_edge.scans.content import open_content
from molre_edge.scans.workers.prepare import pack_job, unpack_job


def zip_folder(folder: Path, archive: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(archive, "w", method) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder.parent))
    return archive


@pytest.fixture
def expected(head_folder: Path) -> np.ndarray:
    return read_scan(find_scans(head_folder).scans[0]).hu


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("named", [True, False], ids=["the archive", "its folder"])
def test_a_zip_of_a_series_is_read_as_the_series(
    tmp_path: Path, head_folder: Path, expected: np.ndarray, method: int, named: bool
) -> None:
    (tmp_path / "export").mkdir()
    archive = zip_folder(head_folder, tmp_path / "export" / "study.ZIP", method)
    before = set(tmp_path.rglob("*"))
    found = find_scans(archive if named else archive.parent)
    [scan] = found.scans
    assert scan.path == archive / "series" and len(scan.files) == 35
    assert not found.rejected and not found.ignored
    np.testing.assert_array_equal(read_scan(unpack_job(pack_job(scan))).hu, expected)  # also in another process
    assert set(tmp_path.rglob("*")) == before


def test_a_zip_of_two_studies_is_two_scans(tmp_path: Path, write_series: Any) -> None:
    for name, value in (("one", 40.0), ("two", 45.0)):
        stack = np.full((35, 128, 128), -1000.0)
        stack[:, 20:108, 12:116] = 900.0
        stack[:, 26:102, 18:110] = value
        stack[:, 40, 40] = np.arange(35)  # no two slices are equal
        write_series(tmp_path / "both" / name, stack=stack)
    archive = zip_folder(tmp_path / "both", tmp_path / "both.zip")
    scans = find_scans(archive).scans
    assert [scan.path for scan in scans] == [archive / "both" / "one", archive / "both" / "two"]
    assert [float(read_scan(scan).hu[17, 64, 64]) for scan in scans] == [40.0, 45.0]


def test_an_archive_as_a_portal_exports_it(tmp_path: Path, head_folder: Path, expected: np.ndarray) -> None:
    archive = zip_folder(head_folder, tmp_path / "export.zip")
    whole = archive.read_bytes()
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("more.zip", whole)  # a zip within
        file.writestr("README.TXT", "a viewer for Windows")
        file.writestr("__MACOSX/series/._000.dcm", b"\0\5\26\7")
        file.writestr("viewer/viewer.exe", b"MZ")
        file.writestr("empty", b"")
    found = find_scans(archive)
    [scan] = found.scans
    np.testing.assert_array_equal(read_scan(scan).hu, expected)
    assert [(entry.path, entry.code) for entry in found.rejected] == [(archive / "more.zip", "unsupported_format")]
    assert {entry.code for entry in found.ignored} == {"not_a_scan"}
    total = len(scan.files) + sum(entry.files for entry in (*found.rejected, *found.ignored))
    assert total == 35 + 5


def test_names_that_lead_out_of_the_archive_lead_nowhere(tmp_path: Path, head_folder: Path) -> None:
    archive = tmp_path / "evil.zip"
    slices = sorted(head_folder.iterdir())
    with zipfile.ZipFile(archive, "w") as file:
        for index, path in enumerate(slices[:30]):
            file.write(path, f"good/{index}.dcm")
        outside = ["../outside.dcm", "/etc/outside.dcm", "a/../../outside.dcm", "C:/outside.dcm", "..\\outside.dcm"]
        for name, path in zip(outside, slices[30:], strict=True):
            file.writestr(name, path.read_bytes())
    shutil.copy(slices[0], tmp_path / "outside.dcm")
    found = find_scans(archive)
    assert [len(scan.files) for scan in found.scans] == [30]
    assert [(entry.path, entry.code) for entry in found.rejected] == [(archive, "unsupported_format")] * 5


def test_one_bad_entry_costs_only_itself(tmp_path: Path, head_folder: Path, write_nifti: Any) -> None:
    archive = tmp_path / "mixed.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(head_folder.iterdir()):
            file.write(path, f"dicom/{path.name}")
        file.write(write_nifti(tmp_path / "head.nii.gz"), "nifti/head.nii.gz")
        file.write(tmp_path / "head.nii.gz", "broken/head.nii.gz")
        link = zipfile.ZipInfo("link.dcm")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("bzip2.dcm", b"x" * 1000, zipfile.ZIP_BZIP2)
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("dicom/000.dcm", b"another")
    damage(archive, "broken/head.nii.gz")
    found = find_scans(archive)
    by_name = {scan.path.relative_to(archive).as_posix(): scan for scan in found.scans}
    assert read_scan(by_name["dicom"]).hu.shape == (35, 128, 128)
    assert read_scan(by_name["nifti/head.nii.gz"]).hu.shape == (35, 128, 128)
    with pytest.raises(ScanError) as caught:
        read_scan(by_name["broken/head.nii.gz"])
    assert caught.value.code == "corrupt_pixels"
    codes = {entry.path.relative_to(archive).as_posix(): entry.code for entry in (*found.rejected, *found.ignored)}
    assert codes == {"link.dcm": "link", "bzip2.dcm": "unsupported_format", "dicom/000.dcm": "unsupported_format"}


def damage(archive: Path, name: str) -> None:
    """Change one byte in the middle of an entry's data."""
    with zipfile.ZipFile(archive) as file:
        info = file.getinfo(name)
    data = bytearray(archive.read_bytes())
    data[info.header_offset + 30 + len(name) + info.compress_size // 2] ^= 0xFF
    archive.write_bytes(data)


def test_a_damaged_slice_in_an_archive_is_refused_not_read(tmp_path: Path, head_folder: Path) -> None:
    archive = zip_folder(head_folder, tmp_path / "study.zip", zipfile.ZIP_STORED)
    damage(archive, "series/017.dcm")  # stored as it is: only the checksum tells
    [scan] = find_scans(archive).scans
    with pytest.raises(ScanError) as caught:
        read_scan(scan)
    assert caught.value.code == "corrupt_pixels"


def test_encrypted_and_broken_archives_are_refused_by_name(tmp_path: Path, head_folder: Path) -> None:
    archive = zip_folder(head_folder, tmp_path / "locked.zip")
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # bit 0 of the flags: encrypted
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 4)
    archive.write_bytes(data)
    found = find_scans(archive)
    assert not found.scans
    [entry] = found.rejected
    assert (entry.code, entry.files) == ("unsupported_format", 35) and "encrypted" in entry.reason
    whole = zip_folder(head_folder, tmp_path / "whole.zip").read_bytes()
    for name, content in (("cut.zip", whole[:-200]), ("text.zip", b"PK"), ("empty.zip", b"")):
        (tmp_path / name).write_bytes(content)
        [entry] = find_scans(tmp_path / name).rejected
        assert (entry.path, entry.code) == (tmp_path / name, "empty_file" if not content else "unsupported_format")


def test_an_archive_that_was_replaced_is_not_read_as_before(tmp_path: Path, head_folder: Path) -> None:
    archive = zip_folder(head_folder, tmp_path / "study.zip")
    [scan] = find_scans(archive).scans
    before = scan.fingerprint()
    assert before == find_scans(archive).scans[0].fingerprint()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("notes.txt", "replaced")
    assert scan.fingerprint() == before  # of the archive as it was found
    with pytest.raises(ScanError) as caught:
        read_scan(scan)
    assert caught.value.code == "changed"
    assert find_scans(archive).scans == ()
    archive.unlink()
    with pytest.raises(ScanError) as caught:
        read_scan(scan)
    assert caught.value.code == "unreadable"
    assert str(tmp_path) not in str(caught.value)


def content_of(path: Path) -> bytes:
    with open_content(path) as content:
        return content.read()


def test_a_forked_process_reads_the_archive_by_itself(tmp_path: Path, head_folder: Path) -> None:
    plain = [path.read_bytes() for path in sorted(head_folder.iterdir())]
    archive = zip_folder(head_folder, tmp_path / "study.zip")
    [scan] = find_scans(archive).scans
    assert archive_of(scan.files[0]) == archive
    child = os.fork()
    if child == 0:  # both read at once, from one archive that was open before
        os._exit(0 if [content_of(path) for path in scan.files] == plain else 1)
    assert [content_of(path) for path in scan.files] == plain
    assert os.waitpid(child, 0)[1] == 0


def test_gzipped_dicom_files_are_read_by_their_content(tmp_path: Path, head_folder: Path, expected: np.ndarray) -> None:
    (tmp_path / "a").mkdir()
    for index, path in enumerate(sorted(head_folder.iterdir())):
        name = path.name + ".gz" if index % 3 else path.stem  # as .dcm.gz, and without any extension
        (tmp_path / "a" / name).write_bytes(gzip.compress(path.read_bytes()))
    found = find_scans(tmp_path / "a")
    assert [len(scan.files) for scan in found.scans] == [35]
    np.testing.assert_array_equal(read_scan(found.scans[0]).hu, expected)
    data = bytearray((tmp_path / "a" / "001.dcm.gz").read_bytes())
    data[-6] ^= 1  # the checksum at the end
    (tmp_path / "a" / "001.dcm.gz").write_bytes(data)
    with pytest.raises(ScanError) as caught:
        read_scan(find_scans(tmp_path / "a").scans[0])
    assert caught.value.code == "corrupt_pixels"


def test_misnamed_nifti_is_read(tmp_path: Path, write_nifti: Any) -> None:
    plain, packed = write_nifti(tmp_path / "a.nii"), write_nifti(tmp_path / "b.nii.gz")
    expected = read_scan(find_scans(plain).scans[0]).hu
    (tmp_path / "c.nii").write_bytes(packed.read_bytes())
    (tmp_path / "d.nii.gz").write_bytes(plain.read_bytes())
    for name in ("b.nii.gz", "c.nii", "d.nii.gz"):
        np.testing.assert_array_equal(read_scan(find_scans(tmp_path / name).scans[0]).hu, expected)
