"""A DICOM file's header as plain values: what kind of object it is, and its slices.

Sources: DICOM PS3.3 C.7.6.1 (General Image), C.7.6.3 (Image Pixel), C.7.5.1 (padding), C.8.2.1 (CT Image).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_access import Attributes, frame_attributes, values_of
from molre_edge.scans.dicom_frames import Frame, read_frames
from molre_edge.scans.dicom_open import open_dicom
from molre_edge.scans.dicom_plain import PlainHeader
from molre_edge.scans.limits import check_size
from molre_edge.scans.quiet import quietly
from molre_edge.scans.scan_records import FoundFile
from molre_edge.scans.traits import CALCULATION, read_file_identity
from molre_edge.scans.with_values import with_values

if TYPE_CHECKING:
    from pydicom import FileDataset

__all__ = [
    "DicomHeader",
    "read_header",
    "read_image_header",
    "read_plain_header",
    "read_plain_image_header",
    "with_frames",
]


@dataclass(frozen=True)
class DicomHeader:
    """What one file says about itself; `frames` only where :func:`read_image_header` was asked.

    Attributes:
        path: the file.
        sop_class: UID of the object's class, empty when absent.
        sop_uid: UID of the object itself.
        study: UID of the study, empty when absent. Never shown.
        patient: values of `PATIENT`. Never shown.
        origin: values of `ORIGIN`. Never shown.
        series: UID of the series, empty when absent.
        series_number: for a stable order.
        syntax: UID of the transfer syntax.
        modality: ``CT``, ``MR`` and so on, upper case.
        image_types: the values of Image Type, with those of Frame Type, upper case; each kind of frame once.
        body_part: Body Part Examined, else the meaning of the anatomic region's code; upper case, empty when absent.
        lossy: whether the header says that the pixels were compressed with loss at some time.
        scanner: manufacturer and model.
        has_pixels: whether rows and columns are there.
        rows: of each frame.
        cols: of each frame.
        frame_count: number of frames.
        samples: values a pixel: 1, or 3 for colour.
        photometric: how values become a picture, upper case, such as ``MONOCHROME2``; empty when absent.
        bits_allocated: bits a value.
        padding: lowest and highest stored value that stand for no tissue.
        frames: its slices.
        problem: why it can't be part of a volume.
        on_disk: size and times of the file, from before it was opened.
    """

    path: Path
    sop_class: str
    sop_uid: str
    study: str
    patient: tuple[str, ...]
    origin: tuple[str, ...]
    series: str
    series_number: int
    syntax: str
    modality: str
    image_types: tuple[tuple[str, ...], ...]
    body_part: str
    lossy: bool
    scanner: str
    has_pixels: bool
    rows: int = 0
    cols: int = 0
    frame_count: int = 1
    samples: int = 1
    photometric: str = ""
    bits_allocated: int = 0
    padding: tuple[int, int] | None = None
    frames: tuple[Frame, ...] = ()
    problem: ScanError | None = None
    on_disk: FoundFile | None = None

    def digest(self) -> str:
        """SHA-256 (hexadecimal) over what the header says: whether a file that is read is the one that was found."""
        frames = [(one.position, one.traits.instance, one.traits.location_mm) for one in self.frames]
        return hashlib.sha256(self.common_digest + _bytes_of((self.sop_uid, frames))).hexdigest()

    @cached_property
    def common_digest(self) -> bytes:
        """SHA-256 over what slices of a series have in common, as dicom_similar.py knows it."""
        facts = (self.sop_class, self.study, self.patient, self.series, self.syntax, self.padding)
        traits = [with_values(one.traits, instance=None, location_mm=None) for one in self.frames]
        frames = [
            (one.orientation, one.pixel_mm, one.slope, one.intercept, each)
            for one, each in zip(self.frames, traits, strict=True)
        ]
        return hashlib.sha256(_bytes_of((facts, frames))).digest()


def _bytes_of(values: object) -> bytes:
    return repr(values).encode("utf-8", "surrogatepass")


def read_header(path: Path, dataset: FileDataset | None = None) -> DicomHeader:
    """Read what kind of object a file holds. Slices are not looked at.

    Args:
        path: the file.
        dataset: what :func:`open_dicom` made of it, when that was done already.

    Raises:
        ScanError: as :func:`open_dicom`, and ``corrupt_header`` when the file says neither its class nor its modality.
    """
    return _checked(path, dataset if dataset is not None else open_dicom(path))


def read_image_header(path: Path, dataset: FileDataset | None = None, header: DicomHeader | None = None) -> DicomHeader:
    """Read a CT image's header with its slices.

    Args:
        path: the file.
        dataset: what :func:`open_dicom` made of it, when that was done already.
        header: what :func:`read_header` made of that.

    Raises:
        ScanError: as :func:`read_header`, and ``no_geometry``, ``not_hounsfield`` or ``too_large``.
    """
    dataset = dataset if dataset is not None else open_dicom(path)
    header = header or _checked(path, dataset)
    try:
        with quietly():
            return with_frames(header, dataset)
    except ScanError:
        raise
    except Exception as error:
        raise _unreadable(dataset) from error


def with_frames(header: DicomHeader, dataset: FileDataset | PlainHeader) -> DicomHeader:
    """The header with its slices.

    Raises:
        ScanError: as :func:`read_image_header`; and whatever a value that breaks its type raises.
    """
    check_size(header.frame_count, header.rows, header.cols)
    return replace(header, frames=tuple(read_frames(header.path, dataset, header.frame_count)))


def read_plain_header(path: Path, plain: PlainHeader, on_disk: FoundFile | None = None) -> DicomHeader | None:
    """As :func:`read_header`, of what :func:`parse_plain` made of a file; None where pydicom has to look."""
    try:
        header = _header(path, plain, on_disk)
    except (ScanError, ValueError, TypeError, OverflowError):
        return None
    return header if header.sop_class or header.modality else None


def _checked(path: Path, dataset: FileDataset) -> DicomHeader:
    try:
        with quietly():
            header = _header(path, dataset)
    except Exception as error:
        raise _unreadable(dataset) from error
    if not header.sop_class and not header.modality:
        raise ScanError(
            "corrupt_header",
            "the file looks like DICOM but says neither its SOP class nor its modality: export it again",
        )
    return header


def _unreadable(dataset: FileDataset) -> ScanError:
    """Names the element whose value breaks its type."""
    names = []
    with quietly():
        for tag in list(dataset.keys()):  # iterating itself would read the values
            try:
                element = dataset[tag]
                for value in values_of(element.value) if element.VR in ("DS", "IS") else ():
                    float(value)
            except Exception:  # pydicom raises nearly anything on broken values
                from pydicom.datadict import keyword_for_tag

                names.append(f"{keyword_for_tag(tag) or 'an element'} ({tag.group:04X},{tag.element:04X})")
    which = " and ".join(names[:2]) or "of the DICOM header"
    return ScanError(
        "corrupt_header", f"a value {'in ' if names else ''}{which} can't be read: export the series again"
    )


def _text(dataset: Any, name: str) -> str:
    value = dataset.get(name)
    if type(value) is str:
        return value.strip()
    return "" if value is None else " ".join(str(part) for part in values_of(value)).strip()


def _number(dataset: Any, name: str, default: int) -> int:
    value = dataset.get(name)
    return default if value is None or value == "" else int(value)


def read_plain_image_header(path: Path, plain: PlainHeader) -> DicomHeader | None:
    """As :func:`read_image_header`, of what :func:`parse_plain` made of a file; None where pydicom has to look."""
    header = read_plain_header(path, plain)
    try:
        return None if header is None else with_frames(header, plain)
    except (ScanError, ValueError, TypeError, OverflowError):
        return None


def _header(path: Path, dataset: FileDataset | PlainHeader, on_disk: FoundFile | None = None) -> DicomHeader:
    meta = getattr(dataset, "file_meta", {})
    frame_count = max(_number(dataset, "NumberOfFrames", 1), 1)
    attributes = _first_frame(dataset, frame_count)
    patient, origin, _ = read_file_identity(dataset)
    number = attributes.number("SeriesNumber")
    return DicomHeader(
        path=path,
        sop_class=_text(dataset, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID"),
        sop_uid=_text(dataset, "SOPInstanceUID"),
        study=_text(dataset, "StudyInstanceUID"),
        patient=patient,
        origin=origin,
        series=_text(dataset, "SeriesInstanceUID"),
        series_number=2**31 if number is None else int(number),
        syntax=_text(meta, "TransferSyntaxUID") or _implied_syntax(dataset),
        modality=_text(dataset, "Modality").upper(),
        image_types=_image_types(dataset),
        body_part=_body_part(attributes),
        lossy=_was_lossy(dataset),
        scanner=" ".join(filter(None, (_text(dataset, "Manufacturer"), _text(dataset, "ManufacturerModelName")))),
        has_pixels="Rows" in dataset and "Columns" in dataset,
        rows=_number(dataset, "Rows", 0),
        cols=_number(dataset, "Columns", 0),
        frame_count=frame_count,
        samples=_number(dataset, "SamplesPerPixel", 1),
        photometric=_text(dataset, "PhotometricInterpretation").upper(),
        bits_allocated=_number(dataset, "BitsAllocated", 16),
        padding=_padding(dataset),
        on_disk=on_disk,
    )


def _first_frame(dataset: FileDataset | PlainHeader, count: int) -> Attributes:
    try:
        return next(frame_attributes(dataset, count))
    except ScanError:  # whatever is wrong with the groups, reading the slices says so
        return Attributes([dataset], dataset)


def _was_lossy(dataset: FileDataset | PlainHeader) -> bool:
    """Whether the header tells of loss: by its own element, or where that is missing by method and ratio (C.7.6.1)."""
    if stated := _text(dataset, "LossyImageCompression"):
        return stated == "01"
    ratios = [float(value) for value in values_of(dataset.get("LossyImageCompressionRatio")) if value != ""]
    return bool(_text(dataset, "LossyImageCompressionMethod")) or any(ratio > 1.0 for ratio in ratios)


def _image_types(dataset: FileDataset | PlainHeader) -> tuple[tuple[str, ...], ...]:
    """Image Type with each Frame Type, and how either was calculated; one entry for each kind of frame."""
    whole = _type_words(dataset, "ImageType")
    kinds: dict[tuple[str, ...], None] = {}
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(name) or ():
            for item in group.get("CTImageFrameTypeSequence") or ():
                words = _type_words(item, "FrameType")
                also = whole if name.startswith("Shared") else []  # of a mixed file, it is that of other frames
                kinds[tuple(words + [word for word in also if word not in words])] = None
    return tuple(kinds) or (tuple(whole),)


def _type_words(place: Any, name: str) -> list[str]:
    values = [value for each in (name, *CALCULATION) for value in values_of(place.get(each))]
    return [str(value).strip().upper() for value in values]


def _body_part(attributes: Attributes) -> str:
    if part := attributes.text("BodyPartExamined"):
        return part.upper()
    regions = attributes.items("AnatomicRegionSequence")
    return str(regions[0].get("CodeMeaning") or "").strip().upper() if regions else ""


def _implied_syntax(dataset: FileDataset | PlainHeader) -> str:
    """The syntax that pydicom guessed for a file without meta information."""
    if isinstance(dataset, PlainHeader):
        return ""
    implicit, little = dataset.original_encoding
    if little is False:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"


def _padding(dataset: FileDataset | PlainHeader) -> tuple[int, int] | None:
    """Lowest and highest stored value that stand for no tissue (PS3.3 C.7.5.1.1.2).

    They are of the pixels' bits and sign, whatever value representation a writer gave them: 65535 may be -1.
    """
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None or isinstance(value, bytes):
        return None
    bits = _number(dataset, "BitsStored", 0) or _number(dataset, "BitsAllocated", 16)
    signed = _number(dataset, "PixelRepresentation", 0) == 1
    both = value, value if limit is None or isinstance(limit, bytes) else limit
    ends = sorted(_in_bits(int(end), bits, signed) for end in both)
    return ends[0], ends[1]


def _in_bits(value: int, bits: int, signed: bool) -> int:
    """A number by its lowest bits."""
    if not 1 <= bits <= 32:  # refused with the pixels
        return value
    pattern, sign = value & ((1 << bits) - 1), 1 << (bits - 1)
    return (pattern ^ sign) - sign if signed else pattern
