"""A series is split into volumes that are one patient, one scan and one reconstruction each; the best is read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from molre_edge.errors import ScanError
from molre_edge.scans import FoundScans, HeadVolume, find_scans, read_scan

Z = [float(z) for z in np.arange(-85.0, 86.0, 5.0)]
SERIES = {"SeriesInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}


def places(shift: float = 0.0, step: int = 1) -> list[tuple[float, float, float]]:
    return [(-127.0, -127.0, z + shift) for z in Z[::step]]


def other_head(shift: float = 0.0) -> np.ndarray:
    """A head that no one takes for the first: of water in bone, at the other side of the picture."""
    rows, cols = np.mgrid[:128, :128]
    planes = []
    for z in Z:
        half = 46 * np.sqrt(max(1 - (z / 88) ** 2, 0))
        radius = np.hypot(rows - 60, cols - 80)
        planes.append(np.select([radius < half - 4, radius < half], [20.0, 800.0], -1000.0))
    return np.stack(planes)


def sha(volume: HeadVolume) -> str:
    return hashlib.sha256(np.rint(volume.hu).astype("<i2").tobytes()).hexdigest()


def codes(volume: HeadVolume) -> set[str]:
    return {warning.code for warning in volume.warnings}


def only(found: FoundScans) -> HeadVolume:
    assert len(found.scans) == 1, found
    return read_scan(found.scans[0])


@pytest.fixture
def expected(tmp_path: Path, write_series: Any) -> str:
    """The voxels of the plain head."""
    write_series(tmp_path / "expected")
    return sha(only(find_scans(tmp_path / "expected")))


def two(write_series: Any, folder: Path, first: dict[str, Any], second: dict[str, Any], shift: float = 2.5) -> None:
    """Two stacks of one series UID in a folder, the second half a step higher and of another head."""
    common = {"study": "1.2.3", **SERIES}
    write_series(folder, **{**common, **first})
    write_series(folder, places(shift), **{"names": "b{:03}.dcm".format, "stack": other_head(), **common, **second})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"ConvolutionKernel": "H31s"}, {"ConvolutionKernel": "H70h"}),
        ({"KVP": 120}, {"KVP": 80, "SeriesNumber": 2}),
        ({}, {"ContrastBolusAgent": "IOHEXOL"}),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
        ({}, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}),
        ({}, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "VMI"]}),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
        ({}, {"RescaleType": "ED"}),
        ({}, {"FrameOfReferenceUID": "1.2.3.6"}),
        ({"SeriesDescription": "5 mm"}, {"SeriesDescription": "5 mm, again"}),
        ({"ProtocolName": "Head"}, {"ProtocolName": "Head helical"}),
        ({"SeriesTime": "101500"}, {"SeriesTime": "113000"}),
    ],
)
def test_interleaved_stacks_of_one_series_are_taken_apart(
    tmp_path: Path, write_series: Any, expected: str, first: Any, second: Any
) -> None:
    two(write_series, tmp_path / "a", first, second)
    found = find_scans(tmp_path / "a")
    volume = only(found)
    assert sha(volume) == expected
    chosen, other = volume.candidates
    assert (chosen.slices, chosen.files, chosen.status) == (35, 35, "chosen")
    assert (other.slices, other.status) == (35, "refused" if "RescaleType" in second else "not_chosen")
    assert chosen.name != other.name and chosen.reason and other.reason
    assert "series_split" in codes(volume)
    assert sum(entry.files for entry in found.ignored) == 35


def test_two_acquisitions_at_the_same_positions_are_taken_apart(
    tmp_path: Path, write_series: Any, expected: str
) -> None:
    two(write_series, tmp_path / "a", {"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}, shift=0.0)
    assert sha(only(find_scans(tmp_path / "a"))) == expected


def test_the_reason_for_the_choice_is_told(tmp_path: Path, write_series: Any) -> None:
    two(write_series, tmp_path, {"ConvolutionKernel": "H31s"}, {"ConvolutionKernel": "H70h"})
    [source] = find_scans(tmp_path).scans
    names = [candidate.name for candidate in source.candidates]
    assert names == ["series 2, kernel H31s", "series 2, kernel H70h"]
    assert source.candidates[0].reason == "it has a smooth kernel, not a sharp one"
    assert source.candidates[1].reason == "the chosen one has a smooth kernel, not a sharp one"


def test_every_volume_of_a_series_on_request(tmp_path: Path, write_series: Any, expected: str) -> None:
    two(write_series, tmp_path / "a", {"KVP": 120}, {"KVP": 80})
    volumes = [read_scan(scan) for scan in find_scans(tmp_path / "a", all_series=True).scans]
    assert [len(volume.hu) for volume in volumes] == [35, 35]
    assert expected in {sha(volume) for volume in volumes}


def test_sizes_and_spacings_make_two_volumes(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path, study="1.2.3", **SERIES)
    write_series(
        tmp_path, places(2.5), study="1.2.3", names="b{:03}.dcm".format, pixel=(2.2, 2.2), shape=(120, 120), **SERIES
    )
    volume = only(find_scans(tmp_path))
    assert volume.hu.shape in {(35, 128, 128), (35, 120, 120)}
    assert [candidate.slices for candidate in volume.candidates] == [35, 35]


# ------------------------------------------------------------------------------------------------- patients and visits


def no_uids(dataset: Dataset, _: int) -> None:
    del dataset.StudyInstanceUID, dataset.SeriesInstanceUID


@pytest.mark.parametrize("element", ["PatientID", "PatientName", "PatientBirthDate", "PatientSex"])
def test_patients_without_uids_in_one_folder_are_different_scans(
    tmp_path: Path, write_series: Any, expected: str, element: str
) -> None:
    values = {"PatientSex": "FMO", "PatientBirthDate": ("19500101", "19600101", "19700101")}.get(element, "ABC")
    folder = tmp_path / "a"
    for number, value in enumerate(values):
        stack = None if number == 0 else other_head() + number
        write_series(
            folder, places(number * 1.7), stack=stack, edit=no_uids, names=f"{number}-{{:03}}.dcm".format,
            **{element: value},
        )  # fmt: skip
    volumes = [read_scan(scan) for scan in find_scans(folder).scans]
    assert [len(volume.hu) for volume in volumes] == [35, 35, 35]
    assert len({sha(volume) for volume in volumes}) == 3 and expected in {sha(volume) for volume in volumes}


def constant_uids(dataset: Dataset, index: int) -> None:
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.5.{index}"


def test_constant_uids_in_two_folders_are_two_scans(tmp_path: Path, write_series: Any, expected: str) -> None:
    write_series(tmp_path / "x" / "a", edit=constant_uids)
    write_series(tmp_path / "x" / "b", places(2.5), stack=other_head(), edit=constant_uids)
    volumes = [read_scan(scan) for scan in find_scans(tmp_path / "x").scans]
    assert [len(volume.hu) for volume in volumes] == [35, 35]
    assert sha(volumes[0]) == expected and sha(volumes[1]) != expected


def test_three_scans_with_constant_uids_in_two_folders_are_never_mixed(
    tmp_path: Path, write_series: Any, expected: str
) -> None:
    write_series(tmp_path / "x" / "a", places(1.7), stack=other_head(), edit=constant_uids)
    write_series(tmp_path / "x" / "a", places(3.4), stack=-other_head(), edit=constant_uids, names="b{:03}.dcm".format)
    write_series(tmp_path / "x" / "b", edit=constant_uids)
    found = find_scans(tmp_path / "x")
    assert sha(only(found)) == expected
    assert [(entry.code, entry.files) for entry in found.rejected] == [("mixed_volumes", 70)]
    assert "InstanceNumber (0020,0013) repeats" in found.rejected[0].reason


def test_copies_of_a_series_in_another_folder_are_used_once(tmp_path: Path, write_series: Any, expected: str) -> None:
    for name in "ab":
        write_series(tmp_path / "x" / name, edit=constant_uids)
    volume = only(find_scans(tmp_path / "x"))
    assert sha(volume) == expected and codes(volume) == {"duplicate_slices"}


def test_two_scans_that_nothing_tells_apart_are_noticed_by_their_pixels(tmp_path: Path, write_series: Any) -> None:
    def anonymous(start: int) -> Any:
        def edit(dataset: Dataset, index: int) -> None:
            no_uids(dataset, index)
            del dataset.PatientID, dataset.PatientName
            dataset.InstanceNumber = start + index

        return edit

    write_series(tmp_path, edit=anonymous(1))
    write_series(tmp_path, places(2.5), stack=other_head(), edit=anonymous(100), names="b{:03}.dcm".format)
    [source] = find_scans(tmp_path).scans
    with pytest.raises(ScanError, match="2 scans lie within each other") as caught:
        read_scan(source)
    assert caught.value.code == "mixed_volumes"


def test_a_patient_id_that_differs_in_every_file_is_named(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path, edit=lambda dataset, index: setattr(dataset, "PatientID", f"P{index}"))
    [entry] = find_scans(tmp_path).rejected
    assert (entry.code, entry.files) == ("mixed_patients", 35)
    assert "PatientID (0010,0020) has 35 different values" in entry.reason


def test_another_visit_in_one_series_is_another_scan(tmp_path: Path, write_series: Any, expected: str) -> None:
    folder = tmp_path / "a"
    two(write_series, folder, {"StudyDate": "20200101"}, {"StudyDate": "20210101"})
    volumes = [read_scan(scan) for scan in find_scans(folder).scans]
    assert [len(volume.hu) for volume in volumes] == [35, 35] and expected in {sha(volume) for volume in volumes}


@pytest.mark.parametrize("element", ["FrameOfReferenceUID", "StudyDate", "AcquisitionNumber"])
def test_a_value_that_differs_in_every_slice_splits_nothing(
    tmp_path: Path, write_series: Any, expected: str, element: str
) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        value = {"FrameOfReferenceUID": generate_uid(), "StudyDate": f"2020{1 + index % 12:02}{1 + index // 12:02}"}
        setattr(dataset, element, value.get(element, index))

    write_series(tmp_path / "a", edit=edit)
    volume = only(find_scans(tmp_path / "a"))
    assert sha(volume) == expected
    assert codes(volume) == (set() if element == "AcquisitionNumber" else {"header_differs"})


# ------------------------------------------------------------------------------------------------------- side by side


@pytest.mark.parametrize(
    ("element", "low", "high", "warnings"),
    [
        ("AcquisitionNumber", 1, 2, set()),
        ("KVP", 140, 120, {"mixed_energies"}),
        ("ConvolutionKernel", "H31s", "H40s", {"mixed_kernels"}),
        ("SliceThickness", 5.0, 5.5, set()),
    ],
)
def test_stacks_side_by_side_stay_one_volume(
    tmp_path: Path, write_series: Any, expected: str, element: str, low: Any, high: Any, warnings: set[str]
) -> None:
    write_series(tmp_path / "a", edit=lambda dataset, index: setattr(dataset, element, low if index < 14 else high))
    volume = only(find_scans(tmp_path / "a"))
    assert sha(volume) == expected and codes(volume) == warnings


def test_a_sharp_and_a_smooth_kernel_side_by_side_are_two_volumes(tmp_path: Path, write_series: Any) -> None:
    write_series(
        tmp_path, edit=lambda dataset, index: setattr(dataset, "ConvolutionKernel", "H70h" if index < 15 else "H31s")
    )
    volume = only(find_scans(tmp_path))
    assert len(volume.hu) == 20
    assert volume.facts["kernel"] == "H31s"


def test_volumes_with_gaps_are_not_made_whole_by_another_energy(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path, edit=lambda dataset, index: setattr(dataset, "KVP", 140 if index % 2 else 120))
    [entry] = find_scans(tmp_path).rejected
    assert entry.code == "slices_missing" and "KVP (0018,0060)" in entry.reason


# ---------------------------------------------------------------------------------------------------------- odd slices


def add_slice(folder: Path, **changes: Any) -> None:
    dataset = pydicom.dcmread(folder / "017.dcm")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.save_as(folder / "zz.dcm", enforce_file_format=True)


@pytest.mark.parametrize(
    ("changes", "code", "element"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "set_aside", "ImageOrientationPatient (0020,0037)"),
        ({"PixelSpacing": [1.0, 1.0]}, "set_aside", "PixelSpacing (0028,0030)"),
        ({"ConvolutionKernel": "H70h"}, "set_aside", "ConvolutionKernel (0018,1210)"),
        ({"ImagePositionPatient": None}, "no_geometry", "no_geometry"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer", "1 localizer"),
    ],
)
def test_one_odd_slice_is_set_aside_and_reported(
    head_folder: Path, expected: str, changes: dict[str, Any], code: str, element: str
) -> None:
    add_slice(head_folder, **changes)
    found = find_scans(head_folder)
    volume = only(found)
    assert sha(volume) == expected
    [warning] = volume.warnings
    assert warning.code == "slices_set_aside" and element in warning.text
    assert [(entry.path.name, entry.code) for entry in found.ignored] == [("zz.dcm", code)]


def test_a_slice_of_another_patient_is_set_aside_and_refused(head_folder: Path, expected: str) -> None:
    add_slice(head_folder, PatientID="another")
    found = find_scans(head_folder)
    volume = only(found)
    assert sha(volume) == expected and codes(volume) == {"slices_set_aside"}
    assert [(entry.path.name, entry.code) for entry in found.rejected] == [("zz.dcm", "mixed_patients")]


def test_an_odd_slice_from_the_middle_leaves_a_gap_that_is_refused(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path, edit=lambda dataset, index: index == 17 and setattr(dataset, "PixelSpacing", [1.0, 1.0]))
    [entry] = find_scans(tmp_path).rejected
    assert entry.code == "mixed_pixel_spacing" and "a slice is missing" in entry.reason


# --------------------------------------------------------------------------------------------------------- multi-frame


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"ConvolutionKernel": "H31s"}, {"ConvolutionKernel": "H70h"}),
        ({"KVP": 120}, {"KVP": 80}),
        ({}, {"ContrastBolusAgent": "X"}),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
        ({}, {"ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "VMI"]}),
        ({}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]}),
        ({}, {"ImageType": ["DERIVED", "PRIMARY", "VOLUME", "MAT_SPECIFIC"]}),
    ],
)
def test_frames_of_one_file_with_mixed_functional_groups_are_taken_apart(
    tmp_path: Path, write_series: Any, write_enhanced: Any, expected: str, first: Any, second: Any
) -> None:
    plain = write_series(tmp_path / "1", **first)
    other = write_series(tmp_path / "2", places(2.5), stack=other_head(), **second)
    (tmp_path / "b").mkdir()
    write_enhanced(tmp_path / "b" / "both.dcm", [path for pair in zip(other, plain, strict=True) for path in pair])
    found = find_scans(tmp_path / "b")
    volume = only(found)
    assert sha(volume) == expected
    assert [source.frame for source in volume.sources] == list(range(2, 71, 2))
    assert sum(entry.files for entry in found.ignored) == 0  # the file counts with the scan
    assert [candidate.slices for candidate in volume.candidates] == [35, 35]
