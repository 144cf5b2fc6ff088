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
from molre_edge.scans.rectify import plan_canvas
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


def changed(frames: list[Frame], **values: object) -> list[Frame]:
    return [replace(frame, **values) for frame in frames]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "orientation", [(0.9, 0, 0, 0, 1, 0), (1, 0, 0, 0.1, 0.995, 0), (0, 0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0)]
)
def test_directions_that_are_no_perpendicular_unit_vectors_and_odd_pixels_are_refused(
    frames: list[Frame], orientation: tuple[float, ...]
) -> None:
    with pytest.raises(ScanError) as caught:
        stack_frames(changed(frames, orientation=orientation), 4, 4)
    assert caught.value.code == "no_geometry"


@pytest.mark.parametrize(("side", "refused"), [(0.049, True), (0.05, False), (10.0, False), (10.1, True)])
def test_pixels_have_0_05_to_10_mm(side: float, refused: bool) -> None:
    dataset = Dataset()
    dataset.Rows = dataset.Columns = 4
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.RescaleSlope, dataset.RescaleIntercept = [side, 1], 1, 0
    if not refused:
        assert [frame.pixel_mm for frame in read_frames(Path("a"), dataset, 1)] == [(side, 1.0)]
        return
    with pytest.raises(ScanError) as caught:
        list(read_frames(Path("a"), dataset, 1))
    assert caught.value.code == "no_geometry"


@pytest.mark.parametrize(
    ("step", "refused"), [(0.6, False), (1.2, False), (2.5, False), (3.0, True), (5.0, True), (10.0, True)]
)
def test_one_missing_slice_of_3_to_10_mm_is_refused_and_one_of_0_6_mm_is_not(step: float, refused: bool) -> None:
    count = round(100 / step)
    positions = np.array([step * index for index in range(count) if index != count // 2])
    if not refused:
        assert "gaps_between_slices" in [one.code for one in check_steps(positions, [step] * len(positions))[1]]
        return
    with pytest.raises(ScanError) as caught:
        check_steps(positions, [step] * len(positions))
    assert caught.value.code == "slices_missing"


@pytest.mark.parametrize(("reach", "refused"), [(200.0, False), (201.0, True)])
def test_slices_lie_at_most_200_mm_apart_in_their_plane(reach: float, refused: bool) -> None:
    offsets = np.linspace((0.0, 0.0), (0.0, reach), 20)
    if not refused:
        assert plan_canvas(offsets, (1.0, 1.0), 512, 512).shape == (512, 512 + 200 + 1)
        return
    with pytest.raises(ScanError) as caught:
        plan_canvas(offsets, (1.0, 1.0), 512, 512)
    assert caught.value.code == "slices_scattered"


@pytest.mark.parametrize(("located", "code"), [(False, "several_images_at_one_position"), (True, "no_geometry")])
def test_slices_that_all_lie_at_one_position_are_bolus_tracking_or_written_wrongly(
    frames: list[Frame], located: bool, code: str
) -> None:
    here = [
        replace(frame, position=(0, 0, 0), traits=replace(frame.traits, location_mm=5.0 * index if located else None))
        for index, frame in enumerate(frames)
    ]
    with pytest.raises(ScanError, match=r"ImagePositionPatient \(0020,0032\) puts 30 slices at 1 position") as caught:
        stack_frames(here, 4, 4)
    assert caught.value.code == code


@pytest.mark.parametrize(("start", "warned"), [(50.0, False), (47.0, True)])
def test_stacks_of_two_thicknesses_that_overlap_are_warned_of(start: float, warned: bool) -> None:
    """Slices of 5 mm up to 47.5 mm, then of 7 mm whose lowest begins there or below."""
    positions = np.concatenate([np.arange(10) * 5.0, start + 1.0 + np.arange(10) * 7.0])
    codes = [one.code for one in check_steps(positions, [5.0] * 10 + [7.0] * 10)[1]]
    assert ("slices_overlap" in codes) is warned and "mixed_spacing" in codes
