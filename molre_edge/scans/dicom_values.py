"""The elements of a header that matter, and how their stored values become values of Python.

Only what is as the standard says is converted; anything else is left to pydicom. Sources: DICOM PS3.5 6.2 (value
representations), PS3.6 (elements).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

__all__ = ["PADDING", "PLAIN_TAGS", "SLICE_TAGS", "NotPlain", "Value", "comparable", "uid"]

Value = str | int | float | tuple[str, ...] | tuple[float, ...] | None
_KEPT = 1024
"""So many converted values are kept: most are the same in all slices of a series."""
_ASCII = re.compile(rb"[ -~]*")
_UID = re.compile(rb"[0-9.]+")
_DECIMAL = re.compile(rb" *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})? *")
_INTEGER = re.compile(rb" *[+-]?[0-9]{1,9} *")


class NotPlain(Exception):
    """The header is not as most are."""


@lru_cache(_KEPT)
def comparable(data: bytes) -> str:
    """A stored value without padding, in upper case."""
    return data.decode("latin-1").strip(" \0^").upper()


@lru_cache(_KEPT)
def uid(data: bytes) -> str:
    """A unique identifier.

    Raises:
        NotPlain: there are signs in it that no UID has.
    """
    data = data.rstrip(b"\0 ")
    if data and not _UID.fullmatch(data):
        raise NotPlain
    return data.decode("ascii")


def _plain(data: bytes) -> bytes:
    data = data.rstrip(b"\0 ")
    if not _ASCII.fullmatch(data):
        raise NotPlain
    return data


@lru_cache(_KEPT)
def _text(data: bytes) -> str | tuple[str, ...]:
    values = tuple(part.rstrip(b" ").decode("ascii") for part in _plain(data).split(b"\\"))
    return values[0] if len(values) == 1 else values


@lru_cache(_KEPT)
def _one_text(data: bytes) -> str:
    data = _plain(data)
    if b"\\" in data:
        raise NotPlain
    return data.decode("ascii")


@lru_cache(_KEPT)
def _words(data: bytes) -> str | tuple[str, ...]:
    values = tuple(part.decode("ascii") for part in _plain(data).split(b"\\"))
    return values[0] if len(values) == 1 else values


@lru_cache(_KEPT)
def _decimals(data: bytes) -> float | tuple[float, ...] | None:
    data = _plain(data)
    if not data:
        return None
    parts = data.split(b"\\")
    for part in parts:
        if not _DECIMAL.fullmatch(part):
            raise NotPlain
    return float(parts[0]) if len(parts) == 1 else tuple(float(part) for part in parts)


@lru_cache(_KEPT)
def _integer(data: bytes) -> int | None:
    data = _plain(data)
    if not data:
        return None
    if not _INTEGER.fullmatch(data):
        raise NotPlain
    return int(data)


def _unsigned(data: bytes) -> int:
    if len(data) != 2:
        raise NotPlain
    return int.from_bytes(data, "little")


def _double(data: bytes) -> float:
    if len(data) != 8:
        raise NotPlain
    return float(struct.unpack("<d", data)[0])


def _left_to_pydicom(_: bytes) -> None:
    raise NotPlain


class _Entry(NamedTuple):
    """An element that matters.

    Attributes:
        name: its keyword.
        vrs: its value representations.
        convert: from what is stored to a value; None where only the stored value is compared.
        identifies: whether the stored value is kept.
    """

    name: str
    vrs: tuple[bytes, ...]
    convert: Callable[[bytes], Value] | None
    identifies: bool = False


def _entries(vr: bytes, convert: Callable[[bytes], Value] | None, identifies: bool, **tags: int) -> dict[int, _Entry]:
    return {tag: _Entry(name, (vr,), convert, identifies) for name, tag in tags.items()}


PLAIN_TAGS: dict[int, _Entry] = {
    **_entries(b"UI", uid, False, SOPClassUID=0x00080016, SOPInstanceUID=0x00080018, SeriesInstanceUID=0x0020000E,
               FrameOfReferenceUID=0x00200052),
    **_entries(b"UI", uid, True, StudyInstanceUID=0x0020000D),
    **_entries(b"LO", None, True, PatientID=0x00100020, SeriesDescription=0x0008103E, ProtocolName=0x00181030),
    **_entries(b"PN", None, True, PatientName=0x00100010),
    **_entries(b"DA", None, True, PatientBirthDate=0x00100030, StudyDate=0x00080020, SeriesDate=0x00080021),
    **_entries(b"TM", None, True, SeriesTime=0x00080031),
    **_entries(b"CS", None, True, PatientSex=0x00100040),
    **_entries(b"AS", None, True, PatientAge=0x00101010),
    **_entries(b"SH", None, True, StudyID=0x00200010, AccessionNumber=0x00080050),
    **_entries(b"LO", _one_text, True, Manufacturer=0x00080070, ManufacturerModelName=0x00081090),
    **_entries(b"LO", _text, False, ContrastBolusAgent=0x00180010, RescaleType=0x00281054),
    **_entries(b"SH", _text, False, ConvolutionKernel=0x00181210),
    **_entries(b"CS", _words, False, Modality=0x00080060, ImageType=0x00080008, BodyPartExamined=0x00180015,
               LossyImageCompression=0x00282110, LossyImageCompressionMethod=0x00282114,
               PhotometricInterpretation=0x00280004, VolumetricProperties=0x00089206,
               VolumeBasedCalculationTechnique=0x00089207, ContrastBolusIngredient=0x00181048,
               PatientOrientation=0x00200020),
    **_entries(b"DS", _decimals, False, KVP=0x00180060, ContrastBolusVolume=0x00181041,
               ContrastBolusTotalDose=0x00181044, PixelSpacing=0x00280030, SliceThickness=0x00180050,
               SliceLocation=0x00201041, SpacingBetweenSlices=0x00180088, ImagePositionPatient=0x00200032,
               ImageOrientationPatient=0x00200037, RescaleSlope=0x00281053, RescaleIntercept=0x00281052,
               LossyImageCompressionRatio=0x00282112),
    **_entries(b"IS", _integer, False, SeriesNumber=0x00200011, AcquisitionNumber=0x00200012,
               InstanceNumber=0x00200013, NumberOfFrames=0x00280008, TemporalPositionIdentifier=0x00200100),
    **_entries(b"US", _unsigned, False, Rows=0x00280010, Columns=0x00280011, SamplesPerPixel=0x00280002,
               BitsAllocated=0x00280100, BitsStored=0x00280101, HighBit=0x00280102, PixelRepresentation=0x00280103),
    **_entries(b"FD", _double, False, MonoenergeticEnergyEquivalent=0x0018937C),
    **_entries(b"SQ", _left_to_pydicom, False, AnatomicRegionSequence=0x00082218,
               ContrastBolusAgentSequence=0x00180012, ModalityLUTSequence=0x00283000,
               MultienergyCTProcessingSequence=0x00189363,
               SharedFunctionalGroupsSequence=0x52009229, PerFrameFunctionalGroupsSequence=0x52009230),
    0x00280120: _Entry("PixelPaddingValue", (b"US", b"SS"), None),
    0x00280121: _Entry("PixelPaddingRangeLimit", (b"US", b"SS"), None),
}  # fmt: skip
"""The elements that this package looks at, as in dicom_open.py."""
PADDING = (0x00280120, 0x00280121)
SLICE_TAGS = frozenset((0x00080018, 0x00200013, 0x00201041, 0x00200032))
"""SOP Instance UID, Instance Number, Slice Location and Image Position (Patient)."""
