"""Looking for scans: one series a study, and a reason for every other file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, generate_uid

from molre_edge.errors import ScanError
from molre_edge.scans import FoundScans, find_scans, read_scan


def count_files(found: FoundScans) -> int:
    return sum(len(scan.files) for scan in found.scans) + sum(e.files for e in (*found.rejected, *found.ignored))


def axial(low: float, high: float, step: float) -> list[tuple[float, float, float]]:
    return [(-127.0, -127.0, float(z)) for z in np.arange(low, high + 1e-6, step)]


@pytest.fixture
def pacs_folder(tmp_path: Path, write_series: Any) -> Path:
    """A study as an archive exports it: scout, dose page, several series, other files."""
    root, study = tmp_path / "export", generate_uid()
    write_series(
        root / "s1", axial(0, 0, 1), study=study, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesNumber=1
    )
    write_series(root / "s2", study=study, SeriesNumber=2)
    write_series(root / "s3", study=study, SeriesNumber=3, ConvolutionKernel="H70h")
    write_series(root / "s4", axial(0, 85, 5), study=study, SeriesNumber=4)
    write_series(root / "s5", study=study, SeriesNumber=5, ContrastBolusAgent="X")
    write_series(root / "s6", study=study, SeriesNumber=6, ImageType=["DERIVED", "SECONDARY", "MPR"])
    write_series(
        root / "s9", axial(0, 0, 1), study=study, SeriesNumber=99,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.7", ImageType=["DERIVED", "SECONDARY", "DOSE_INFO"],
    )  # fmt: skip
    (root / "notes.txt").write_text("nothing")
    (root / "s2" / "._000.dcm").write_bytes(b"\x00\x05\x16\x07")
    return root


def test_one_series_of_a_study_is_chosen(pacs_folder: Path) -> None:
    found = find_scans(pacs_folder)
    assert [scan.path.name for scan in found.scans] == ["s2"]
    assert found.rejected == ()
    reasons = {(entry.path.name, entry.code) for entry in found.ignored}
    assert {("000.dcm", "localizer"), ("000.dcm", "dose_page"), ("notes.txt", "not_a_scan")} <= reasons
    assert {(f"s{n}", "series_not_chosen") for n in (3, 4, 5, 6)} <= reasons
    assert count_files(found) == sum(path.is_file() for path in pacs_folder.rglob("*"))


def test_when_the_chosen_series_fails_on_its_pixels_the_next_best_is_read_and_that_is_said(pacs_folder: Path) -> None:
    [source] = find_scans(pacs_folder).scans
    assert len(source.alternatives) == 3
    before = source.fingerprint()
    for path in source.files:
        make_water(path)
    [changed] = find_scans(pacs_folder).scans
    volume = read_scan(changed)
    assert volume.warnings[0].code == "series_replaced"
    assert "no_tissue" in volume.warnings[0].text or "not_hounsfield" in volume.warnings[0].text
    expected = read_scan(source.alternatives[0])
    np.testing.assert_array_equal(volume.hu, expected.hu)
    for other in changed.alternatives:
        for path in other.files:
            make_water(path)
    with pytest.raises(ScanError, match="nor can 3 other series") as caught:
        read_scan(changed)
    assert caught.value.code == volume.warnings[0].text.split("(")[1].split(":")[0]
    assert changed.fingerprint() != before  # a study that was refused is asked again when any of its series changes


def make_water(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(path)


def test_all_usable_series_on_request(pacs_folder: Path) -> None:
    found = find_scans(pacs_folder, all_series=True)
    assert [scan.path.name for scan in found.scans] == ["s2", "s3", "s4", "s5", "s6"]
    assert count_files(found) == sum(path.is_file() for path in pacs_folder.rglob("*"))


def test_the_result_does_not_depend_on_the_order_on_disk(pacs_folder: Path) -> None:
    assert find_scans(pacs_folder) == find_scans(pacs_folder)
    assert [scan.files for scan in find_scans(pacs_folder).scans] == [
        tuple(sorted((pacs_folder / "s2").glob("0*.dcm")))
    ]


def test_without_the_best_series_the_next_one_is_chosen(pacs_folder: Path) -> None:
    chosen = []
    for _ in range(5):
        (scan,) = find_scans(pacs_folder).scans
        chosen.append(scan.path.name)
        for path in scan.files:
            path.unlink()
    # plain, with contrast, with a bone kernel, half the head, reformatted
    assert chosen == ["s2", "s5", "s3", "s4", "s6"]


def test_a_study_with_nothing_usable_is_rejected(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "a", axial(0, 0, 1), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = find_scans(tmp_path)
    assert not found.scans and not found.ignored
    assert [entry.code for entry in found.rejected] == ["localizer"]


def test_two_patients_with_one_study_uid_are_two_studies(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "a", study="1.2.3", PatientID="A")
    write_series(tmp_path / "b", study="1.2.3", PatientID="B")
    assert len(find_scans(tmp_path).scans) == 2


def test_without_uids_each_folder_is_a_study(tmp_path: Path, write_series: Any) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / name, StudyInstanceUID="", SeriesInstanceUID="")
    assert [scan.path.name for scan in find_scans(tmp_path).scans] == ["a", "b"]


def test_a_series_may_be_spread_over_folders(head_folder: Path) -> None:
    for index, path in enumerate(sorted(head_folder.iterdir())):
        folder = head_folder / f"IMG{index % 3}"
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    found = find_scans(head_folder)
    assert [(scan.path, len(scan.files)) for scan in found.scans] == [(head_folder, 35)]


def test_a_scout_within_the_series_is_left_out(head_folder: Path) -> None:
    dataset = pydicom.dcmread(head_folder / "000.dcm")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    dataset.save_as(head_folder / "zz.dcm")
    found = find_scans(head_folder)
    assert len(found.scans[0].files) == 35
    assert [entry.code for entry in found.ignored] == ["localizer"]


def test_files_without_preamble_or_extension_are_recognised(head_folder: Path) -> None:
    for path in sorted(head_folder.iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)
        (head_folder / path.stem).write_bytes(_data_set(path))
        path.unlink()
    found = find_scans(head_folder)
    assert [len(scan.files) for scan in found.scans] == [35]


def _data_set(path: Path) -> bytes:
    """The file without preamble and meta information."""
    data = path.read_bytes()
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]


@pytest.mark.parametrize("shift", [-6, 40, 2**20])
def test_meta_information_ends_where_its_group_ends_whatever_its_length_says(head_folder: Path, shift: int) -> None:
    expected = read_scan(find_scans(head_folder).scans[0]).hu
    for path in head_folder.iterdir():
        data = bytearray(path.read_bytes())
        data[140:144] = (int.from_bytes(data[140:144], "little") + shift).to_bytes(4, "little")
        path.write_bytes(data)
    np.testing.assert_array_equal(read_scan(find_scans(head_folder).scans[0]).hu, expected)


def test_compressed_pixels_of_which_nothing_says_how_are_refused(tmp_path: Path, write_series: Any) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.compress("1.2.840.10008.1.2.4.80", encoding_plugin="pyjpegls")

    for path in write_series(tmp_path / "a", edit=edit):
        path.write_bytes(_data_set(path))
    [entry] = find_scans(tmp_path / "a").rejected
    assert (entry.code, entry.files) == ("unsupported_syntax", 35) and "the file does not say how" in entry.reason


def test_one_file_is_taken_at_its_word(head_folder: Path, tmp_path: Path, write_nifti: Any) -> None:
    found = find_scans(head_folder / "000.dcm")
    assert [(entry.code, entry.files) for entry in found.rejected] == [("too_few_slices", 1)]
    (tmp_path / "notes.txt").write_text("nothing")
    assert [entry.code for entry in find_scans(tmp_path / "notes.txt").rejected] == ["not_a_scan"]
    assert [scan.kind for scan in find_scans(write_nifti(tmp_path / "a.nii.gz")).scans] == ["nifti"]


def test_other_formats_and_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_text("NRRD0004")
    (tmp_path / "b.zip").write_bytes(b"PK")
    (tmp_path / "c.dcm").write_text("this is no DICOM file, whatever its name says")
    (tmp_path / "d.dcm").touch()
    (tmp_path / "e").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    codes = {entry.path.name: entry.code for entry in find_scans(tmp_path).rejected}
    assert codes == {
        "a.nrrd": "unsupported_format",
        "b.zip": "unsupported_format",
        "c.dcm": "corrupt_header",
        "d.dcm": "empty_file",
        "e": "corrupt_header",
    }


def test_links_are_not_followed(tmp_path: Path, head_folder: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "loop").symlink_to(root)
    (root / "outside").symlink_to(head_folder)
    (root / "file.dcm").symlink_to(head_folder / "000.dcm")
    found = find_scans(root)
    assert not found.scans and {entry.code for entry in found.ignored} == {"link"}
    assert len(found.ignored) == 3
    (tmp_path / "alias").symlink_to(head_folder)
    assert len(find_scans(tmp_path / "alias").scans) == 1  # the user named this one


def test_long_lists_are_shortened(tmp_path: Path) -> None:
    for index in range(50):
        (tmp_path / f"{index}.txt").touch()
    assert [(entry.path, entry.files) for entry in find_scans(tmp_path).ignored] == [(tmp_path, 50)]


def test_a_path_that_is_not_there_and_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScanError, match="neither a file nor a folder") as caught:
        find_scans(tmp_path / "nothing")
    assert caught.value.code == "no_such_path"
    for index in range(5):
        (tmp_path / f"{index}.txt").touch()
    monkeypatch.setattr("molre_edge.scans.walk.MAX_FILES", 3)
    with pytest.raises(ScanError, match="more than 3 files") as caught:
        find_scans(tmp_path)
    assert caught.value.code == "too_many_files"


def test_fingerprints_follow_names_sizes_and_times(head_folder: Path, tmp_path: Path) -> None:
    first = find_scans(head_folder).scans[0].fingerprint()
    assert first == find_scans(head_folder).scans[0].fingerprint()
    moved = head_folder.rename(tmp_path / "elsewhere")
    assert first == find_scans(moved).scans[0].fingerprint()
    path = moved / "000.dcm"
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert first != find_scans(moved).scans[0].fingerprint()


def test_importing_the_package_imports_no_imaging_library() -> None:
    code = "import sys, molre_edge.scans; print([m for m in ('pydicom', 'SimpleITK', 'nibabel') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", ["{}.img", "{}.nii", "{}.hdr", "{}.tar", "{}.txt", "{}.nii.gz"])
def test_a_dicom_file_is_recognised_by_its_content_whatever_its_name(head_folder: Path, name: str) -> None:
    expected = read_scan(find_scans(head_folder).scans[0]).hu
    for path in sorted(head_folder.iterdir()):
        path.rename(head_folder / name.format(path.stem))
    found = find_scans(head_folder)
    assert not found.rejected and not found.ignored
    np.testing.assert_array_equal(read_scan(found.scans[0]).hu, expected)


@pytest.mark.parametrize("name", ["head", "head.gz", "head.img", "head.dcm"])
def test_a_nifti_file_is_recognised_by_its_content_whatever_its_name(
    tmp_path: Path, write_nifti: Any, name: str
) -> None:
    made = write_nifti(tmp_path / ("a.nii.gz" if name.endswith("gz") else "a.nii"))
    expected = read_scan(find_scans(made).scans[0]).hu
    made.rename(tmp_path / name)
    [scan] = find_scans(tmp_path).scans
    assert scan.kind == "nifti"
    np.testing.assert_array_equal(read_scan(scan).hu, expected)


@pytest.mark.parametrize(
    ("element", "values", "scans"),
    [
        ("StudyDate", ("20200101", "20200301"), 2),
        ("PatientSex", ("F", "M"), 2),
        ("PatientSex", ("O", "M"), 1),
        ("StudyDate", ("20200101", ""), 1),
        ("Manufacturer", ("A scanner", "A workstation"), 1),
    ],
)
def test_series_of_two_visits_with_one_study_uid_are_two_studies(
    tmp_path: Path, write_series: Any, element: str, values: tuple[str, str], scans: int
) -> None:
    for number, (name, value) in enumerate(zip("ab", values, strict=True)):
        write_series(tmp_path / name, study="1.2.3", SeriesNumber=number, **{element: value})
    found = find_scans(tmp_path)
    assert [scan.path.name for scan in found.scans] == ["a", "b"][:scans]
    assert [entry.code for entry in found.ignored] == ["series_not_chosen"] * (2 - scans)


def test_a_dicomdir_is_ignored_beside_its_images_and_named_when_it_is_given(head_folder: Path) -> None:
    dataset = pydicom.dcmread(head_folder / "000.dcm")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del dataset.PixelData
    dataset.save_as(head_folder / "DICOMDIR", enforce_file_format=True)
    found = find_scans(head_folder)
    assert [len(scan.files) for scan in found.scans] == [35]
    assert [(entry.path.name, entry.code) for entry in found.ignored] == [("DICOMDIR", "media_directory")]
    [entry] = find_scans(head_folder / "DICOMDIR").rejected
    assert entry.code == "media_directory" and "give the folder" in entry.reason


def test_a_file_that_names_neither_class_nor_modality_is_corrupt(head_folder: Path) -> None:
    for path in head_folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.SOPClassUID, dataset.Modality, dataset.file_meta.MediaStorageSOPClassUID
        dataset.save_as(path)
    [entry] = find_scans(head_folder).rejected
    assert entry.code == "corrupt_header" and "neither its SOP class nor its modality" in entry.reason


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_without_a_transfer_syntax_the_first_element_tells_how_it_is_written(
    tmp_path: Path, write_series: Any, syntax: str
) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax.endswith(".2.2"):
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
            dataset["PixelData"].VR = "OW"

    files = write_series(tmp_path, edit=edit)
    expected = read_scan(find_scans(tmp_path).scans[0]).hu
    for path in files:
        path.write_bytes(_data_set(path))
    np.testing.assert_array_equal(read_scan(find_scans(tmp_path).scans[0]).hu, expected)
