"""What must be one within a volume: of whom, of what, and how made. Read from the header of each frame.

Values that could name a person are only compared, never shown.
Sources: DICOM PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.3.1 (General Series), C.7.4.1 (Frame of Reference),
C.7.5.1 (General Equipment), C.8.2.1.1.1 and C.8.16.1 (Image Type), C.8.15.3.6 (CT Reconstruction), C.8.15.3.9 (CT
X-Ray Details), C.8.15.3.12 (Multi-energy CT Characteristics), C.11.1.1.2 (Rescale Type).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from molre_edge.scans.contrast import has_contrast
from molre_edge.scans.dicom_access import Attributes
from molre_edge.scans.dicom_plain import PlainHeader

__all__ = [
    "CALCULATION",
    "HOUNSFIELD_TYPES",
    "ORIGIN",
    "PATIENT",
    "SERIES",
    "Traits",
    "image_words",
    "read_file_identity",
    "read_traits",
    "whole_number",
]

PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge")
"""Of whom. The first three also tell studies apart."""
ORIGIN = ("StudyInstanceUID", "StudyDate", "StudyID", "AccessionNumber", "Manufacturer", "ManufacturerModelName")
"""Of which visit, on which scanner."""
SERIES = ("SeriesDescription", "ProtocolName", "SeriesDate", "SeriesTime")
"""Of which series; equal in all its instances."""
CALCULATION = ("VolumetricProperties", "VolumeBasedCalculationTechnique")
"""How an enhanced CT frame was calculated from a volume: its words count as those of its type (C.8.16.2.1.2)."""
HOUNSFIELD_TYPES = ("", "HU", "US", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "HOUNSFIELD_UNITS")
"""Rescale Type (0028,1054): HU, what writers put for it, and those that leave it open."""
MULTI_ENERGY = ("VMI", "MAT_REMOVED", "MAT_MODIFIED", "MONO", "MONO_E", "MONOENERGETIC", "MONOCHROMATIC")
"""Image Type values of multi-energy images that may be in Hounsfield units: virtual mono-energetic, and with a material
removed or modified; the words of the standard first, then those of makers."""
_VIRTUAL = " keV"
"""Unit of Monoenergetic Energy Equivalent; a tube's voltage is in kV."""


@dataclass(frozen=True)
class Traits:
    """What one frame says about itself, besides its place.

    Attributes:
        patient: values of `PATIENT`.
        origin: values of `ORIGIN`.
        series: values of `SERIES`.
        frame_of_reference: UID, or empty.
        size: (rows, cols).
        image_type: values of Frame Type, or of Image Type where there is none, upper case; then of `CALCULATION`.
        unit: Rescale Type, upper case; empty when absent.
        energy: such as ``120 kV`` or ``70 keV``; empty when absent.
        contrast: whether an agent was given.
        kernel: name and group, empty when absent.
        acquisition: number, or None.
        moment: number of the point in time, of dynamic CT, or None.
        stack: Stack ID of a multi-frame file, or empty.
        instance: Instance Number of the file, or None.
        location_mm: Slice Location, or None.
        spacing_mm: Spacing Between Slices, or None.
        sides: values of Patient Orientation: to which side of the body a row and a column run, such as ``L`` and ``P``.
    """

    patient: tuple[str, ...]
    origin: tuple[str, ...]
    series: tuple[str, ...]
    frame_of_reference: str
    size: tuple[int, int]
    image_type: tuple[str, ...]
    unit: str
    energy: str
    contrast: bool
    kernel: str
    acquisition: int | None
    moment: int | None
    stack: str
    instance: int | None
    location_mm: float | None
    spacing_mm: float | None
    sides: tuple[str, ...]

    @property
    def derived(self) -> bool:
        """Whether it was computed from other images (first value of the image type)."""
        return self.image_type[:1] == ("DERIVED",)

    @property
    def multi_energy(self) -> str:
        """The word, or the energy, that makes it a multi-energy image, else empty."""
        words = image_words(self.image_type)
        stated = self.energy if self.energy.endswith(_VIRTUAL) else ""
        return next((word for word in MULTI_ENERGY if word in words), stated)


@lru_cache(256)
def image_words(image_type: tuple[str, ...]) -> frozenset[str]:
    """The values of an image type, the words within each, and their parts: makers write several into one.

    ``CT_SOM5 MIP`` and ``DE_VNC`` are examples. ``3D`` counts by itself only: in ``AIDR_3D_STD``, Canon's noise
    reduction, it says nothing about the picture.
    """
    words = {word for value in image_type for word in (value, *value.split())}
    return frozenset(words | {part for word in words for part in word.split("_") if part != "3D"})


def read_file_identity(dataset: Any) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Patient, origin and series of a file, as stored: fast, for comparing only."""
    return _raw(dataset, PATIENT), _raw(dataset, ORIGIN), _raw(dataset, SERIES)


def read_traits(
    attributes: Attributes, identity: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], size: tuple[int, int]
) -> Traits:
    """Read the traits of a frame.

    Args:
        attributes: of the frame.
        identity: of its file, from :func:`read_file_identity`.
        size: (rows, cols).
    """
    return Traits(
        *identity,
        frame_of_reference=attributes.text("FrameOfReferenceUID"),
        size=size,
        image_type=_image_type(attributes),
        unit=attributes.text("RescaleType").upper(),
        energy=_energy(attributes),
        contrast=has_contrast(attributes),
        kernel=" ".join(
            filter(None, (attributes.text("ConvolutionKernel"), attributes.text("ConvolutionKernelGroup")))
        ),
        acquisition=whole_number(attributes, "AcquisitionNumber", "FrameAcquisitionNumber"),
        moment=whole_number(attributes, "TemporalPositionIndex", "TemporalPositionIdentifier"),
        stack=attributes.text("StackID"),
        instance=whole_number(attributes, "InstanceNumber"),
        location_mm=attributes.number("SliceLocation"),
        spacing_mm=attributes.number("SpacingBetweenSlices"),
        sides=attributes.words("PatientOrientation"),
    )


def _image_type(attributes: Attributes) -> tuple[str, ...]:
    frame, whole = attributes.words("FrameType"), attributes.words("ImageType")
    how = tuple(word for name in CALCULATION for word in attributes.words(name))
    if attributes.has_own_type and frame:
        return frame + how
    return (*frame, *(word for word in whole if word not in frame), *how)


def _energy(attributes: Attributes) -> str:
    virtual = attributes.number("MonoenergeticEnergyEquivalent")
    if virtual:
        return f"{virtual:g}{_VIRTUAL}"
    kilovolts = attributes.number("KVP")
    return f"{kilovolts:g} kV" if kilovolts else ""


def whole_number(attributes: Attributes, *names: str) -> int | None:
    """The first of some attributes that is a number, as a whole one."""
    for name in names:
        value = attributes.number(name)
        if value is not None:
            return int(value)
    return None


@lru_cache(maxsize=64)
def _tag(name: str) -> int:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(name)
    assert tag is not None
    return tag


def _raw(dataset: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(dataset, PlainHeader):
        return dataset.identity(names)
    values = []
    for name in names:
        item = dataset.get_item(_tag(name))
        value = None if item is None else item.value
        text = value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)
        values.append(text.strip(" \0^").upper())
    return tuple(values)
