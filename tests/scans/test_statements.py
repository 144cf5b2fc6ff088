"""Positions against Slice Location and Spacing Between Slices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_frames import Frame, read_frames
from molre_edge.scans.statements import check_statements

STEP = 5.0


def frames(
    location: Callable[[int], float | None], spacing: float | None = None, sides: list[str] | None = None
) -> list[Frame]:
    found = []
    for index in range(30):
        dataset = Dataset()
        dataset.Rows = dataset.Columns = 4
        dataset.ImagePositionPatient = [0, 0, STEP * index]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness, dataset.InstanceNumber = [1, 1], 5, 30 - index
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.SliceLocation, dataset.SpacingBetweenSlices = location(index), spacing
        dataset.PatientOrientation = sides
        found += read_frames(Path(f"{index}"), dataset, 1)
    return found


def check(location: Callable[[int], float | None], spacing: float | None = None) -> list[str]:
    found = frames(location, spacing)
    return [warning.code for warning in check_statements(found, np.array([frame.position[2] for frame in found]))]


@pytest.mark.parametrize(
    ("location", "spacing"),
    [
        (lambda index: None, None),
        (lambda index: STEP * index, None),
        (lambda index: 700 - STEP * index, STEP),
        (lambda index: 12.5, None),  # a constant states nothing
        (lambda index: 30 - index, None),  # nor does the number of the slice
        (lambda index: None, STEP),
        (lambda index: None, 0.0),
        (lambda index: None, -STEP),
        (lambda index: STEP * index / np.cos(np.radians(10)), None),
    ],
)
def test_statements_that_agree(location: Callable[[int], float | None], spacing: float | None) -> None:
    assert check(location, spacing) == []


@pytest.mark.parametrize(
    ("location", "spacing"),
    [
        (lambda index: 6.667 * index, None),
        (lambda index: 3.75 * index, None),
        (lambda index: STEP * ((index * 7) % 30), None),  # another order
        (lambda index: None, 6.67),
        (lambda index: None, 2.5),
        (lambda index: 6.667 * index, 6.67),
    ],
)
def test_statements_that_contradict_the_positions_are_refused_and_quoted(
    location: Callable[[int], float | None], spacing: float | None
) -> None:
    with pytest.raises(ScanError) as caught:
        check(location, spacing)
    assert caught.value.code == "no_geometry"
    assert "5.00 mm" in str(caught.value) and ("SliceLocation" in str(caught.value) or "says" in str(caught.value))


@pytest.mark.parametrize(
    ("sides", "code"),
    [
        (["L", "P"], ""),
        (["LP", "PF"], ""),
        (["L", "F"], ""),  # of another axis: left over from before the image was reformatted
        (None, ""),
        (["R", "P"], "orientation_unknown"),
        (["L", "A"], "orientation_unknown"),
    ],
)
def test_the_sides_that_a_header_names_are_those_of_its_orientation(sides: list[str] | None, code: str) -> None:
    found = frames(lambda index: None, sides=sides)
    places = np.array([frame.position[2] for frame in found])
    if not code:
        assert check_statements(found, places) == ()
        return
    with pytest.raises(ScanError, match=r"says that (rows|columns) run to .*one of them is wrong") as caught:
        check_statements(found, places)
    assert caught.value.code == code


def test_two_statements_outvote_the_third() -> None:
    assert check(lambda index: STEP * index, 6.67) == ["positions_disagree"]
    assert check(lambda index: 6.667 * index, STEP) == ["positions_disagree"]
