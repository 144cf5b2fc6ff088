"""Every element that docs/concepts/scans.md says must be one within a volume keeps volumes apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword

from molre_edge.scans import FoundScans, find_scans, read_scan

PAGE = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "scans.md"

SCANS: dict[str, tuple[Any, Any]] = {
    "PatientID": ("1", "2"),
    "PatientName": ("A", "B"),
    "PatientBirthDate": ("19500101", "19500102"),
    "PatientSex": ("F", "M"),
    "PatientAge": ("070Y", "071Y"),
    "StudyInstanceUID": ("1.2.3.1", "1.2.3.2"),
    "StudyDate": ("20200101", "20200102"),
    "StudyID": ("1", "2"),
    "AccessionNumber": ("1", "2"),
    "Manufacturer": ("ONE", "TWO"),
    "ManufacturerModelName": ("one", "two"),
}
"""Element -> two values of two scans."""

VOLUMES: dict[str, tuple[Any, Any]] = {
    "SeriesInstanceUID": ("1.2.3.1", "1.2.3.2"),
    "SeriesDescription": ("5 mm", "5 mm, again"),
    "ProtocolName": ("Head", "Head helical"),
    "SeriesDate": ("20200101", "20200102"),
    "SeriesTime": ("101500", "113000"),
    "PixelSpacing": ([4.0, 4.0], [4.006, 4.006]),
    "ImageOrientationPatient": ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0.99998, 0.0063]),
    "FrameOfReferenceUID": ("1.2.3.1", "1.2.3.2"),
    "KVP": (120, 80),
    "MonoenergeticEnergyEquivalent": (60.0, 70.0),
    "ConvolutionKernel": ("H31s", "H40s"),
    "TemporalPositionIdentifier": (1, 2),
    "AcquisitionNumber": (1, 2),
}
"""Element -> two values of two volumes of a study."""

FRAMES: dict[str, tuple[str, Any, Any]] = {
    "ConvolutionKernelGroup": ("CTReconstructionSequence", "BRAIN", "SOFT_TISSUE"),
    "TemporalPositionIndex": ("FrameContentSequence", 1, 2),
    "StackID": ("FrameContentSequence", "1", "2"),
    "FrameAcquisitionNumber": ("FrameContentSequence", 1, 2),
}
"""Element of enhanced multi-frame files -> its functional group, and two values of two volumes."""

ELSEWHERE = {"RescaleType", "Rows", "Columns"}
"""Hounsfield units are one unit, whatever their name: test_split.py has another unit, and other sizes."""


def test_every_element_of_the_page_is_tried() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## One volume, one thing")[1].split("\n- ")[0]
    cells = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")]
    words = {word for cell in cells for word in re.findall(r"[A-Z][A-Za-z]+", cell)}
    named = {word for word in words if tag_for_keyword(word) is not None}
    assert named - {*SCANS, *VOLUMES, *FRAMES} - ELSEWHERE == set()
    assert {*SCANS, *VOLUMES, *FRAMES} - named == set()


def two_stacks(write_series: Any, folder: Path, element: str, values: tuple[Any, Any]) -> list[Path]:
    """The second 4 mm higher; they differ in one element.

    At half a step two slices would lie as far below the head's middle as above it, and show the same pixels.
    """
    common = {
        "study": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "pixel": (4.0, 4.0),
        "shape": (64, 64),
        "thickness": 10.0,
    }
    files = []
    for place, value in enumerate(values):
        positions = [(-126.0, -126.0, z + 4.0 * place) for z in np.arange(-80.0, 81.0, 10.0)]
        files += write_series(folder, positions, names=f"{place}-{{:03}}.dcm".format, **{**common, element: value})
    return files


def steps(found: FoundScans) -> list[tuple[int, float, float]]:
    """Slices of each volume, and the least and the largest step between them."""
    volumes = [np.diff(read_scan(scan).positions_mm) for scan in found.scans]
    return [(len(each) + 1, round(each.min(), 2), round(each.max(), 2)) for each in volumes]


@pytest.mark.parametrize("element", SCANS)
def test_two_values_are_two_scans(tmp_path: Path, write_series: Any, element: str) -> None:
    two_stacks(write_series, tmp_path, element, SCANS[element])
    assert steps(find_scans(tmp_path)) == [(17, 10.0, 10.0)] * 2


@pytest.mark.parametrize("element", VOLUMES)
def test_two_values_are_two_volumes(tmp_path: Path, write_series: Any, element: str) -> None:
    two_stacks(write_series, tmp_path, element, VOLUMES[element])
    assert len(find_scans(tmp_path).scans) == 1
    assert steps(find_scans(tmp_path, all_series=True)) == [(17, 10.0, 10.0)] * 2


@pytest.mark.parametrize("element", FRAMES)
def test_two_values_of_frames_are_two_volumes(
    tmp_path: Path, write_series: Any, write_enhanced: Any, element: str
) -> None:
    group, *values = FRAMES[element]
    slices = two_stacks(write_series, tmp_path / "slices", "AcquisitionNumber", (1, 1))
    path = write_enhanced(tmp_path / "frames.dcm", slices)
    dataset = pydicom.dcmread(path)
    for place, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        setattr(frame[group][0], element, values[place // 17])
    dataset.save_as(path, enforce_file_format=True)
    assert steps(find_scans(path, all_series=True)) == [(17, 10.0, 10.0)] * 2


def energy_of(kilo_electron_volts: float) -> pydicom.Sequence:
    """Multi-energy CT Processing, with the energy where PS3.3 C.8.15.3.12 has it."""
    inner, outer = pydicom.Dataset(), pydicom.Dataset()
    inner.MonoenergeticEnergyEquivalent = kilo_electron_volts
    outer.MultienergyCTCharacteristicsSequence = pydicom.Sequence([inner])
    return pydicom.Sequence([outer])


@pytest.mark.parametrize("enhanced", [False, True])
def test_two_virtual_energies_are_two_volumes_and_no_standard_ct(
    tmp_path: Path, write_series: Any, write_enhanced: Any, enhanced: bool
) -> None:
    element = "MultienergyCTProcessingSequence"
    path = tmp_path / "slices"
    slices = two_stacks(write_series, path, element, (energy_of(60.0), energy_of(70.0)))
    if enhanced:
        path = write_enhanced(tmp_path / "frames.dcm", slices)
        dataset = pydicom.dcmread(path)
        del dataset[element]
        for place, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            setattr(frame, element, energy_of(60.0 + 10.0 * (place // 17)))
        dataset.save_as(path, enforce_file_format=True)
    found = find_scans(path, all_series=True)
    assert steps(found) == [(17, 10.0, 10.0)] * 2
    volume = read_scan(found.scans[0])
    assert volume.facts["energy"] == "60 keV"
    assert "multi_energy" in [warning.code for warning in volume.warnings]


def test_what_a_legacy_converted_file_keeps_unassigned_counts(
    tmp_path: Path, write_series: Any, write_enhanced: Any
) -> None:
    """PS3.3 C.7.6.16.2.25 and C.7.6.16.2.26: attributes without a functional group of their own."""
    slices = two_stacks(write_series, tmp_path / "slices", "AcquisitionNumber", (1, 1))
    path = write_enhanced(tmp_path / "frames.dcm", slices)
    dataset = pydicom.dcmread(path)
    for place, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        unassigned = pydicom.Dataset()
        unassigned.ConvolutionKernel = "H31s" if place < 17 else "H70h"
        del frame.CTReconstructionSequence
        frame.UnassignedPerFrameConvertedAttributesSequence = pydicom.Sequence([unassigned])
    dataset.save_as(path, enforce_file_format=True)
    found = find_scans(path, all_series=True)
    assert steps(found) == [(17, 10.0, 10.0)] * 2
    assert [read_scan(scan).facts["kernel"] for scan in found.scans] == ["H31s", "H70h"]
