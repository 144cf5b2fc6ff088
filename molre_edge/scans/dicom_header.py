"""A DICOM file's header as plain values: what kind of object it is, and its slices.

Sources: DICOM PS3.3 C.7.6.1 (General Image), C.7.6.3 (Image Pixel), C.7.5.1 (padding), C.8.2.1 (CT Image).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_frames import Frame, functional_groups, read_frames, values_of
from molre_edge.scans.dicom_open import open_dicom
from molre_edge.scans.limits import check_size
from molre_edge.scans.quiet import quietly

if TYPE_CHECKING:
    from pydicom import FileDataset

__all__ = ["DicomHeader", "read_header", "read_image_header"]


@dataclass(frozen=True)
class DicomHeader:
    """What one file says about itself; `frames` only where :func:`read_image_header` was asked.

    Attributes:
        path: the file.
        sop_class: UID of the object's class, empty when absent.
        sop_uid: UID of the object itself.
        study: key of the study: UID and patient (some anonymisers give all one UID), or empty. Never shown.
        series: UID of the series, empty when absent.
        series_number: for a stable order.
        syntax: UID of the transfer syntax.
        modality: ``CT``, ``MR`` and so on, upper case.
        image_type: the values of Image Type and of every frame type, upper case.
        body_part: upper case, empty when absent.
        kernel: convolution kernel, empty when absent.
        contrast: whether a contrast agent is named.
        lossy: whether the header says that the pixels were compressed with loss at some time.
        scanner: manufacturer and model.
        has_pixels: whether rows and columns are there.
        rows: of each frame.
        cols: of each frame.
        frame_count: number of frames.
        samples: values a pixel: 1, or 3 for colour.
        bits_allocated: bits a value.
        padding: lowest and highest stored value that stand for no tissue.
        frames: its slices.
        problem: why it can't be part of a volume.
    """

    path: Path
    sop_class: str
    sop_uid: str
    study: str
    series: str
    series_number: int
    syntax: str
    modality: str
    image_type: tuple[str, ...]
    body_part: str
    kernel: str
    contrast: bool
    lossy: bool
    scanner: str
    has_pixels: bool
    rows: int = 0
    cols: int = 0
    frame_count: int = 1
    samples: int = 1
    bits_allocated: int = 0
    padding: tuple[int, int] | None = None
    frames: tuple[Frame, ...] = ()
    problem: ScanError | None = None


def read_header(path: Path, dataset: FileDataset | None = None) -> DicomHeader:
    """Read what kind of object a file holds. Slices are not looked at.

    Args:
        path: the file.
        dataset: what :func:`open_dicom` made of it, when that was done already.

    Raises:
        ScanError: as :func:`open_dicom`, and ``corrupt_header`` when the file says neither its class nor its modality.
    """
    return _checked(path, dataset if dataset is not None else open_dicom(path))[0]


def read_image_header(path: Path, dataset: FileDataset | None = None) -> DicomHeader:
    """Read a CT image's header with its slices.

    Args:
        path: the file.
        dataset: what :func:`open_dicom` made of it, when that was done already.

    Raises:
        ScanError: as :func:`read_header`, and ``no_geometry``, ``not_hounsfield`` or ``too_large``.
    """
    header, dataset = _checked(path, dataset if dataset is not None else open_dicom(path))
    check_size(header.frame_count, header.rows, header.cols)
    try:
        with quietly():
            frames = tuple(read_frames(path, dataset, header.frame_count))
    except ScanError:
        raise
    except Exception as error:
        raise ScanError(
            "corrupt_header", "a value of the DICOM header can't be read: export the series again"
        ) from error
    return replace(header, frames=frames)


def _checked(path: Path, dataset: FileDataset) -> tuple[DicomHeader, FileDataset]:
    try:
        with quietly():
            header = _header(path, dataset)
    except Exception as error:
        raise ScanError(
            "corrupt_header", "a value of the DICOM header can't be read: export the series again"
        ) from error
    if not header.sop_class and not header.modality:
        raise ScanError(
            "corrupt_header",
            "the file looks like DICOM but says neither its SOP class nor its modality: export it again",
        )
    return header, dataset


def _text(dataset: Any, name: str) -> str:
    value = dataset.get(name)
    if value is None:
        return ""
    if isinstance(value, str | bytes):
        return str(value).strip()
    return " ".join(str(part) for part in value).strip() if isinstance(value, Sequence) else str(value).strip()


def _number(dataset: Any, name: str, default: int) -> int:
    value = dataset.get(name)
    return default if value is None or value == "" else int(value)


def _header(path: Path, dataset: FileDataset) -> DicomHeader:
    meta = getattr(dataset, "file_meta", {})
    types = [str(value).upper() for value in values_of(dataset.get("ImageType"))]
    for group in (*functional_groups(dataset, "Shared")[:1], *functional_groups(dataset, "PerFrame")):
        for item in group.get("CTImageFrameTypeSequence") or ():
            types += [word for value in values_of(item.get("FrameType")) if (word := str(value).upper()) not in types]
    contrast = _text(dataset, "ContrastBolusAgent").upper()
    return DicomHeader(
        path=path,
        sop_class=_text(dataset, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID"),
        sop_uid=_text(dataset, "SOPInstanceUID"),
        study=f"{uid} {_text(dataset, 'PatientID')}" if (uid := _text(dataset, "StudyInstanceUID")) else "",
        series=_text(dataset, "SeriesInstanceUID"),
        series_number=_series_number(dataset),
        syntax=_text(meta, "TransferSyntaxUID") or _implied_syntax(dataset),
        modality=_text(dataset, "Modality").upper(),
        image_type=tuple(types),
        body_part=_text(dataset, "BodyPartExamined").upper(),
        kernel=_text(dataset, "ConvolutionKernel"),
        contrast=contrast not in ("", "NONE", "NO", "N", "UNKNOWN"),
        lossy=_text(dataset, "LossyImageCompression") == "01",
        scanner=" ".join(filter(None, (_text(dataset, "Manufacturer"), _text(dataset, "ManufacturerModelName")))),
        has_pixels="Rows" in dataset and "Columns" in dataset,
        rows=_number(dataset, "Rows", 0),
        cols=_number(dataset, "Columns", 0),
        frame_count=max(_number(dataset, "NumberOfFrames", 1), 1),
        samples=_number(dataset, "SamplesPerPixel", 1),
        bits_allocated=_number(dataset, "BitsAllocated", 16),
        padding=_padding(dataset),
    )


def _series_number(dataset: FileDataset) -> int:
    """For the order alone, so a number that is none is no reason against a scan."""
    try:
        return _number(dataset, "SeriesNumber", 2**31)
    except (TypeError, ValueError, OverflowError):
        return 2**31


def _implied_syntax(dataset: FileDataset) -> str:
    """The syntax that pydicom guessed for a file without meta information."""
    implicit, little = dataset.original_encoding
    if little is False:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"


def _padding(dataset: FileDataset) -> tuple[int, int] | None:
    """Lowest and highest stored value that stand for no tissue (PS3.3 C.7.5.1.1.2)."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None or isinstance(value, bytes):
        return None
    ends = sorted((int(value), int(value if limit is None or isinstance(limit, bytes) else limit)))
    return ends[0], ends[1]
