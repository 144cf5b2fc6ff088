"""Names what a DICOM object is, from its header alone, and refuses what is no head CT volume.

Sources: DICOM PS3.4 B.5 (storage classes), PS3.3 C.8.2.1.1.1 and C.8.16.1 (image type values), PS3.5 A (syntaxes).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_header import DicomHeader
from molre_edge.scans.traits import image_words

__all__ = [
    "LOSSLESS",
    "check_frame_kind",
    "check_kind",
    "check_native_size",
    "check_storage",
    "is_encapsulated",
    "is_media_directory",
    "may_be_lossy",
    "syntax_name",
]

_CLASS = "1.2.840.10008.5.1.4.1.1."
_CT_CLASSES = (_CLASS + "2", _CLASS + "2.1", _CLASS + "2.2")
_SECONDARY_CLASSES = tuple(_CLASS + end for end in ("7", "7.1", "7.2", "7.3", "7.4"))
_OTHER_CLASSES = {
    _CLASS + "481.1": "a radiotherapy image",
    _CLASS + "481.2": "a radiotherapy dose",
    _CLASS + "481.3": "a radiotherapy structure set",
    _CLASS + "481.5": "a radiotherapy plan",
    _CLASS + "481.8": "a radiotherapy ion plan",
    _CLASS + "66.4": "a segmentation",
    _CLASS + "66.5": "a surface segmentation",
    _CLASS + "104.1": "a PDF document",
    _CLASS + "4": "a magnetic resonance image",
    _CLASS + "4.1": "a magnetic resonance image",
    _CLASS + "20": "a nuclear medicine image",
    _CLASS + "128": "a PET image",
    _CLASS + "30": "a parametric map",
}
_OTHER_FAMILIES = (
    (_CLASS + "88.", "a structured report"),
    (_CLASS + "9.", "a waveform such as an ECG"),
    (_CLASS + "11.", "a presentation state"),
    (_CLASS + "481.", "a radiotherapy object"),
    (_CLASS + "6.", "an ultrasound image"),
)
_MODALITIES = {"MR": "a magnetic resonance image", "PT": "a PET image", "SR": "a structured report"}
_DERIVED_MAPS = {
    "PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "TTD", "PBV", "PERMEABILITY", "FLOW", "MIP",
    "MINIP", "MAX_IP", "MIN_IP", "MAXIMUM", "MINIMUM", "PROJECTION", "VOLUME_RENDERING", "VOLREN", "VRT", "3D", "SSD",
    "SURFACE", "SUBTRACTION", "SUBTRACT", "DSA", "IODINE", "WATER_MAP", "VNC", "VNCA", "EFF_ATOMIC_NUM",
    "EFFECTIVE_Z", "ELECTRON_DENSITY", "RHO_Z", "MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "OVERLAY",
    "FUSED", "COLOR", "BONEREMOVAL", "BONE_REMOVAL", "CURVED", "PANORAMIC", "STDDEV", "STD_DEVIATION", "DIVISION",
    "MULTIPLICATION", "DENSITY_MAP", "SAMPLED", "DISTORTED", "VOLUME_RENDER", "SURFACE_RENDER", "CURVED_MPR",
}  # fmt: skip
"""Image Type values of pictures computed from CT that are no attenuation of the head's tissue. Those of the standard
are in PS3.3 C.8.2.1.1.1 (value 4, multi-energy), C.8.16.1.5 (pixel contrast) and C.8.16.2.1.2 (volumetric properties
and calculation technique), others are the makers'."""
_GREY = ("", "MONOCHROME1", "MONOCHROME2")
"""Photometric Interpretation of CT (C.8.2.1). It tells how values are shown; those of MONOCHROME1 are HU as well."""
_LOCALIZERS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"}
_NOT_HEAD = {
    "CHEST", "THORAX", "ABDOMEN", "PELVIS", "ABDOMENPELVIS", "CHESTABDOMEN", "CHESTABDPELVIS", 
    "LUNG", "LUNGS", "HEART", "CARDIAC", "LIVER", "KIDNEY", "BLADDER", "COLON", "PANCREAS", "LSPINE", "TSPINE",
    "LUMBARSPINE", "TLSPINE", "SSPINE", "COCCYX", "HIP", "KNEE", "LEG", "FOOT", "ANKLE", "ARM", "ELBOW", "HAND",
    "WRIST", "SHOULDER", "FEMUR", "TIBIA", "EXTREMITY", "FINGER", "TOE", "BREAST", "AORTA", "UPPERLEG", "LOWERLEG",
}  # fmt: skip
"""Body Part Examined values that exclude a head; others (absent, NECK, PARTIALBODY) are decided by the anatomy."""
_NOT_HEAD_REGIONS = {
    "CHESTABDOMENPELVIS", "THORACICSPINE", "LUMBARSPINE", "THORACOLUMBARSPINE", "SACRALSPINE", "LOWERLIMB", "UPPERLIMB",
    "LOWEREXTREMITY", "UPPEREXTREMITY",
}  # fmt: skip
"""Meanings of an anatomic region's code (PS3.16 CID 4030), without blanks, that exclude a head beside those."""

LOSSLESS = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
    "1.2.840.10008.1.2.5": "RLE Lossless",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless (process 14)",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless (process 14, SV1)",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000 with RPCL Lossless",
}
"""Transfer syntaxes that keep every value, with their names."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
_MAYBE_LOSSLESS = {"1.2.840.10008.1.2.4.91": "JPEG 2000", "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000"}
_LOSSY = {"1.2.840.10008.1.2.4.50": "JPEG Baseline", "1.2.840.10008.1.2.4.51": "JPEG Extended"}


def syntax_name(uid: str) -> str:
    """The name of a transfer syntax for messages and reports."""
    names = {**LOSSLESS, **_MAYBE_LOSSLESS, **_LOSSY, NEAR_LOSSLESS: "JPEG-LS Near-Lossless"}
    return names.get(uid, "an unknown transfer syntax")


def _is_native(uid: str) -> bool:
    """Whether a transfer syntax stores pixels as they are, so that their size is known."""
    return uid in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


def is_encapsulated(uid: str) -> bool:
    """Whether a transfer syntax compresses pixels, each frame by itself."""
    return not _is_native(uid) and uid != _DEFLATED


def may_be_lossy(uid: str) -> bool:
    """Whether a transfer syntax allows loss that its code stream can't exclude."""
    return uid in _MAYBE_LOSSLESS


def is_media_directory(header: DicomHeader) -> bool:
    """Whether the file is a DICOMDIR, by whatever name."""
    return header.sop_class == "1.2.840.10008.1.3.10"


def check_kind(header: DicomHeader) -> None:
    """Refuse an object that is no original or reformatted CT slice of a head.

    Raises:
        ScanError: ``not_ct``, ``localizer``, ``dose_page``, ``secondary_capture``, ``derived_map`` or ``not_head``.
    """
    what = _OTHER_CLASSES.get(header.sop_class) or next(
        (name for start, name in _OTHER_FAMILIES if header.sop_class.startswith(start)), None
    )
    if what is None and header.modality not in ("CT", ""):
        what = _MODALITIES.get(header.modality, "an object of another modality")
    if what:
        raise ScanError("not_ct", f"it is {what}, not CT: give a head CT series")
    kinds = [image_words(tuple(values)) for values in header.image_types]
    if all(words & _LOCALIZERS for words in kinds) and header.sop_class not in _SECONDARY_CLASSES:
        raise _localizer()
    screen = all("SCREEN SAVE" in values for values in header.image_types)
    if header.sop_class in _SECONDARY_CLASSES or header.samples != 1 or header.photometric not in _GREY or screen:
        if all(words & {"DOSE_INFO", "DOSE"} for words in kinds):
            raise ScanError("dose_page", "it is a dose page, not a slice: give the axial series")
        raise ScanError(
            "secondary_capture",
            "it is a secondary capture (a picture or scanned film) or has colours, not CT slices: give the original",
        )
    if header.sop_class and header.sop_class not in _CT_CLASSES:
        raise ScanError("not_ct", "its SOP class is not one of the CT image classes: give a head CT series")
    problems = [_frame_problem(values) for values in header.image_types]
    if problems[0] and all(problems):  # of a file with frames of several kinds, those that fit are taken
        raise problems[0]
    if re.sub(r"[ _,]|\bAND\b", "", header.body_part) in _NOT_HEAD | _NOT_HEAD_REGIONS:
        raise ScanError("not_head", "the header names another part of the body: give a head CT")
    if not header.has_pixels:
        raise ScanError("corrupt_header", "the CT image has no rows and columns: export the series again")


def check_frame_kind(image_type: Sequence[str]) -> None:
    """Refuse a frame that is no slice of CT values, by its Frame Type or Image Type.

    Raises:
        ScanError: ``localizer`` or ``derived_map``.
    """
    if problem := _frame_problem(image_type):
        raise problem


def _frame_problem(image_type: Sequence[str]) -> ScanError | None:
    words = image_words(tuple(image_type))
    if words & _LOCALIZERS:
        return _localizer()
    if words & _DERIVED_MAPS:
        return ScanError("derived_map", "it is a map computed from CT (perfusion, projection, material), not CT values")
    return None


def _localizer() -> ScanError:
    return ScanError("localizer", "it is a scout (localizer) view, not a slice: give the axial series")


def check_storage(header: DicomHeader) -> None:
    """Refuse compression that loses what matters, and syntaxes that can't be decoded.

    Near-lossless JPEG-LS passes here: its largest error is known only from its code stream.

    Raises:
        ScanError: ``lossy`` or ``unsupported_syntax``.
    """
    if header.syntax in _LOSSY or (header.lossy and header.syntax != NEAR_LOSSLESS):
        raise ScanError(
            "lossy",
            "the pixels were compressed with loss, so small differences in HU are gone: give the original series",
        )
    if header.syntax not in LOSSLESS and header.syntax not in _MAYBE_LOSSLESS and header.syntax != NEAR_LOSSLESS:
        raise ScanError(
            "unsupported_syntax", f"stored in {syntax_name(header.syntax)}: export as Explicit VR Little Endian"
        )


def check_native_size(header: DicomHeader, size: int | None) -> None:
    """Refuse a file that is too small for the pixels that it stores as they are.

    Args:
        header: of the file.
        size: of the file in bytes; None where it is not known.

    Raises:
        ScanError: ``corrupt_pixels``.
    """
    pixels = header.rows * header.cols * header.frame_count * header.bits_allocated // 8
    if _is_native(header.syntax) and size is not None and size < pixels:
        raise ScanError("corrupt_pixels", "the pixels end too early: copy the file again from its source")
