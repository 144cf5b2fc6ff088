"""A DICOM series becomes one volume in Hounsfield units, ordered and oriented, or is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian, generate_uid

from molre_edge.errors import ScanError
from molre_edge.scans import HeadVolume, ScanSource, find_scans, read_scan, to_grid
from molre_edge.scans.coarse import shrink
from molre_edge.scans.head_place import find_head
from molre_edge.specs import Grid

GRID = Grid(slices=16, rows=96, cols=96)
Z = [float(z) for z in np.arange(-85.0, 86.0, 5.0)]


def read(folder: Path) -> HeadVolume:
    found = find_scans(folder)
    assert not found.rejected, found.rejected
    return read_scan(found.scans[0])


def refusal(folder: Path) -> str:
    """The code with which a folder is refused, while looking for scans or while reading."""
    found = find_scans(folder)
    if not found.scans:
        assert len({entry.code for entry in found.rejected}) == 1, found.rejected
        return found.rejected[0].code
    with pytest.raises(ScanError) as caught:
        read_scan(found.scans[0])
    return caught.value.code


def codes(volume: HeadVolume) -> set[str]:
    return {warning.code for warning in volume.warnings}


def test_a_plain_series_is_read_as_it_was_stored(head_folder: Path) -> None:
    volume = read(head_folder)
    assert volume.hu.shape == (35, 128, 128)
    assert volume.hu.dtype == np.int16
    assert volume.pixel_mm == (2.0, 2.0)
    np.testing.assert_allclose(volume.positions_mm, Z)
    np.testing.assert_array_equal(volume.thickness_mm, 5.0)
    assert volume.warnings == ()
    bleed = volume.hu == 75
    slices, rows, cols = (index.mean() for index in np.nonzero(bleed))
    assert slices > 17 and rows < 63 and cols > 64  # up, in front, at the patient's left


def test_the_order_of_files_does_not_matter(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "a", names=lambda index: f"{(index * 17) % 35:02}")
    volume = read(tmp_path / "a")
    np.testing.assert_allclose(volume.positions_mm, Z)


def test_rescale_is_applied_slice_by_slice(tmp_path: Path, write_series: Any, head_folder: Path) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        values = np.frombuffer(dataset.PixelData, "<i2").astype(int)
        slope = 1 + index % 2
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, -1000 - index
        dataset.PixelData = ((values + 1000 + index) // slope).astype("<i2").tobytes()

    write_series(tmp_path / "b", edit=edit)
    assert np.abs(read(tmp_path / "b").hu - read(head_folder).hu).max() <= 1.0  # halves were cut


@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.5",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
    ],
)
def test_lossless_syntaxes_keep_every_value(tmp_path: Path, write_series: Any, head_folder: Path, syntax: str) -> None:
    plugins = {"4.80": "pyjpegls", "4.90": "pylibjpeg", "2.5": "pydicom"}

    def edit(dataset: Dataset, index: int) -> None:
        if plugin := plugins.get(syntax[-4:].lstrip(".")) or plugins.get(syntax[-3:]):
            dataset.compress(syntax, encoding_plugin=plugin)
            return
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax.endswith("1.2.2"):
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
            dataset["PixelData"].VR = "OW"

    write_series(tmp_path / "b", edit=edit)
    assert pydicom.dcmread(tmp_path / "b" / "000.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read(tmp_path / "b").hu, read(head_folder).hu)


def test_implicit_pixels_whose_length_looks_like_a_value_representation_are_read(
    tmp_path: Path, write_series: Any
) -> None:
    """433 x 625 x 2 is 0x84242, and 0x4242 is BB."""

    def edit(dataset: Dataset, _: int) -> None:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
        del dataset.HighBit  # so that it is not as most files are

    shape, pixel = (433, 625), (0.5, 0.4)
    write_series(tmp_path / "a", [(-125.0, -108.0, z) for z in Z], shape=shape, pixel=pixel, edit=edit)
    write_series(tmp_path / "b", [(-125.0, -108.0, z) for z in Z], shape=shape, pixel=pixel)
    np.testing.assert_array_equal(read(tmp_path / "a").hu, read(tmp_path / "b").hu)


def test_a_multi_frame_file_is_a_volume(tmp_path: Path, head_folder: Path, join_frames: Any) -> None:
    (tmp_path / "b").mkdir()
    join_frames(head_folder, tmp_path / "b" / "frames.dcm")
    expected = read(head_folder)
    for path in (tmp_path / "b", tmp_path / "b" / "frames.dcm"):
        volume = read(path)
        np.testing.assert_array_equal(volume.hu, expected.hu)
        np.testing.assert_array_equal(volume.positions_mm, expected.positions_mm)
    dataset = pydicom.dcmread(tmp_path / "b" / "frames.dcm")
    del dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(tmp_path / "b" / "frames.dcm")
    assert refusal(tmp_path / "b") == "no_geometry"


def test_padding_becomes_air(tmp_path: Path, write_series: Any) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        values = np.frombuffer(dataset.PixelData, "<i2").reshape(128, 128).copy()
        values[:5] = -2000
        values[-5:] = 3000
        dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = 3000, 3000
        dataset.PixelData = values.tobytes()

    write_series(tmp_path / "a", edit=edit)
    volume = read(tmp_path / "a")
    assert (volume.hu[:, :5] == -1024).all()
    assert (volume.hu[:, -5:] == -1024).all()


def test_padding_that_is_a_value_of_tissue_is_replaced_only_at_the_border(tmp_path: Path, write_series: Any) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        values = np.frombuffer(dataset.PixelData, "<i2").reshape(128, 128).copy()
        values[:5] = 35  # also the value of brain
        dataset.PixelPaddingValue = 35
        dataset.PixelData = values.tobytes()

    write_series(tmp_path / "a", edit=edit)
    volume = read(tmp_path / "a")
    assert (volume.hu[:, :5] == -1024).all()
    assert (volume.hu == 35).sum() > 10000


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, 1, 0),
        (-1, 0, 0, 0, 1, 0),
        (1, 0, 0, 0, -1, 0),
        (-1, 0, 0, 0, -1, 0),
        (0, 1, 0, 1, 0, 0),
        (0, -1, 0, 1, 0, 0),
        (0, 1, 0, -1, 0, 0),
        (0, -1, 0, -1, 0, 0),
    ],
)
def test_every_way_to_store_axial_slices_gives_the_same_volume(
    tmp_path: Path, write_series: Any, head_folder: Path, orientation: tuple[float, ...]
) -> None:
    start = -127.0 * (np.array(orientation[:3]) + np.array(orientation[3:]))
    write_series(tmp_path / "b", [(start[0], start[1], z) for z in Z], orientation=orientation)
    turned, plain = read(tmp_path / "b"), read(head_folder)
    np.testing.assert_array_equal(turned.hu, plain.hu)
    np.testing.assert_array_equal(to_grid(turned, GRID), to_grid(plain, GRID))


@pytest.mark.parametrize("degrees", [-25.0, 12.0, 20.0])
def test_a_tilted_gantry_is_set_upright(tmp_path: Path, write_series: Any, degrees: float) -> None:
    angle = np.radians(degrees)
    orientation = (1.0, 0.0, 0.0, 0.0, np.cos(angle), np.sin(angle))
    down, normal = np.array(orientation[3:]), np.array([0.0, -np.sin(angle), np.cos(angle)])
    middles = [np.array([0.0, 0.0, z]) for z in np.arange(-110.0, 111.0, 4.0)]  # the table moves along z alone
    positions = [middle - 127.0 * np.array([1.0, 0, 0]) - 150.0 * down for middle in middles]
    from_plane = np.array([middle @ normal for middle in middles])
    write_series(
        tmp_path / "a", positions, orientation=orientation, stack=_sampled(positions, orientation), thickness=4.0
    )
    volume = read(tmp_path / "a")
    assert volume.facts["tilt_degrees"] == pytest.approx(abs(degrees), abs=0.01)
    assert volume.facts["tilt_corrected"]
    np.testing.assert_allclose(np.diff(volume.positions_mm), np.diff(from_plane), atol=1e-4)
    # the same planes, cut out of the head without any shift between them
    upright = [normal * at - 127.0 * np.array([1.0, 0, 0]) - 150.0 * down for at in from_plane]
    write_series(tmp_path / "b", upright, orientation=orientation, stack=_sampled(upright, orientation), thickness=4.0)
    expected = read(tmp_path / "b")
    assert not expected.facts["tilt_corrected"]
    difference = np.abs(to_grid(volume, GRID).astype(float) - to_grid(expected, GRID).astype(float))
    assert np.mean(difference) < 6.0  # edges of a voxelised head; a stack left sheared differs by more than 100
    assert np.mean(difference > 100.0) < 0.02


def _sampled(positions: list[np.ndarray], orientation: tuple[float, ...]) -> np.ndarray:
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    rows, cols = np.mgrid[:150, :128]
    plane = rows[..., None] * 2.0 * down + cols[..., None] * 2.0 * across
    points = [np.moveaxis(plane + position, -1, 0) for position in positions]
    inside = [
        [(x / a) ** 2 + (y / b) ** 2 + (z / a) ** 2 < 1 for a, b in ((80, 100), (76, 96), (70, 90))]
        for x, y, z in points
    ]
    return np.stack([np.select([brain, bone, skin], [35.0, 900.0, 10.0], -1000.0) for skin, bone, brain in inside])


def test_mixed_steps_are_read_by_position(tmp_path: Path, write_series: Any) -> None:
    heights = [*np.arange(-85.0, -10.0, 3.0), *np.arange(-9.0, 85.0, 8.0)]

    def edit(dataset: Dataset, index: int) -> None:
        dataset.SliceThickness = 3.0 if heights[index] < -9.0 else 8.0

    write_series(tmp_path / "a", [(-127, -127, z) for z in heights], edit=edit)
    volume = read(tmp_path / "a")
    np.testing.assert_allclose(volume.positions_mm, heights)
    assert codes(volume) == {"mixed_spacing"} or codes(volume) == {"mixed_spacing", "slices_overlap"}


def test_a_missing_slice_is_refused(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "a", [(-127, -127, z) for z in Z if z != 20.0])
    assert refusal(tmp_path / "a") == "slices_missing"
    write_series(tmp_path / "b", [(-127, -127, z) for z in Z if z != 20.0], thickness=None)
    assert refusal(tmp_path / "b") == "slices_missing"


def test_a_thin_slice_may_be_missing(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "a", [(-127, -127, z) for z in np.arange(-85.0, 86.0) if z != 20.0], thickness=1.0)
    assert codes(read(tmp_path / "a")) == {"mixed_spacing", "gaps_between_slices"}


def test_a_regular_gap_is_accepted_up_to_three_quarters_of_the_thickness(tmp_path: Path, write_series: Any) -> None:
    for name, step in (("a", 8.5), ("b", 9.0)):  # of slices of 5 mm
        write_series(tmp_path / name, [(-127, -127, z) for z in np.arange(-85.0, 86.0, step)], thickness=5.0)
    assert codes(read(tmp_path / "a")) == {"gaps_between_slices"}
    assert refusal(tmp_path / "b") == "slices_missing"


def test_every_second_slice_missing_is_refused(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "a", [(-127, -127, z) for z in Z[::2]], thickness=5.0)
    assert refusal(tmp_path / "a") == "slices_missing"


def test_slices_sent_twice_are_used_once(tmp_path: Path, write_series: Any, head_folder: Path) -> None:
    for index, path in enumerate(sorted(head_folder.iterdir())[:5]):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(head_folder / f"again{index}.dcm")
    volume = read(head_folder)
    assert len(volume.hu) == 35
    assert codes(volume) == {"duplicate_slices"}


def test_different_images_at_one_position_are_refused(head_folder: Path) -> None:
    dataset = pydicom.dcmread(head_folder / "010.dcm")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    values = np.frombuffer(dataset.PixelData, "<i2").copy()
    values[8000] += 1
    dataset.PixelData = values.tobytes()
    dataset.save_as(head_folder / "phase2.dcm")
    assert refusal(head_folder) == "several_images_at_one_position"


def _two_orientations(dataset: Dataset, index: int) -> None:
    if index % 2:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def _two_spacings(dataset: Dataset, index: int) -> None:
    dataset.PixelSpacing = [2.0, 2.0] if index % 2 else [1.0, 1.0]


def _no_position(dataset: Dataset, index: int) -> None:
    if index == 3:
        del dataset.ImagePositionPatient


def _scattered(dataset: Dataset, index: int) -> None:
    dataset.ImagePositionPatient = [-127 + 300 * (index % 2), -127, Z[index]]


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("not_axial", {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}),
        ("mixed_orientations", {"edit": _two_orientations}),
        ("mixed_pixel_spacing", {"edit": _two_spacings}),
        ("no_geometry", {"edit": _no_position}),
        ("no_geometry", {"PixelSpacing": [0.0, 2.0]}),
        ("slices_scattered", {"edit": _scattered}),
        ("not_ct", {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}),
        ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("derived_map", {"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "TMAX"]}),
        ("derived_map", {"ImageType": ["DERIVED", "SECONDARY", "MPR", "MIP"]}),
        ("secondary_capture", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}),
        ("not_head", {"BodyPartExamined": "CHEST"}),
        ("not_hounsfield", {"RescaleType": "ED"}),
        ("not_hounsfield", {"RescaleSlope": 0}),
        ("not_hounsfield", {"RescaleIntercept": 1024}),
        ("lossy", {"LossyImageCompression": "01"}),
        ("too_large", {"Rows": 50000, "Columns": 50000}),
    ],
)  # fmt: skip
def test_it_is_refused_by_name(tmp_path: Path, write_series: Any, code: str, change: dict[str, Any]) -> None:
    write_series(tmp_path / "a", **change)
    assert refusal(tmp_path / "a") == code


def test_few_slices_are_no_volume(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "a", [(-127, -127, 0.0)])
    assert refusal(tmp_path / "a") == "too_few_slices"
    write_series(tmp_path / "b", [(-127, -127, float(z)) for z in range(8)], thickness=1.0)
    assert refusal(tmp_path / "b") == "coverage_too_small"


def test_contrast_bone_kernel_and_derived_slices_are_accepted_with_a_warning(tmp_path: Path, write_series: Any) -> None:
    write_series(
        tmp_path / "a", ContrastBolusAgent="X", ConvolutionKernel="H70h", ImageType=["DERIVED", "SECONDARY", "MPR"]
    )
    assert codes(read(tmp_path / "a")) == {"contrast", "bone_kernel", "derived_series"}


def test_incomplete_heads_are_accepted_with_a_warning(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "low", [(-127, -127, z) for z in Z if -70 < z < 40])  # below it would close like a vertex
    assert codes(read(tmp_path / "low")) == {"vertex_missing"}
    write_series(tmp_path / "high", [(-127, -127, z) for z in Z if z > 0])
    assert codes(read(tmp_path / "high")) == {"base_missing"}


def test_a_head_that_is_cut_off_is_accepted_with_a_warning(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "a", [(-65.0, -127.0, z) for z in Z], shape=(128, 90))
    volume = read(tmp_path / "a")
    assert codes(volume) == {"head_cut_off", "head_place_uncertain"}
    assert find_head(shrink(volume)).top == int(np.flatnonzero(shrink(volume).body.any(axis=(1, 2)))[-1])


def test_truncated_pixels_are_refused_and_named(head_folder: Path) -> None:
    path = head_folder / "003.dcm"
    path.write_bytes(path.read_bytes()[:-10000])
    found = find_scans(head_folder)
    assert [(entry.code, entry.files) for entry in found.rejected] == [("corrupt_pixels", 35)]
    assert "1 of 35" in found.rejected[0].reason


def test_a_broken_compressed_slice_is_refused(tmp_path: Path, write_series: Any) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        dataset.compress("1.2.840.10008.1.2.4.80", encoding_plugin="pyjpegls")
        if index == 4:
            whole = bytes(dataset.PixelData)
            dataset.PixelData = whole[: len(whole) // 2]

    write_series(tmp_path / "a", edit=edit)
    assert refusal(tmp_path / "a") == "corrupt_pixels"


def test_a_code_stream_larger_than_its_header_is_refused_before_decoding(tmp_path: Path, write_series: Any) -> None:
    stream = b"\xff\x4f\xff\x51" + b"\x00\x29" + b"\x00\x00" + (60000).to_bytes(4, "big") * 2 + bytes(8) + bytes(21)
    stream += b"\xff\x52\x00\x0c" + bytes([0, 0, 0, 1, 0, 5, 4, 4, 0, 1])

    def edit(dataset: Dataset, index: int) -> None:
        dataset.file_meta.TransferSyntaxUID = JPEG2000
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"

    write_series(tmp_path / "a", edit=edit)
    assert refusal(tmp_path / "a") == "corrupt_pixels"


@pytest.mark.parametrize(("error", "outcome"), [(2, "near_lossless"), (5, "near_lossless"), (6, "lossy")])
def test_near_lossless_is_read_up_to_5_hu_and_told(
    tmp_path: Path, write_series: Any, head_folder: Path, error: int, outcome: str
) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        dataset.compress("1.2.840.10008.1.2.4.81", encoding_plugin="pyjpegls", jls_error=error)

    write_series(tmp_path / "b", edit=edit)
    if outcome == "lossy":
        assert refusal(tmp_path / "b") == outcome
        return
    volume = read(tmp_path / "b")
    assert codes(volume) == {outcome} and f"up to {error} HU" in volume.warnings[0].text
    assert np.abs(volume.hu - read(head_folder).hu).max() <= error


def test_a_syntax_that_allows_loss_without_any_is_read_with_a_warning(
    tmp_path: Path, write_series: Any, head_folder: Path
) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        dataset.compress("1.2.840.10008.1.2.4.90", encoding_plugin="pylibjpeg")  # reversible
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.91"

    write_series(tmp_path / "b", edit=edit)
    volume = read(tmp_path / "b")
    assert codes(volume) == {"compression_unclear"}
    np.testing.assert_array_equal(volume.hu, read(head_folder).hu)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.102"])
def test_a_syntax_that_is_not_read_is_named(tmp_path: Path, write_series: Any, syntax: str) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([b"anything"])
        dataset["PixelData"].VR = "OB"

    write_series(tmp_path / "a", edit=edit)
    [entry] = find_scans(tmp_path / "a").rejected
    assert entry.code == "unsupported_syntax" and "Explicit VR Little Endian" in entry.reason


def test_an_unspecified_unit_is_judged_by_the_values(tmp_path: Path, write_series: Any, head_folder: Path) -> None:
    write_series(tmp_path / "a", RescaleType="US")
    volume = read(tmp_path / "a")
    assert codes(volume) == {"unit_unspecified"}
    np.testing.assert_array_equal(volume.hu, read(head_folder).hu)
    write_series(tmp_path / "b", RescaleType="US", RescaleIntercept=1024)
    assert refusal(tmp_path / "b") == "not_hounsfield"


def test_brain_of_unusual_density_is_told_of(tmp_path: Path, write_series: Any) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        values = np.frombuffer(dataset.PixelData, "<i2")
        dataset.PixelData = np.where(values == 35, 75, values).astype("<i2").tobytes()

    write_series(tmp_path / "a", edit=edit)
    assert codes(read(tmp_path / "a")) == {"unusual_brain_values"}


def test_a_damaged_copy_of_a_slice_is_left_out(head_folder: Path) -> None:
    whole = (head_folder / "010.dcm").read_bytes()
    (head_folder / "again.dcm").write_bytes(whole[:-10000])
    [scan] = find_scans(head_folder).scans
    assert [(e.path.name, e.code) for e in find_scans(head_folder).ignored] == [("again.dcm", "duplicate_file")]
    assert len(read_scan(scan).hu) == 35 and codes(read_scan(scan)) == set()


def test_a_damaged_slice_is_no_copy_of_others_that_have_its_uid(tmp_path: Path, write_series: Any) -> None:
    positions = [(-127.0, -127.0, z) for z in np.arange(-85.0, 85.1, 2.0)]  # one may be missing: thin slices only warn
    files = write_series(tmp_path / "a", positions, thickness=2.0, shape=(64, 64), SOPInstanceUID="1.2.3.4")
    files[40].write_bytes(files[40].read_bytes()[:3000])
    assert refusal(tmp_path / "a") == "corrupt_pixels"


def test_a_deflated_bomb_is_refused(head_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = head_folder / "000.dcm"
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.add_new(0x00091001, "OB", bytes(8 * 1024 * 1024))
    dataset.save_as(path, enforce_file_format=True)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr("molre_edge.scans.dicom_open.MAX_INFLATED_BYTES", 1024 * 1024)
    found = find_scans(path)
    assert [entry.code for entry in found.rejected] == ["too_large"]


def test_nothing_that_names_a_person_leaves_the_reader(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "Secret^Name", ContrastBolusAgent="X")
    volume = read(tmp_path / "Secret^Name")
    shown = repr((volume.warnings, volume.facts))
    assert json.loads(json.dumps(volume.facts)) == volume.facts  # plain data
    assert "Secret" not in shown and "SECRET" not in shown and "1.2.826" not in shown and str(tmp_path) not in shown
    write_series(tmp_path / "b", BodyPartExamined="CHEST")
    reasons = repr([entry.reason for entry in find_scans(tmp_path / "b").rejected])
    assert "Secret" not in reasons and str(tmp_path) not in reasons


def test_a_source_whose_file_has_gone_is_a_scan_error(head_folder: Path) -> None:
    source = find_scans(head_folder).scans[0]
    before = source.fingerprint()
    (head_folder / "000.dcm").unlink()
    assert source.fingerprint() == before  # of what was found
    assert find_scans(head_folder).scans[0].fingerprint() != before
    with pytest.raises(ScanError) as caught:
        read_scan(source)
    assert caught.value.code == "unreadable"
    with pytest.raises(ScanError, match="no files") as caught:
        read_scan(ScanSource(head_folder, (), "dicom"))
    assert caught.value.code == "no_files"


def test_the_first_check_that_fails_is_the_reason(tmp_path: Path, write_series: Any) -> None:
    """What the object is, how it is stored, where its slices lie, what they show."""
    wrong: dict[str, Any] = {
        "not_ct": {"Modality": "MR"},
        "not_head": {"BodyPartExamined": "CHEST"},
        "lossy": {"LossyImageCompression": "01"},
        "no_geometry": {"PixelSpacing": [0.0, 2.0]},
        "not_axial": {"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)},
        "not_hounsfield": {"RescaleIntercept": 1024},
    }
    seen = []
    for number in range(len(wrong)):
        attributes = {name: value for change in list(wrong.values())[number:] for name, value in change.items()}
        if "orientation" in attributes:
            attributes["ImageOrientationPatient"] = list(attributes.pop("orientation"))
        write_series(tmp_path / str(number), **attributes)
        seen.append(refusal(tmp_path / str(number)))
    assert seen == list(wrong)
