"""Opens a DICOM file with pydicom, within bounds, and keeps only the tags that this package looks at."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.errors import ScanError
from molre_edge.scans.limits import MAX_FILE_BYTES, MAX_INFLATED_BYTES
from molre_edge.scans.quiet import quietly

if TYPE_CHECKING:
    from pydicom import FileDataset

__all__ = ["open_dicom"]

_DEFLATED = "1.2.840.10008.1.2.1.99"
_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "PatientAge", "StudyDate", "StudyID", "AccessionNumber", "SeriesInstanceUID", "SeriesDescription", "SeriesDate",
    "SeriesTime", "ProtocolName", "FrameOfReferenceUID", "Modality", "ImageType", "SeriesNumber", "BodyPartExamined",
    "AnatomicRegionSequence", "ConvolutionKernel", "KVP", "MonoenergeticEnergyEquivalent", "ContrastBolusAgent",
    "ContrastBolusAgentSequence", "ContrastBolusVolume", "ContrastBolusTotalDose", "Manufacturer",
    "ManufacturerModelName", "LossyImageCompression", "AcquisitionNumber", "InstanceNumber", "NumberOfFrames", "Rows",
    "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "PixelSpacing", "SliceThickness", "SliceLocation", "SpacingBetweenSlices",
    "TemporalPositionIdentifier", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


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
            if total > MAX_INFLATED_BYTES:
                raise ScanError("too_large", f"the deflated file holds more than {MAX_INFLATED_BYTES} bytes")
            if inflate.eof:
                return
