"""Ordinary slices go from their file into the volume without pydicom, compressed ones included."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_raw import RawSlices, _code_stream
from molre_edge.scans.dicom_slices import read_slices
from molre_edge.scans.find import find_scans
from molre_edge.scans.scan_records import ScanSource
from molre_edge.scans.shelf import Shelf

JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
HEAD = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"
END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


def item(data: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(data)) + data


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        (HEAD + item(b"") + item(b"abcd") + END, b"abcd"),
        (HEAD + item(bytes(4)) + item(b"ab") + item(b"cd") + END + b"behind it", b"abcd"),
        (HEAD + item(b"\x04\0\0\0") + item(b"abcd") + END, None),  # a frame that begins elsewhere
        (HEAD + item(bytes(8)) + item(b"abcd") + item(b"efgh") + END, None),  # two frames
        (HEAD + item(b"") + item(b"abcd"), None),
        (HEAD + item(b"") + item(b"abcd")[:-1], None),
        (HEAD + item(b"") + END, None),
        (HEAD + END, None),
        (HEAD[:8] + b"\x04\0\0\0abcd", None),
    ],
)
def test_the_fragments_of_one_frame_are_put_together(element: bytes, expected: bytes | None) -> None:
    assert _code_stream(memoryview(element)) == expected


@pytest.fixture
def compressed(tmp_path: Path, write_series: Any, request: pytest.FixtureRequest) -> Path:
    """Four slices of 32 x 32 that are compressed."""
    positions = [(-32.0, -32.0, 20.0 * number) for number in range(4)]
    for path in write_series(tmp_path / "a", positions, shape=(32, 32), thickness=20.0):
        dataset = pydicom.dcmread(path)
        dataset.compress(request.param, generate_instance_uid=False)
        dataset.save_as(path)
    return tmp_path / "a"


def source_of(folder: Path) -> ScanSource:
    return find_scans(folder).scans[0]


@pytest.mark.parametrize("compressed", [JPEG_LS, JPEG_2000], indirect=True)
def test_compressed_slices_lie_in_one_slab_and_are_what_pydicom_decodes(compressed: Path) -> None:
    source = source_of(compressed)
    raw = RawSlices(len(source.files), Shelf())
    for path, found in zip(source.files, source.found, strict=True):
        read = raw.read(path, found)
        assert read is not None and read.error == 0
        np.testing.assert_array_equal(read.plane, np.maximum(pydicom.dcmread(path).pixel_array, -1024))
    assert raw.slab is not None and raw.slab.shape == (4, 32, 32)


@pytest.mark.parametrize("compressed", [JPEG_LS], indirect=True)
@pytest.mark.parametrize("kept", [0.3, 0.9])  # with 0.9 CharLS takes half a minute to notice
def test_a_stream_that_ends_too_early_is_refused_at_once(compressed: Path, kept: float) -> None:
    path = sorted(compressed.iterdir())[2]
    dataset = pydicom.dcmread(path)
    stream = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([stream[: int(len(stream) * kept)]])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    with pytest.raises(ScanError) as caught:
        read_slices(source_of(compressed)).check()
    assert caught.value.code == "corrupt_pixels"


@pytest.mark.parametrize("compressed", [JPEG_2000], indirect=True)
def test_a_stream_of_several_components_is_refused_before_it_is_decoded(compressed: Path) -> None:
    """A decoder would make them all: 16,384 at most."""
    for path in compressed.iterdir():
        content = path.read_bytes()
        at = content.index(b"\xff\x4f\xff\x51") + 40
        path.write_bytes(content[:at] + b"\x40\x00" + content[at + 2 :])
    with pytest.raises(ScanError, match="another size") as caught:
        read_slices(source_of(compressed)).check()
    assert caught.value.code == "corrupt_pixels"
