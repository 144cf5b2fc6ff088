"""The limits within which slices are one stack of axial slices, from their headers alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_frames import Frame, read_frames
from molre_edge.scans.split import split_frames
from molre_edge.scans.stack import check_steps, frame_axes, stack_frames


@pytest.fixture
def frames() -> list[Frame]:
    """30 slices of 4 x 4, 5 mm apart."""
    found: list[Frame] = []
    for index in range(30):
        dataset = Dataset()
        dataset.Rows = dataset.Columns = 4
        dataset.ImagePositionPatient = [0, 0, 5.0 * index]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness, dataset.InstanceNumber = [1, 1], 5, 1 + index
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        found += read_frames(Path(f"{index}"), dataset, 1)
    return found


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("degrees", "axial"), [(30.0, True), (41.0, True), (42.0, False), (90.0, False)])
def test_slices_are_axial_up_to_41_degrees(axis: int, degrees: float, axial: bool) -> None:
    directions = [np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])]
    angle = np.radians(degrees)
    directions[axis] = np.cos(angle) * directions[axis] + np.sin(angle) * np.array([0.0, 0.0, 1.0])
    if axial:
        assert frame_axes(*directions)[:2] == (False, (False, False))
        return
    with pytest.raises(ScanError) as caught:
        frame_axes(*directions)
    assert caught.value.code == "not_axial"


def every_second(frames: list[Frame], change: Callable[[Frame], Frame]) -> list[Frame]:
    return [change(frame) if index % 2 else frame for index, frame in enumerate(frames)]


@pytest.mark.parametrize(("factor", "volumes"), [(1.0009, 1), (1.0011, 2)])
def test_pixel_spacings_are_one_to_a_tenth_of_a_percent(frames: list[Frame], factor: float, volumes: int) -> None:
    assert len(split_frames(every_second(frames, lambda one: replace(one, pixel_mm=(factor, factor))))) == volumes


@pytest.mark.parametrize(("degrees", "volumes"), [(0.28, 1), (0.3, 2)])
def test_orientations_are_one_to_0_3_degrees(frames: list[Frame], degrees: float, volumes: int) -> None:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = (float(cosine), float(sine), 0.0, float(-sine), float(cosine), 0.0)
    assert len(split_frames(every_second(frames, lambda one: replace(one, orientation=turned)))) == volumes


@pytest.mark.parametrize(("step", "code"), [(7.4, ""), (7.6, "slices_missing")])
def test_tissue_that_no_slice_shows_is_at_most_2_5_mm(step: float, code: str) -> None:
    positions = np.concatenate([np.arange(10) * 5.0, 45.0 + step + np.arange(10) * 5.0])
    if not code:
        assert "gaps_between_slices" in [warning.code for warning in check_steps(positions, [5.0] * 20)[1]]
        return
    with pytest.raises(ScanError) as caught:
        check_steps(positions, [5.0] * 20)
    assert caught.value.code == code


@pytest.mark.parametrize(("count", "code"), [(8, ""), (7, "coverage_too_small"), (3, "too_few_slices")])
def test_four_slices_and_40_mm_are_the_least(frames: list[Frame], count: int, code: str) -> None:
    if not code:
        assert len(stack_frames(frames[:count], 4, 4).frames) == count
        return
    with pytest.raises(ScanError) as caught:
        stack_frames(frames[:count], 4, 4)
    assert caught.value.code == code
