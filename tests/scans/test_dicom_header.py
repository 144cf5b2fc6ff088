"""What a header says of its values: how they are shown, padded, calculated, and whether compression changed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from molre_edge.errors import ScanError
from molre_edge.scans import HeadVolume, find_scans, read_scan
from molre_edge.scans.series import examine, examine_plain

SMALL: dict[str, Any] = {
    "positions": [(-126.0, -126.0, float(z)) for z in np.arange(-85.0, 86.0, 10.0)],
    "pixel": (4.0, 4.0), "shape": (64, 64), "thickness": 10.0,
}  # fmt: skip


@pytest.fixture
def one_slice(tmp_path: Path, write_series: Any) -> Path:
    path: Path = write_series(tmp_path / "one", [(-15.0, -15.0, 0.0)], shape=(16, 16))[0]
    return path


def changed(path: Path, **attributes: Any) -> Path:
    dataset = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def problem(path: Path) -> str:
    """Why a file can't be used; both parsers must say the same."""
    slow, fast = examine(path).problem, examine_plain(path)
    assert fast is None or str(fast.problem) == str(slow)
    return "" if slow is None else slow.code


def read(folder: Path) -> HeadVolume:
    return read_scan(find_scans(folder).scans[0])


def test_monochrome1_is_shown_inverted_and_has_the_same_hounsfield_units(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "2", **SMALL)
    write_series(tmp_path / "1", PhotometricInterpretation="MONOCHROME1", **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "1").hu, read(tmp_path / "2").hu)


@pytest.mark.parametrize("shown", ["PALETTE COLOR", "RGB", "YBR_FULL_422"])
def test_values_that_stand_for_colours_are_no_ct(one_slice: Path, shown: str) -> None:
    assert problem(changed(one_slice, PhotometricInterpretation=shown)) == "secondary_capture"


@pytest.mark.parametrize(
    ("attributes", "lossy"),
    [
        ({"LossyImageCompression": "01"}, True),
        ({"LossyImageCompressionRatio": "10"}, True),
        ({"LossyImageCompressionRatio": ["1", "8.5"]}, True),
        ({"LossyImageCompressionMethod": "ISO_10918_1"}, True),
        ({"LossyImageCompression": "00", "LossyImageCompressionRatio": "2.5"}, False),
        ({"LossyImageCompressionRatio": "1"}, False),
    ],
)
def test_loss_is_told_by_method_or_ratio_where_its_own_element_is_missing(
    one_slice: Path, attributes: dict[str, Any], lossy: bool
) -> None:
    assert problem(changed(one_slice, **attributes)) == ("lossy" if lossy else "")


@pytest.mark.parametrize(
    ("signed", "bits", "vr", "value", "expected"),
    [
        (True, 16, "SS", -2000, -2000),
        (True, 16, "US", 63536, -2000),
        (False, 16, "SS", -1, 65535),
        (False, 12, "US", 4095, 4095),
        (True, 12, "US", 63536, -2000),
        (True, 12, "SS", -32768, 0),  # what is left of it in 12 bits, as of the pixels
    ],
)
def test_padding_has_the_bits_and_the_sign_of_the_pixels(
    one_slice: Path, signed: bool, bits: int, vr: str, value: int, expected: int
) -> None:
    dataset = pydicom.dcmread(one_slice)
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = int(signed), bits, bits - 1
    dataset.add_new(0x00280120, vr, value)
    dataset.save_as(one_slice)
    plain = examine_plain(one_slice)
    assert plain is not None and plain.padding == examine(one_slice).padding == (expected, expected)


def test_padding_with_the_other_sign_becomes_air(tmp_path: Path, write_series: Any) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        values = np.frombuffer(dataset.PixelData, "<i2").reshape(64, 64).astype(int) + 1024
        values[:4] = 65535
        dataset.PixelRepresentation, dataset.RescaleIntercept = 0, -1024
        dataset.PixelData = values.astype("<u2").tobytes()
        dataset.add_new(0x00280120, "SS", -1)

    write_series(tmp_path / "a", edit=edit, **SMALL)
    volume = read(tmp_path / "a")
    assert (volume.hu[:, :4] == -1024).all() and volume.hu.max() == 900


@pytest.mark.parametrize(
    "attributes",
    [
        {"VolumeBasedCalculationTechnique": "MAX_IP"},
        {"VolumeBasedCalculationTechnique": "CURVED_MPR"},
        {"VolumeBasedCalculationTechnique": "VOLUME_RENDER"},
        {"VolumetricProperties": "SAMPLED"},
        {"VolumetricProperties": "DISTORTED"},
    ],
)
def test_a_projection_is_no_ct_whatever_its_image_type_says(one_slice: Path, attributes: dict[str, str]) -> None:
    assert problem(changed(one_slice, **attributes)) == "derived_map"


def test_frames_that_are_projections_are_told_from_those_that_are_not(
    tmp_path: Path, write_series: Any, write_enhanced: Any
) -> None:
    """PS3.3 C.8.16.2.1.2: MIXED at the top level, and what holds for each frame beside its type."""
    files = write_series(tmp_path / "classic", **SMALL)
    expected = read(tmp_path / "classic").hu
    write_enhanced(tmp_path / "frames.dcm", [*files, *files], VolumetricProperties="MIXED")
    dataset = pydicom.dcmread(tmp_path / "frames.dcm")
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        kind = group.CTImageFrameTypeSequence[0]
        projected = number >= len(files)
        kind.VolumetricProperties = "SAMPLED" if projected else "VOLUME"
        kind.VolumeBasedCalculationTechnique = "MAX_IP" if projected else "NONE"
    dataset.save_as(tmp_path / "frames.dcm")
    np.testing.assert_array_equal(read(tmp_path / "frames.dcm").hu, expected)


def test_slope_and_intercept_are_those_of_each_frame(tmp_path: Path, write_series: Any, write_enhanced: Any) -> None:
    files = write_series(tmp_path / "classic", **SMALL)
    expected = read(tmp_path / "classic").hu
    write_enhanced(tmp_path / "frames.dcm", files)
    dataset = pydicom.dcmread(tmp_path / "frames.dcm")
    planes = np.frombuffer(dataset.PixelData, "<i2").reshape(-1, 64, 64).copy()
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        planes[number] += 100 * number
        group.PixelValueTransformationSequence[0].RescaleIntercept = -100 * number
    dataset.PixelData = planes.tobytes()
    dataset.save_as(tmp_path / "frames.dcm")
    np.testing.assert_array_equal(read(tmp_path / "frames.dcm").hu, expected)


@pytest.mark.parametrize(("step", "outcome"), [(2, ""), (8, "coarse_values"), (16, "lossy")])
def test_values_in_coarse_steps_are_told_or_refused(tmp_path: Path, write_series: Any, step: int, outcome: str) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        stored = (np.frombuffer(dataset.PixelData, "<i2") + 1024) // step
        dataset.RescaleSlope, dataset.RescaleIntercept = step, -1024
        dataset.PixelData = stored.astype("<i2").tobytes()

    write_series(tmp_path / "a", edit=edit, **SMALL)
    found = find_scans(tmp_path / "a")
    if outcome == "lossy":
        assert [(entry.code, "steps of 16 HU" in entry.reason) for entry in found.rejected] == [("lossy", True)]
    else:
        codes = [warning.code for warning in read_scan(found.scans[0]).warnings]
        assert ("coarse_values" in codes) == bool(outcome)


def no_pixels(dataset: Dataset) -> None:
    dataset.FloatPixelData = np.frombuffer(dataset.PixelData, "<i2").astype("<f4").tobytes()
    del dataset.PixelData


def twice_the_pixels(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData * 2


@pytest.mark.parametrize(
    ("edit", "text"), [(no_pixels, "no Pixel Data"), (twice_the_pixels, "rows, columns, bits and frames")]
)
def test_pixels_that_the_header_does_not_describe_are_refused(
    tmp_path: Path, write_series: Any, edit: Any, text: str
) -> None:
    write_series(tmp_path / "a", edit=lambda dataset, _: edit(dataset), **SMALL)
    with pytest.raises(ScanError, match=text) as caught:
        read(tmp_path / "a")
    assert caught.value.code == "corrupt_pixels"


@pytest.mark.parametrize(
    "attributes",
    [
        {"RescaleSlope": None},
        {"RescaleIntercept": None},
        {"RescaleSlope": 0},
        {"RescaleIntercept": 2e6},
        {"ModalityLUTSequence": pydicom.Sequence([Dataset()])},
    ],
    ids=str,
)
def test_a_slice_without_hounsfield_units_is_refused(one_slice: Path, attributes: dict[str, Any]) -> None:
    assert problem(changed(one_slice, **attributes)) == "not_hounsfield"
