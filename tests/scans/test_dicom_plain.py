"""The narrow parser reads an ordinary header as pydicom does, and leaves everything else to it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from molre_edge.scans.dicom_open import _TAGS
from molre_edge.scans.dicom_plain import TooShort, parse_plain
from molre_edge.scans.dicom_values import PLAIN_TAGS
from molre_edge.scans.series import examine, examine_plain


def same(path: Path) -> bool:
    """Whether the narrow parser read a file; what it read must then be what pydicom reads, up to the last digit."""
    plain = examine_plain(path)
    if plain is None:
        return False
    whole = examine(path)
    assert repr(replace(plain, problem=None)) == repr(replace(whole, problem=None))
    assert (type(plain.problem), str(plain.problem)) == (type(whole.problem), str(whole.problem))
    assert plain.digest() == whole.digest()
    return True


@pytest.fixture
def one_slice(tmp_path: Path, write_series: Any) -> Path:
    path: Path = write_series(tmp_path / "one", [(-15.0, -15.0, 0.0)], shape=(16, 16))[0]
    return path


def rewrite(path: Path, edit: Any, syntax: str | None = None) -> Path:
    dataset = pydicom.dcmread(path)
    edit(dataset)
    if syntax:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    pydicom.dcmwrite(
        path,
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    return path


def test_its_list_of_elements_is_that_of_the_other_way() -> None:
    names = {entry.name for entry in PLAIN_TAGS.values()}
    assert names == {*_TAGS}
    for tag, entry in PLAIN_TAGS.items():
        assert tag_for_keyword(entry.name) == tag
        assert set(dictionary_VR(tag).split(" or ")) == {vr.decode() for vr in entry.vrs}


def nested(dataset: Dataset) -> None:
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    inner.PurposeOfReferenceCodeSequence = pydicom.Sequence([Dataset()])
    dataset.ReferencedImageSequence = pydicom.Sequence([inner, inner])
    dataset["ReferencedImageSequence"].is_undefined_length = True
    dataset.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "OB", bytes(20_000))


def several_values(dataset: Dataset) -> None:
    dataset.ConvolutionKernel = ["H31s", "3 "]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SEQ"]
    dataset.SliceLocation, dataset.KVP, dataset.AcquisitionNumber = "-12.50", "", "7"
    dataset.add_new(0x00280120, "SS", -2000)
    dataset.PatientName = "M\xfcller^J\xf6rg"
    dataset.SpecificCharacterSet = "ISO_IR 100"


@pytest.mark.parametrize("edit", [lambda _: None, nested, several_values])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_an_ordinary_header_is_read_as_pydicom_reads_it(one_slice: Path, edit: Any, syntax: str | None) -> None:
    assert same(rewrite(one_slice, edit, syntax))


@pytest.mark.parametrize(
    "edit",
    [
        lambda dataset: setattr(dataset, "ContrastBolusAgent", "\xc4gent"),
        lambda dataset: setattr(dataset, "AnatomicRegionSequence", pydicom.Sequence([Dataset()])),
        lambda dataset: setattr(dataset, "Manufacturer", ["ONE", "TWO"]),
        lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", ""),
    ],
)
def test_what_is_not_ordinary_is_left_to_pydicom(one_slice: Path, edit: Any) -> None:
    def with_characters(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        edit(dataset)

    dataset = pydicom.dcmread(one_slice)
    with_characters(dataset)
    syntax_left_out = not dataset.file_meta.TransferSyntaxUID
    if syntax_left_out:
        content = one_slice.read_bytes()
        one_slice.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", bytes(20)))
    else:
        dataset.save_as(one_slice, enforce_file_format=True)
    assert not same(one_slice)


def test_big_endian_is_left_to_pydicom(one_slice: Path) -> None:
    assert not same(rewrite(one_slice, lambda _: None, ExplicitVRBigEndian))


def test_a_header_that_goes_on_asks_for_more(one_slice: Path) -> None:
    content = one_slice.read_bytes()
    end = content.index(b"\xe0\x7f\x10\x00")
    assert parse_plain(content[: end + 12]) is not None
    for size in (end, end - 1, end // 2 + 100, 300):
        with pytest.raises(TooShort):
            parse_plain(content[:size])


def test_damaged_headers_are_never_read_otherwise_than_by_pydicom(one_slice: Path) -> None:
    chance = random.Random(5)
    content = rewrite(one_slice, several_values).read_bytes()
    end = content.index(b"\xe0\x7f\x10\x00")
    read = 0
    for _ in range(250):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 2))):
            at = chance.randrange(132, end)
            damaged[at] = chance.choice((chance.randrange(256), ord(chance.choice("0123456789.\\ +-eE^AZaz"))))
        one_slice.write_bytes(damaged)
        read += same(one_slice)
    assert read > 50
