"""Whatever decoder made them, stored values follow Bits Stored, High Bit and Pixel Representation alone."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames

from molre_edge.errors import ScanError
from molre_edge.scans import find_scans, read_scan
from molre_edge.scans.dicom_pixels import PixelBits, Samples, stored_values

DEFLATED, BIG_ENDIAN, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JPEG_LOSSLESS, JPEG_LS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{end}" for end in (70, 80, 90))
SYNTAXES = [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, RLE, JPEG_LOSSLESS, JPEG_LS, JPEG_2000]
LAYOUTS = [PixelBits(16, 12, 11, False), PixelBits(16, 12, 11, True), PixelBits(16, 12, 15, False),
           PixelBits(16, 12, 14, True), PixelBits(16, 16, 15, True), PixelBits(16, 13, 12, True)]  # fmt: skip


def containers(hu: np.ndarray, bits: PixelBits) -> np.ndarray:
    """HU as containers, uint16: the value where the header says, and something else in every other bit."""
    values = np.clip(hu, -1024, 1000).astype(int) + (0 if bits.signed else 1024)
    mask = (1 << bits.stored) - 1
    shift = bits.high + 1 - bits.stored
    assert bits.allocated == 16
    overlay = np.random.default_rng(7).integers(0, 1 << bits.allocated, hu.shape) & ~(mask << shift)
    return (((values & mask) << shift) | overlay).astype(np.uint16)


def compress(plane: np.ndarray, syntax: str, folder: Path, precision: int = 16) -> bytes:
    """One frame of a code stream, with samples of so many bits without sign."""
    if syntax == JPEG_LOSSLESS:
        assert precision == 16
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor("JPEG")
        writer.SetFileName(str(folder / "one.dcm"))
        writer.Execute(sitk.GetImageFromArray(plane[None]))
        dataset = pydicom.dcmread(folder / "one.dcm")
        (folder / "one.dcm").unlink()
        assert dataset.file_meta.TransferSyntaxUID == JPEG_LOSSLESS
        return next(generate_frames(dataset.PixelData, number_of_frames=1))
    bare = Dataset()
    bare.Rows, bare.Columns = plane.shape
    bare.SamplesPerPixel, bare.PhotometricInterpretation = 1, "MONOCHROME2"
    bare.BitsAllocated, bare.BitsStored, bare.HighBit, bare.PixelRepresentation = 16, precision, precision - 1, 0
    bare.SOPClassUID, bare.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = EXPLICIT
    bare.PixelData = plane.tobytes()
    bare["PixelData"].VR = "OW"
    plugins = {JPEG_LS: "pyjpegls", JPEG_2000: "pylibjpeg", RLE: "pydicom"}
    bare.compress(syntax, encoding_plugin=plugins[syntax], generate_instance_uid=False)
    return next(generate_frames(bare.PixelData, number_of_frames=1))


def write_as(
    write_series: Any, folder: Path, syntax: str, bits: PixelBits, change: Callable[[Dataset], None] | None = None
) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        plane = containers(np.frombuffer(dataset.PixelData, "<i2").reshape(64, 64), bits)
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits.stored, bits.high, int(bits.signed)
        dataset.RescaleIntercept = 0 if bits.signed else -1024
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax in (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN):
            dataset.PixelData = plane.astype(">u2" if syntax == BIG_ENDIAN else "<u2").tobytes()
            dataset["PixelData"].VR = "OW"
        else:
            dataset.PixelData = encapsulate([compress(plane, syntax, folder)])
            dataset["PixelData"].VR = "OB"
        if change:
            change(dataset)

    write_series(folder, edit=edit, **SMALL)


SMALL: dict[str, Any] = {
    "positions": [(-126.0, -126.0, float(z)) for z in np.arange(-85.0, 86.0, 10.0)],
    "pixel": (4.0, 4.0), "shape": (64, 64), "thickness": 10.0,
}  # fmt: skip


@pytest.fixture
def expected_hu(tmp_path: Path, write_series: Any) -> np.ndarray:
    files = write_series(tmp_path / "plain", **SMALL)
    return np.clip(np.stack([pydicom.dcmread(file).pixel_array for file in files]), -1024, 1000)


@pytest.mark.parametrize("bits", LAYOUTS, ids=lambda bits: f"{bits.stored} bits to {bits.high}, signed {bits.signed}")
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_syntax_gives_the_value_and_nothing_of_the_bits_beside_it(
    tmp_path: Path, write_series: Any, expected_hu: np.ndarray, syntax: str, bits: PixelBits
) -> None:
    write_as(write_series, tmp_path / "a", syntax, bits)
    np.testing.assert_array_equal(read_scan(find_scans(tmp_path / "a").scans[0]).hu, expected_hu)


@pytest.mark.parametrize("syntax", [IMPLICIT, RLE, JPEG_LS, JPEG_2000, DEFLATED])
def test_a_multi_frame_file_gives_the_same(
    tmp_path: Path, write_series: Any, join_frames: Any, expected_hu: np.ndarray, syntax: str
) -> None:
    bits = PixelBits(16, 12, 15, True)

    def edit(dataset: Dataset, index: int) -> None:
        plane = containers(np.frombuffer(dataset.PixelData, "<i2").reshape(64, 64), bits)
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 15, 1
        dataset.PixelData = plane.tobytes()

    write_series(tmp_path / "a", edit=edit, **SMALL)

    def frames(dataset: Dataset) -> None:
        planes = np.frombuffer(dataset.PixelData, np.uint16).reshape(-1, 64, 64)
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax in (RLE, JPEG_LS, JPEG_2000):
            dataset.PixelData = encapsulate([compress(plane, syntax, tmp_path) for plane in planes])
        dataset["PixelData"].VR = "OB" if syntax in (RLE, JPEG_LS, JPEG_2000) else "OW"

    (tmp_path / "b").mkdir()
    join_frames(tmp_path / "a", tmp_path / "b" / "frames.dcm", frames)
    np.testing.assert_array_equal(read_scan(find_scans(tmp_path / "b").scans[0]).hu, expected_hu)


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("high", [11, 15])
def test_a_stream_of_the_value_alone_needs_no_shift(
    tmp_path: Path, write_series: Any, expected_hu: np.ndarray, syntax: str, high: int
) -> None:
    """Samples of 12 bits are the value itself, wherever the header says that it lay before it was compressed."""

    def edit(dataset: Dataset, index: int) -> None:
        hu = np.frombuffer(dataset.PixelData, "<i2").reshape(64, 64)
        plane = (np.clip(hu, -1024, 1000) & 0xFFF).astype(np.uint16)
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, high, 1
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([compress(plane, syntax, tmp_path, precision=12)])
        dataset["PixelData"].VR = "OB"

    write_series(tmp_path / "a", edit=edit, **SMALL)
    np.testing.assert_array_equal(read_scan(find_scans(tmp_path / "a").scans[0]).hu, expected_hu)


def test_samples_with_a_sign_and_narrow_ones_are_told_apart() -> None:
    value = np.array([[-1024, -1, 0, 1000]])
    wide = PixelBits(16, 16, 15, True)
    signed = stored_values(value.astype(np.int16), Samples(13, signed=True), wide)  # JPEG 2000 that keeps the sign
    np.testing.assert_array_equal(signed, value)
    positive = stored_values(np.array([[0, 2047]], np.uint16), Samples(12), wide)
    np.testing.assert_array_equal(positive, [[0, 2047]])
    with pytest.raises(ScanError, match="unknown which are negative"):  # 3072: or -1024 of 12 bits?
        stored_values(np.array([[0, 3072]], np.uint16), Samples(12), wide)


@pytest.mark.parametrize(("stored", "high"), [(17, 16), (12, 16), (12, 10), (0, -1)])
def test_a_value_that_does_not_fit_its_container_is_refused(
    tmp_path: Path, write_series: Any, stored: int, high: int
) -> None:
    if stored == 0:
        write_series(tmp_path / "a", BitsAllocated=12)
    else:
        write_series(tmp_path / "a", BitsStored=stored, HighBit=high)
    with pytest.raises(ScanError) as caught:
        read_scan(find_scans(tmp_path / "a").scans[0])
    assert caught.value.code in ("corrupt_header", "corrupt_pixels")


def test_the_temporary_file_of_jpeg_lossless_holds_one_frame_and_nothing_of_the_header(
    tmp_path: Path, write_series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(dataset: Dataset) -> None:
        dataset.StudyDate, dataset.AccessionNumber, dataset.InstitutionName = "20200102", "ACC-77", "Secret hospital"

    write_as(write_series, tmp_path / "a", JPEG_LOSSLESS, PixelBits(16, 16, 15, True), named)
    source = find_scans(tmp_path / "a").scans[0]
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    contents: list[bytes] = []
    read = sitk.ReadImage

    def watched(path: str, *args: Any, **options: Any) -> Any:
        assert Path(path).is_relative_to(tmp_path / "temporary")
        contents.append(Path(path).read_bytes())
        return read(path, *args, **options)

    monkeypatch.setattr(sitk, "ReadImage", watched)
    read_scan(source)
    assert len(contents) == len(source.files)
    for path, content in zip(source.files, contents, strict=True):
        original = pydicom.dcmread(path)
        written = pydicom.dcmread(io.BytesIO(content))
        assert {element.keyword for element in written} == {
            "SOPClassUID", "SOPInstanceUID", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
            "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
        }  # fmt: skip
        assert written.SOPInstanceUID != original.SOPInstanceUID
        frames = [list(generate_frames(one.PixelData, number_of_frames=1)) for one in (original, written)]
        assert frames[0] == frames[1]
        for secret in ("Secret", "SECRET", "20200102", "ACC-77", original.StudyInstanceUID, original.SOPInstanceUID):
            assert secret.encode() not in content
    assert not list((tmp_path / "temporary").iterdir())
