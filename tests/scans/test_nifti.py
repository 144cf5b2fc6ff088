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


def test_values_cut_off_by_a_window_are_no_stripped_skull(tmp_path: Path, write_nifti: Any) -> None:
    head = np.asarray(nibabel.load(write_nifti(tmp_path / "head.nii", "LPS")).dataobj).astype(np.int16)
    write_nifti(tmp_path / "window.nii", values=np.clip(head, 0, 80))
    with pytest.raises(ScanError, match="cut off for display") as caught:
        read_scan(find_scans(tmp_path / "window.nii").scans[0])
    assert caught.value.code == "not_hounsfield"


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


def changed(path: Path, out: Path, **fields: Any) -> Path:
    """A copy of a plain NIfTI-1 file with other header fields; its voxels stay at byte 352."""
    data = path.read_bytes()
    header = nibabel.Nifti1Header(data[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    out.write_bytes(header.binaryblock + data[348:])
    return out


def quaternion(degrees: float, axis: int) -> dict[str, float]:
    """The qform of voxels that run to L, P and S (half a turn about z), turned further about an axis."""
    half = np.radians(degrees / 2)
    turn = np.zeros(4)
    turn[0], turn[1 + axis] = np.cos(half), np.sin(half)
    a, b, c, d = turn  # times k, the half turn
    result = np.array([-d, c, -b, a])
    result *= np.sign(result[0]) or 1.0
    return dict(zip(("quatern_b", "quatern_c", "quatern_d"), result[1:], strict=True))


@pytest.mark.parametrize(
    ("degrees", "axis", "code"),
    [(0.5, 2, None), (90, 2, "orientation_unknown"), (180, 2, "orientation_unknown"), (20, 0, "orientation_unknown"),
     (90, 1, "orientation_unknown"), (3, 2, "orientation_unknown")],
)  # fmt: skip
def test_sform_and_qform_must_have_the_same_axes(
    tmp_path: Path, write_nifti: Any, degrees: float, axis: int, code: str | None
) -> None:
    path = write_nifti(tmp_path / "head.nii", "LPS")
    expected = read_scan(find_scans(path).scans[0]).hu
    other = changed(path, tmp_path / "other.nii", **quaternion(degrees, axis))
    if code is None:
        np.testing.assert_array_equal(read_scan(find_scans(other).scans[0]).hu, expected)
        return
    [entry] = find_scans(other).rejected
    assert entry.code == code
    assert "the sform says" in entry.reason and "the qform says" in entry.reason
    for field in ("qform_code", "sform_code"):  # with one of them there is nothing to disagree with
        alone = changed(other, tmp_path / "alone.nii", **{field: 0})
        if field == "qform_code":
            np.testing.assert_array_equal(read_scan(find_scans(alone).scans[0]).hu, expected)


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("factor", [0.8, 1.25, 1.01, 1.002, 0.0])
def test_voxel_sizes_are_stated_once_or_equally(tmp_path: Path, write_nifti: Any, axis: int, factor: float) -> None:
    path = write_nifti(tmp_path / "head.nii")
    sizes = nibabel.load(path).header["pixdim"].copy()
    sizes[axis] *= factor
    other = changed(path, tmp_path / "other.nii", pixdim=sizes, qform_code=0)
    found = find_scans(other)
    if factor in (1.002, 0.0):
        assert read_scan(found.scans[0]).pixel_mm == (2.0, 2.0)
        return
    [entry] = found.rejected
    assert entry.code == "no_geometry"
    assert f"{sizes[axis]:.4g}" in entry.reason and "2 x 2 x 5 mm" in entry.reason


@pytest.mark.parametrize(
    ("factor", "code"), [(0.0, None), (1.0, None), (-1.0, "orientation_unknown"), (3.0, "orientation_unknown")]
)
def test_pixdim_0_of_zero_means_one(tmp_path: Path, write_nifti: Any, factor: float, code: str | None) -> None:
    path = write_nifti(tmp_path / "head.nii", "LPS")
    sizes = nibabel.load(path).header["pixdim"].copy()
    sizes[0] = factor
    for sform in (0, 1):
        other = changed(path, tmp_path / "other.nii", pixdim=sizes, sform_code=sform)
        if code is None:
            volume = read_scan(find_scans(other).scans[0])
            np.testing.assert_allclose(volume.hu, read_scan(find_scans(path).scans[0]).hu)
        elif sform or factor == 3.0:
            assert refusal(other) == code


def test_a_sheared_sform_agrees_with_the_qform_that_is_made_from_it(tmp_path: Path, write_nifti: Any) -> None:
    image = nibabel.load(write_nifti(tmp_path / "head.nii", "LPS"))
    affine = image.affine.copy()
    affine[1, 2] = 5.0 * np.tan(np.radians(18))  # a tilted gantry
    tilted = nibabel.Nifti1Image(np.asarray(image.dataobj), affine)
    tilted.set_sform(affine, 1)
    tilted.set_qform(affine, 1)
    tilted.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    tilted.to_filename(tmp_path / "tilted.nii")
    assert read_scan(find_scans(tmp_path / "tilted.nii").scans[0]).facts["tilt_corrected"]


@pytest.mark.parametrize("offset", [0, 100, 348, 352])
@pytest.mark.parametrize("packed", [False, True])
def test_voxels_never_start_within_the_header(tmp_path: Path, write_nifti: Any, offset: int, packed: bool) -> None:
    path = write_nifti(tmp_path / "head.nii")
    expected = read_scan(find_scans(path).scans[0]).hu
    other = changed(path, tmp_path / "other.nii", vox_offset=offset)
    if packed:
        other.write_bytes(gzip.compress(other.read_bytes()))
    np.testing.assert_array_equal(read_scan(find_scans(other).scans[0]).hu, expected)


def test_voxels_never_start_within_an_extension(tmp_path: Path, write_nifti: Any) -> None:
    image = nibabel.load(write_nifti(tmp_path / "head.nii"))
    expected = read_scan(find_scans(tmp_path / "head.nii").scans[0]).hu
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 1000))
    image.to_filename(tmp_path / "longer.nii")
    np.testing.assert_array_equal(read_scan(find_scans(tmp_path / "longer.nii").scans[0]).hu, expected)
    for offset in (0, 352, 800):
        assert refusal(changed(tmp_path / "longer.nii", tmp_path / "other.nii", vox_offset=offset)) == "corrupt_header"
    for wrong in (np.nan, -16.0, 352.5, 1e9):
        other = changed(tmp_path / "head.nii", tmp_path / "other.nii", vox_offset=wrong)
        assert refusal(other) == "corrupt_header"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(("extra", "code"), [(1000, ""), (128 * 128 * 2, "corrupt_header")])
def test_a_file_with_more_voxels_than_its_header_says_is_refused(
    tmp_path: Path, write_nifti: Any, name: str, extra: int, code: str
) -> None:
    path = write_nifti(tmp_path / "plain.nii")
    data = path.read_bytes() + bytes(extra)
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    [source] = find_scans(path).scans
    if not code:
        assert len(read_scan(source).hu) == 35
        return
    with pytest.raises(ScanError, match="more voxels than the 128 x 128 x 35 of 2 bytes") as caught:
        read_scan(source)
    assert caught.value.code == code


def test_the_checksum_behind_the_voxels_is_verified(tmp_path: Path, write_nifti: Any) -> None:
    path = write_nifti(tmp_path / "a.nii.gz")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ScanError) as caught:
        read_scan(find_scans(path).scans[0])
    assert caught.value.code == "corrupt_pixels"
