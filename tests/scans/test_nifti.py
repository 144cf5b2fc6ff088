"""A NIfTI file becomes the same volume as the DICOM series it came from, or is refused with a reason."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans import find_scans, read_scan, to_grid
from molre_edge.specs import Grid

GRID = Grid(slices=16, rows=96, cols=96)


def refusal(path: Path) -> str:
    found = find_scans(path)
    if found.rejected:
        return found.rejected[0].code
    with pytest.raises(ScanError) as caught:
        read_scan(found.scans[0])
    return caught.value.code


@pytest.mark.parametrize("directions", ["RAS", "LAS", "LPS", "RPI", "SAR", "ALS", "PIR"])
def test_every_axis_order_gives_what_dicom_gives(
    tmp_path: Path, write_nifti: Any, head_folder: Path, directions: str
) -> None:
    path = write_nifti(tmp_path / "head.nii.gz", directions)
    volume = read_scan(find_scans(path).scans[0])
    plain = read_scan(find_scans(head_folder).scans[0])
    np.testing.assert_array_equal(volume.hu, plain.hu)
    np.testing.assert_array_equal(to_grid(volume, GRID), to_grid(plain, GRID))


def test_a_scaled_file_is_rescaled(tmp_path: Path, write_nifti: Any) -> None:
    path = write_nifti(tmp_path / "head.nii")
    image = nibabel.load(path)
    scaled = nibabel.Nifti1Image(np.asarray(image.dataobj).astype(np.int16), image.affine)
    scaled.header.set_slope_inter(0.5, -1000.0)
    raw = nibabel.Nifti1Image(((np.asarray(image.dataobj) + 1000) * 2).astype(np.int16), image.affine, scaled.header)
    raw.header.set_slope_inter(0.5, -1000.0)
    raw.to_filename(tmp_path / "scaled.nii")
    volume = read_scan(find_scans(tmp_path / "scaled.nii").scans[0])
    np.testing.assert_allclose(volume.hu, read_scan(find_scans(path).scans[0]).hu)


def test_an_affine_without_code_does_not_tell_left_from_right(tmp_path: Path, write_nifti: Any) -> None:
    path = write_nifti(tmp_path / "head.nii")
    image = nibabel.load(path)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    image.to_filename(tmp_path / "unknown.nii")
    assert refusal(tmp_path / "unknown.nii") == "orientation_unknown"


def test_sform_and_qform_must_agree_about_left_and_right(tmp_path: Path, write_nifti: Any) -> None:
    image = nibabel.load(write_nifti(tmp_path / "head.nii"))
    image.set_qform(image.affine @ np.diag([-1, 1, 1, 1]), 1)
    image.to_filename(tmp_path / "both.nii")
    assert refusal(tmp_path / "both.nii") == "orientation_unknown"


def test_what_is_not_hounsfield_is_refused(tmp_path: Path, write_nifti: Any) -> None:
    head = np.asarray(nibabel.load(write_nifti(tmp_path / "head.nii", "LPS")).dataobj).astype(np.int16)
    write_nifti(tmp_path / "shifted.nii", values=head + 1024)
    assert refusal(tmp_path / "shifted.nii") == "not_hounsfield"
    write_nifti(tmp_path / "bytes.nii", values=np.clip((head + 1000) / 8, 0, 255))
    assert refusal(tmp_path / "bytes.nii") == "not_hounsfield"


@pytest.mark.parametrize("outside", [0, -1000])
def test_a_brain_without_skull_is_recognised(tmp_path: Path, write_nifti: Any, outside: int) -> None:
    head = np.asarray(nibabel.load(write_nifti(tmp_path / "head.nii", "LPS")).dataobj).astype(np.int16)
    brain = np.where((head == 35) | (head == 75), head, outside)
    write_nifti(tmp_path / "brain.nii", values=brain)
    assert refusal(tmp_path / "brain.nii") == "skull_stripped"


def test_an_empty_skull_and_a_ball_of_water_are_no_heads(tmp_path: Path, write_nifti: Any) -> None:
    head = np.asarray(nibabel.load(write_nifti(tmp_path / "head.nii", "LPS")).dataobj).astype(np.int16)
    write_nifti(tmp_path / "skull.nii", values=np.where((head == 35) | (head == 75), -1000, head))
    assert refusal(tmp_path / "skull.nii") == "no_brain_tissue"
    write_nifti(tmp_path / "water.nii", values=np.where(head > -1000, 0, -1000))
    assert refusal(tmp_path / "water.nii") in ("no_brain_tissue", "skull_stripped")


def test_times_colours_and_odd_units_are_refused(tmp_path: Path) -> None:
    affine = np.diag([-2.0, -2.0, 5.0, 1.0])
    nibabel.Nifti1Image(np.zeros((8, 8, 8, 3), np.int16), affine).to_filename(tmp_path / "4d.nii")
    assert refusal(tmp_path / "4d.nii") == "not_3d"
    rgb = np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.Nifti1Image(rgb, affine).to_filename(tmp_path / "rgb.nii")
    assert refusal(tmp_path / "rgb.nii") == "colour"
    nibabel.Nifti1Image(np.zeros((8, 8, 2), np.int16), affine).to_filename(tmp_path / "flat.nii")
    assert refusal(tmp_path / "flat.nii") == "too_few_slices"


def test_values_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    values = np.full((32, 32, 20), -1000.0, np.float32)
    values[3, 3, 3] = np.nan
    nibabel.Nifti1Image(values, np.diag([-2.0, -2.0, 5.0, 1.0])).to_filename(tmp_path / "nan.nii")
    assert refusal(tmp_path / "nan.nii") == "not_hounsfield"


def test_a_header_that_lies_about_its_size_costs_nothing(tmp_path: Path, write_nifti: Any) -> None:
    data = bytearray(write_nifti(tmp_path / "head.nii").read_bytes())
    data[42:48] = (32000).to_bytes(2, "little") * 3
    (tmp_path / "huge.nii").write_bytes(data)
    assert refusal(tmp_path / "huge.nii") == "too_large"
    data[42:48] = (1000).to_bytes(2, "little") + (1000).to_bytes(2, "little") + (200).to_bytes(2, "little")
    with gzip.open(tmp_path / "short.nii.gz", "wb") as file:
        file.write(data)
    assert refusal(tmp_path / "short.nii.gz") == "corrupt_pixels"


def test_a_broken_stream_is_refused(tmp_path: Path, write_nifti: Any) -> None:
    data = write_nifti(tmp_path / "head.nii.gz").read_bytes()
    (tmp_path / "half.nii.gz").write_bytes(data[: len(data) // 2])
    assert refusal(tmp_path / "half.nii.gz") == "corrupt_pixels"
    (tmp_path / "bad.nii.gz").write_bytes(data[:-8] + bytes(8))  # a wrong checksum
    assert refusal(tmp_path / "bad.nii.gz") == "corrupt_pixels"
    (tmp_path / "text.nii").write_text("hello")
    assert refusal(tmp_path / "text.nii") == "corrupt_header"
    (tmp_path / "empty.nii").touch()
    assert refusal(tmp_path / "empty.nii") == "empty_file"
