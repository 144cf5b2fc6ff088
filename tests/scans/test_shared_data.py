"""Real scans behave as their description says. Skipped where the data are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans import HeadVolume, find_scans, read_scan, to_grid
from molre_edge.scans.dicom_header import read_image_header
from molre_edge.scans.dicom_open import open_dicom
from molre_edge.scans.dicom_pixels import decode_frames
from molre_edge.scans.hounsfield import to_hounsfield
from molre_edge.specs import Grid

GE = "dicom_head/ge_hispeed_dual_tilt_mixed_spacing"
TOSHIBA = "dicom_head/toshiba_xpress_gx_one_slice_7_syntaxes"


def read(path: Path) -> HeadVolume:
    found = find_scans(path)
    assert len(found.scans) == 1 and not found.rejected
    return read_scan(found.scans[0])


def refusals(path: Path) -> set[str]:
    """All codes with which the things under a path are refused, in finding or in reading."""
    found = find_scans(path)
    codes = {entry.code for entry in found.rejected}
    for scan in found.scans:
        with pytest.raises(ScanError) as caught:
            read_scan(scan)
        codes.add(caught.value.code)
    return codes


def one_slice(path: Path) -> np.ndarray:
    header = read_image_header(path)
    ((stored, _),) = decode_frames(open_dicom(path, pixels=True), header)
    return to_hounsfield(stored, header.frames[0], header.padding)


@pytest.fixture(scope="module")
def upper_ge(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> HeadVolume:
    """Slices 15 to 28 of the GE series alone."""
    folder = tmp_path_factory.mktemp("ge15to28")
    for number in range(15, 29):
        shutil.copy(data_dir / GE / f"{number}.dcm", folder)
    return read(folder)


@pytest.mark.parametrize(
    "other",
    ["derived_ge_head_7_syntaxes_in_one_series", "derived_ge_head_enhanced_multiframe_14_frames"],
)
def test_seven_syntaxes_and_multi_frame_are_equal_to_the_original(
    data_dir: Path, upper_ge: HeadVolume, other: str
) -> None:
    volume = read(data_dir / "dicom_head" / other)
    np.testing.assert_array_equal(volume.hu, upper_ge.hu)
    np.testing.assert_array_equal(volume.positions_mm, upper_ge.positions_mm)
    np.testing.assert_array_equal(volume.thickness_mm, upper_ge.thickness_mm)
    assert volume.pixel_mm == upper_ge.pixel_mm


def test_big_endian_is_equal_to_little_endian(data_dir: Path) -> None:
    swapped = one_slice(data_dir / "dicom_head/derived_ge_head_big_endian_slice/18_big_endian.dcm")
    np.testing.assert_array_equal(swapped, one_slice(data_dir / GE / "18.dcm"))


def test_five_lossless_files_decode_to_the_same_slice(data_dir: Path) -> None:
    names = ("UNC", "RLE", "JPLL", "JLSL", "J2KR")
    first, *others = (one_slice(data_dir / TOSHIBA / f"CT2_{name}") for name in names)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_near_lossless_is_told_by_its_largest_error_and_lossy_is_refused(data_dir: Path) -> None:
    path = data_dir / TOSHIBA / "CT2_JLSN"
    ((_, error),) = decode_frames(open_dicom(path, pixels=True), read_image_header(path))
    assert error == 4
    assert refusals(data_dir / TOSHIBA / "CT2_J2KI") == {"lossy"}
    assert refusals(data_dir / TOSHIBA) == {"lossy", "too_few_slices"}


def test_the_tilted_series_with_two_stacks(data_dir: Path) -> None:
    volume = read(data_dir / GE)
    assert volume.facts["tilt_degrees"] == pytest.approx(18.5, abs=0.01)
    assert {warning.code for warning in volume.warnings} == {"mixed_spacing", "slices_overlap"}
    steps = np.diff(volume.positions_mm)
    np.testing.assert_allclose(steps[:13], 4.002, atol=0.001)
    assert steps[13] == pytest.approx(1.081, abs=0.001)
    np.testing.assert_allclose(steps[14:], 6.999, atol=0.001)
    assert volume.hu.min() == -1024
    result = to_grid(volume, Grid(slices=16, rows=224, cols=224)).astype(float)
    assert result.min() >= -1024 and result.max() <= 3071
    assert 15 < np.median(result[8, 90:130, 90:130]) < 45
    # the dark area lies in the left temporo-occipital region: right half of the picture, behind
    right, left = result[6:8, 110:150, 70:100], result[6:8, 110:150, 124:154]
    assert np.median(left) < np.median(right) - 2


@pytest.mark.parametrize("number", [5, 20])
def test_a_slice_left_out_is_noticed(data_dir: Path, tmp_path: Path, number: int) -> None:
    shutil.copytree(data_dir / GE, tmp_path / "ge")
    (tmp_path / "ge" / f"{number:02}.dcm").unlink()
    assert refusals(tmp_path / "ge") == {"slices_missing"}


@pytest.mark.parametrize(
    "path",
    ["nifti_head/invesalius_cranium/derived_cranium_hu.nii.gz", "nifti_head/scct_template/derived_scct_hu.nii.gz"],
)
def test_whole_heads_in_nifti_are_accepted(data_dir: Path, path: str) -> None:
    volume = read(data_dir / path)
    assert volume.warnings == ()
    grid = to_grid(volume, Grid(slices=16, rows=224, cols=224)).astype(float)
    bone = (grid > 300).any(axis=(1, 2))
    assert bone[1:-1].all()
    rows, cols = (np.flatnonzero((grid[8] > -300).any(axis=axis)) for axis in (1, 0))
    assert abs((cols[0] + cols[-1]) / 2 - 111.5) < 20 and abs((rows[0] + rows[-1]) / 2 - 111.5) < 25


def test_a_folder_from_an_archive(data_dir: Path) -> None:
    found = find_scans(data_dir / "dicom_head/philips_ingenuity_head_phantom_mixed_folder")
    assert [(scan.path.name, len(scan.files)) for scan in found.scans] == [("S2010", 14)]
    assert not found.rejected
    codes = sorted(entry.code for entry in found.ignored)
    assert codes == [
        "dose_page",
        "localizer",
        "media_directory",
        "media_directory",
        "media_directory",
        "secondary_capture",
    ]
    with pytest.raises(ScanError) as caught:
        read_scan(found.scans[0])
    assert caught.value.code == "no_brain_tissue"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("dicom_head/slicer_cthead_64x64_not_hounsfield", "not_hounsfield"),
        ("dicom_head/enhanced_ct_perfusion_map_2_frames", "derived_map"),
        ("nifti_head/scct_template/scct.nii", "not_hounsfield"),
        ("nifti_head/scct_template/scgrey.nii.gz", "not_hounsfield"),
        ("nifti_head/scct_template/ichseg_scct_unsmooth_stripped_1mm_hu.nii.gz", "skull_stripped"),
        ("reject/not_head/siemens_mct_abdomen_jpeg2000", "not_head"),
        ("reject/not_head/ge_chest_contrast_CT1_JLSL", "too_few_slices"),
        ("reject/not_head/pydicom_CT_small_128x128.dcm", "too_few_slices"),
        ("reject/not_hounsfield/scanned_film_brain_ct_SC1_JLSN", "secondary_capture"),
        ("reject/not_hounsfield/ct_head_phantom_8bit_CT_pitch.nii.gz", "not_hounsfield"),
        ("reject/bad_geometry/gantrytilting", "coverage_too_small"),
        ("reject/bad_geometry/sliceincrement", "slices_missing"),
        ("reject/bad_geometry/notavolume", "several_images_at_one_position"),
        ("reject/not_ct", "not_ct"),
        ("reject/nifti_not_ct/mr_4d.nii.gz", "not_3d"),
        ("reject/nifti_not_ct/mr_anatomical.nii", "not_hounsfield"),
        ("reject/nifti_not_ct/rgb.nii.gz", "colour"),
        ("reject/broken/no_meta.dcm", "corrupt_header"),
        ("reject/broken/meta_missing_tsyntax.dcm", "corrupt_header"),
        ("reject/broken/ExplVR_LitEndNoMeta.dcm", "not_ct"),
        ("reject/broken/badVR.dcm", "corrupt_header"),
        ("reject/broken/MR_truncated.dcm", "not_ct"),
        ("reject/broken/rtplan_truncated.dcm", "not_ct"),
        ("reject/broken/no_decoder_jpeg_extended_12_bit_SC1_JPLY", "secondary_capture"),
        ("reject/broken/derived_ge_head_slice_cut_at_200kB.dcm", "corrupt_pixels"),
        ("reject/broken/derived_truncated.nii.gz", "corrupt_pixels"),
        ("reject/broken/derived_zero_bytes.dcm", "empty_file"),
    ],
)
def test_it_is_refused_by_name(data_dir: Path, path: str, code: str) -> None:
    assert refusals(data_dir / path) == {code}


def test_every_file_is_accounted_for_and_nothing_is_printed(data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = find_scans(data_dir)
    total = sum(len(scan.files) for scan in found.scans) + sum(e.files for e in (*found.rejected, *found.ignored))
    assert total == sum(path.is_file() for path in data_dir.rglob("*"))
    for scan in found.scans:
        try:
            read_scan(scan)
        except ScanError as error:
            assert str(data_dir) not in str(error)
    assert capfd.readouterr() == ("", "")


def test_damaged_jpeg_lossless_is_refused_without_a_word_on_stderr(
    data_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((data_dir / TOSHIBA / "CT2_JPLL").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\xd9"  # the picture ends in its middle
    (tmp_path / "damaged").write_bytes(data)
    with pytest.raises(ScanError) as caught:
        one_slice(tmp_path / "damaged")
    assert caught.value.code == "corrupt_pixels"
    assert capfd.readouterr() == ("", "")
