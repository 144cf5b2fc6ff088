"""Slices in the midst of a head that do not show what lies there are noticed by their pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from molre_edge.errors import ScanError
from molre_edge.scans import find_scans, read_scan


def refusal(path: Path) -> str:
    try:
        read_scan(find_scans(path).scans[0])
    except ScanError as error:
        return error.code
    return ""


def zero(plane: np.ndarray) -> np.ndarray:
    return np.zeros_like(plane)


def air(plane: np.ndarray) -> np.ndarray:
    return np.full_like(plane, -1000)


def half(plane: np.ndarray) -> np.ndarray:
    return np.concatenate([plane[:60], np.zeros_like(plane[60:])])


def noise(plane: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).integers(-1000, 1000, plane.shape)


def shifted(plane: np.ndarray) -> np.ndarray:
    return plane + 1024


@pytest.mark.parametrize(
    ("slices", "change", "code"),
    [
        (slice(12, 13), zero, "slices_damaged"),
        (slice(12, 13), air, "slices_damaged"),
        (slice(12, 13), half, "slices_damaged"),
        (slice(12, 13), noise, "slices_damaged"),
        (slice(12, 13), shifted, "slices_damaged"),
        (slice(12, 16), air, "slices_damaged"),
        (slice(12, 18), shifted, "not_hounsfield"),
        (slice(0, 17), shifted, "not_hounsfield"),
        (slice(20, 35), shifted, "not_hounsfield"),
    ],
)
def test_slices_that_show_something_else_are_refused(
    tmp_path: Path, write_series: Any, slices: slice, change: Callable[[np.ndarray], np.ndarray], code: str
) -> None:
    changed = range(35)[slices]

    def edit(dataset: Dataset, index: int) -> None:
        if index in changed:
            plane = np.frombuffer(dataset.PixelData, "<i2").reshape(128, 128).astype(int)
            dataset.PixelData = change(plane).astype("<i2").tobytes()

    write_series(tmp_path / "a", edit=edit)
    assert refusal(tmp_path / "a") == code


def test_a_head_that_moved_by_a_centimetre_for_one_slice_is_read_with_a_warning(
    tmp_path: Path, write_series: Any
) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        if index == 16:
            plane = np.frombuffer(dataset.PixelData, "<i2").reshape(128, 128)
            pixels = round(10 / float(dataset.PixelSpacing[1]))
            dataset.PixelData = np.roll(plane, pixels, axis=1).tobytes()

    write_series(tmp_path / "a", edit=edit)
    warnings = read_scan(find_scans(tmp_path).scans[0]).warnings
    assert "slice_moved" in {warning.code for warning in warnings}


@pytest.mark.parametrize("every", [False, True])
def test_a_slice_that_is_a_copy_of_the_next_is_refused(tmp_path: Path, write_series: Any, every: bool) -> None:
    kept: list[bytes] = []
    random = np.random.default_rng(0)

    def edit(dataset: Dataset, index: int) -> None:
        plane = np.frombuffer(dataset.PixelData, dtype=np.int16)
        dataset.PixelData = (plane + random.integers(-8, 9, plane.shape)).astype(np.int16).tobytes()
        if index == 13 or (every and kept):
            dataset.PixelData = kept[0]
        if index == 12:
            kept.append(dataset.PixelData)

    write_series(tmp_path / "a", edit=edit)
    assert refusal(tmp_path / "a") == "slices_damaged"


def test_a_phantom_without_noise_may_show_the_same_in_two_slices(tmp_path: Path, write_series: Any) -> None:
    kept: list[bytes] = []

    def edit(dataset: Dataset, index: int) -> None:
        if index == 13:
            dataset.PixelData = kept[0]
        if index == 12:
            kept.append(dataset.PixelData)

    write_series(tmp_path / "a", edit=edit)
    assert refusal(tmp_path / "a") == ""


def test_a_nifti_file_that_was_resampled_by_nearest_neighbours_is_read(tmp_path: Path, write_nifti: Any) -> None:
    import nibabel

    head = np.asarray(nibabel.load(write_nifti(tmp_path / "head.nii", "LPS")).dataobj)
    path = write_nifti(tmp_path / "thin.nii", step=2.5, values=head.repeat(2, axis=2)[:, :, :69])
    assert len(read_scan(find_scans(path).scans[0]).hu) == 69
