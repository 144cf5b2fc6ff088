"""A header that is laid out as the one before is read as if it came first, and one that is not is parsed anew."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from molre_edge.scans import dicom_plain
from molre_edge.scans.dicom_plain import PlainHeader, TooShort, parse_plain

POSITIONS = [(-15.0, -15.0, 5.0 * number) for number in range(12)]


def edit(dataset: Dataset, index: int) -> None:
    """What differs from slice to slice, in value and length: some of it matters, some does not."""
    dataset.InstanceNumber, dataset.ContentTime = 8 + index, f"1200{index:02d}.5{'5' * (index % 4)}"
    dataset.WindowCenter, dataset.SliceLocation = 35 + index, f"{5.0 * index:.{index % 3}f}"
    dataset.add_new(0x00091010, "OB", bytes(2 * index))
    dataset.add_new(0x00091011, "UN", b"always the same")


def facts(header: PlainHeader | None) -> Any:
    if header is None:
        return None
    return header.file_meta, header._values, header._stored, header.common, header.pixels_at, header.implicit


def alone(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What parsing element by element makes of it."""
    with monkeypatch.context() as patch:
        patch.setattr(dicom_plain, "_last", None)
        return outcome(data)


def outcome(data: bytes) -> Any:
    try:
        return facts(parse_plain(data))
    except TooShort:
        return TooShort


@pytest.fixture(params=[ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
def series(tmp_path: Path, write_series: Any, request: pytest.FixtureRequest) -> list[bytes]:
    files = write_series(tmp_path / "a", POSITIONS, shape=(4, 4), edit=edit)
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = request.param
        implicit = request.param == ImplicitVRLittleEndian
        pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return [path.read_bytes() for path in files]


def test_slices_are_read_as_alone_and_few_are_parsed(series: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [alone(data, monkeypatch) for data in series]
    assert None not in expected
    parsed = []
    parse = dicom_plain._parse
    monkeypatch.setattr(dicom_plain, "_last", None)
    monkeypatch.setattr(dicom_plain, "_parse", lambda *args: (parsed.append(1), parse(*args))[1])
    assert [outcome(data) for data in series] == expected
    assert len(parsed) <= 4  # until it is known what differs


def test_damage_is_read_as_alone(series: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(3)
    for data in series * 8:
        outcome(data)  # so that a layout is known
        broken = bytearray(data)
        at, way = draw.randrange(128, len(data) - 40), draw.randrange(4)
        if way == 0:
            broken[at] ^= 1 << draw.randrange(8)
        elif way == 1:
            broken[at : at + 4] = b"\xff\xff\xff\xff"
        elif way == 2:
            del broken[at : at + 2]
        else:
            del broken[at:]
        last = dicom_plain._last
        expected = alone(bytes(broken), monkeypatch)
        monkeypatch.setattr(dicom_plain, "_last", last)
        assert outcome(bytes(broken)) == expected
