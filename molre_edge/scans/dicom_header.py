"""A DICOM file's header as plain values: what kind of object it is, and where each of its slices lies.

Sources: DICOM PS3.3 C.7.6.2 (Image Plane), C.7.6.3 (Image Pixel), C.7.6.16 (Multi-frame Functional Groups), C.8.2 (CT
Image), C.11.1 (Modality LUT); PS3.10 (file format).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.errors import ScanError
from molre_edge.scans.limits import MAX_FILE_BYTES, check_size
from molre_edge.scans.quiet import quietly

if TYPE_CHECKING:
    from pydicom import FileDataset

__all__ = ["DicomHeader", "Frame", "open_dicom", "read_header", "read_image_header"]

_DEFLATED = "1.2.840.10008.1.2.1.99"
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "PatientID", "SeriesInstanceUID", "Modality", "ImageType",
    "SeriesNumber", "BodyPartExamined", "ConvolutionKernel", "ContrastBolusAgent", "Manufacturer",
    "ManufacturerModelName", "LossyImageCompression", "AcquisitionNumber", "InstanceNumber", "NumberOfFrames", "Rows",
    "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelSpacing", "SliceThickness", "ImagePositionPatient",
    "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One slice of a file.

    Attributes:
        path: its file.
        index: its number in the file, from 0.
        position: (x, y, z) of the centre of the first pixel, in mm, LPS.
        orientation: direction of a row (of rising column index), then of a column, as unit vectors in LPS.
        pixel_mm: (row, col) distance between pixel centres.
        thickness_mm: as the header says, else None.
        slope: HU per stored value.
        intercept: HU of stored value 0.
        acquisition: AcquisitionNumber, or None.
    """

    path: Path
    index: int
    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    pixel_mm: tuple[float, float]
    thickness_mm: float | None
    slope: float
    intercept: float
    rescale_type: str
    acquisition: int | None


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


def open_dicom(path: Path, *, pixels: bool = False) -> FileDataset:
    """Read a file with pydicom, bounded in size.

    Args:
        path: the file; with or without preamble and file meta information.
        pixels: read everything; otherwise stop before the pixels and keep only the tags that this package looks at.

    Raises:
        ScanError: ``corrupt_header``, ``empty_file``, ``too_large`` or ``unreadable``.
    """
    import pydicom

    try:
        size = path.stat().st_size
        if size == 0:
            raise ScanError("empty_file", "the file has no content: copy it again from its source")
        if size > MAX_FILE_BYTES:
            raise ScanError("too_large", f"the file has {size} bytes; at most {MAX_FILE_BYTES} are read")
        with quietly():
            _check_deflated(path)
            wanted: dict[str, Any] = {} if pixels else {"stop_before_pixels": True, "specific_tags": _TAGS}
            dataset = pydicom.dcmread(path, force=True, **wanted)
    except ScanError:
        raise
    except PermissionError as error:
        raise ScanError("unreadable", "the file can't be opened: permission denied") from error
    except OSError as error:
        raise ScanError("unreadable", f"the file can't be read: {error.strerror or 'input/output error'}") from error
    except Exception as error:  # pydicom raises nearly anything on broken files
        raise ScanError(
            "corrupt_header", "the DICOM header can't be read: copy the file again from its source"
        ) from error
    return dataset


def _check_deflated(path: Path) -> None:
    """Refuse a deflated file that would inflate beyond the limit: pydicom inflates it whole."""
    from pydicom.filereader import read_file_meta_info, read_preamble

    with path.open("rb") as file:
        head = file.read(132)
        if head[128:] != b"DICM":
            return
    try:
        meta = read_file_meta_info(path)
    except Exception:  # whatever is wrong with it, the reading proper will say
        return
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return
    with path.open("rb") as file:
        read_preamble(file, False)
        file.seek(132 + 12 + int(meta.get("FileMetaInformationGroupLength", 0)))
        inflate, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while block := inflate.unconsumed_tail or file.read(1 << 20):
            total += len(inflate.decompress(block, 1 << 24))
            if total > MAX_FILE_BYTES:
                raise ScanError("too_large", f"the deflated file holds more than {MAX_FILE_BYTES} bytes")
            if inflate.eof:
                return


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
            frames = tuple(_frames(path, dataset, header.frame_count))
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
    types = [str(value).upper() for value in _values(dataset.get("ImageType"))]
    for group in (*_groups(dataset, "Shared")[:1], *_groups(dataset, "PerFrame")):
        for item in group.get("CTImageFrameTypeSequence") or ():
            types += [word for value in _values(item.get("FrameType")) if (word := str(value).upper()) not in types]
    contrast = _text(dataset, "ContrastBolusAgent").upper()
    return DicomHeader(
        path=path,
        sop_class=_text(dataset, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID"),
        sop_uid=_text(dataset, "SOPInstanceUID"),
        study=f"{uid} {_text(dataset, 'PatientID')}" if (uid := _text(dataset, "StudyInstanceUID")) else "",
        series=_text(dataset, "SeriesInstanceUID"),
        series_number=_number(dataset, "SeriesNumber", 2**31),
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


def _values(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


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


def _groups(dataset: FileDataset, which: str) -> list[Any]:
    return list(dataset.get(f"{which}FunctionalGroupsSequence") or ())


def _frames(path: Path, dataset: FileDataset, count: int) -> Iterator[Frame]:
    shared, each = _groups(dataset, "Shared"), _groups(dataset, "PerFrame")
    if not shared and not each:
        if count > 1:
            raise ScanError(
                "no_geometry", f"{count} frames without functional groups: their positions are unknown; export slices"
            )
        yield _frame(path, 0, [dataset])
        return
    if len(each) != count:
        raise ScanError("corrupt_header", f"{count} frames, but positions for {len(each)}: export the series again")
    for index, group in enumerate(each):
        items: list[Any] = []
        for source in (group, *shared[:1]):
            for name in (
                "PlanePositionSequence",
                "PlaneOrientationSequence",
                "PixelMeasuresSequence",
                "PixelValueTransformationSequence",
                "FrameContentSequence",
            ):
                items += list(source.get(name) or ())[:1]
        yield _frame(path, index, [*items, dataset])


def _frame(path: Path, index: int, sources: list[Any]) -> Frame:
    def find(name: str) -> Any:
        return next((value for source in sources if (value := source.get(name)) not in (None, "")), None)

    def numbers(name: str, count: int) -> tuple[float, ...]:
        value = find(name)
        result = tuple(float(part) for part in _values(value)) if value is not None else ()
        if len(result) != count or not all(abs(part) < 1e6 for part in result):
            raise ScanError(
                "no_geometry",
                f"{name} is missing or is not {count} finite numbers, so the slice has no place: export the series again",
            )
        return result

    if find("ModalityLUTSequence"):
        raise ScanError(
            "not_hounsfield", "the values go through a lookup table: expected a rescale slope and intercept"
        )
    slope, intercept, thickness = find("RescaleSlope"), find("RescaleIntercept"), find("SliceThickness")
    if slope is None or intercept is None:
        raise ScanError(
            "not_hounsfield",
            "there is no rescale slope and intercept to Hounsfield units: export the original CT series",
        )
    if not (1e-6 < abs(float(slope)) < 1e4 and abs(float(intercept)) < 1e6):
        raise ScanError(
            "not_hounsfield", "the rescale slope or intercept is not a usable number: export the series again"
        )
    acquisition = find("AcquisitionNumber") or find("FrameAcquisitionNumber")
    pixel = numbers("PixelSpacing", 2)
    if not all(0.05 <= side <= 10.0 for side in pixel):
        raise ScanError("no_geometry", "the pixel spacing is outside 0.05 to 10 mm: export the original series")
    return Frame(
        path=path,
        index=index,
        position=numbers("ImagePositionPatient", 3),  # type: ignore[arg-type]
        orientation=numbers("ImageOrientationPatient", 6),  # type: ignore[arg-type]
        pixel_mm=pixel,  # type: ignore[arg-type]
        thickness_mm=float(thickness) if thickness is not None and 0.0 < float(thickness) < 100.0 else None,
        slope=float(slope),
        intercept=float(intercept),
        rescale_type=str(find("RescaleType") or "").strip().upper(),
        acquisition=None if acquisition is None else int(acquisition),
    )
