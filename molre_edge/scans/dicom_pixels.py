"""Decodes a DICOM file's frames to stored values, and those to Hounsfield units.

pydicom decodes native, deflated and RLE data, with pyjpegls JPEG-LS and with pylibjpeg-openjpeg JPEG 2000. JPEG
Lossless goes through SimpleITK's GDCM, since pylibjpeg's decoder for it is GPL.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.codestream import read_codestream
from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.dicom_header import DicomHeader
from molre_edge.scans.dicom_kind import syntax_name
from molre_edge.scans.quiet import quietly, stderr_of_libraries
from molre_edge.specs import HU_MIN

if TYPE_CHECKING:
    from pydicom import FileDataset

__all__ = ["MAX_NEAR_HU", "DecodedFrame", "decode_frames", "to_hounsfield"]

MAX_NEAR_HU = 5.0
"""Largest error of a near-lossless value that is accepted, with a warning: below the noise of a head CT."""
PADDING_IS_TISSUE_HU = -500.0
"""A padding value above this (some writers say 0) also occurs in tissue: it is replaced only from the border in."""
_RLE = "1.2.840.10008.1.2.5"
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")

DecodedFrame = tuple[npt.NDArray[np.integer[Any]], int]
"""Stored values (rows, cols), integers; and the largest error of a stored value."""


def decode_frames(dataset: FileDataset, header: DicomHeader) -> Iterator[DecodedFrame]:
    """Decode the frames of a file in order.

    Args:
        dataset: the file, with its pixels.
        header: its header.

    Yields:
        Stored values, int16, uint16 or another integer type (rows, cols), and their largest error.

    Raises:
        ScanError: ``corrupt_pixels``, ``lossy`` or ``unsupported_syntax``.
    """
    with _decoding(header):
        errors = _check_codestreams(dataset, header)
    frames = (_decode_jpeg_lossless if header.syntax in _JPEG_LOSSLESS else _decode_with_pydicom)(dataset, header)
    for error in errors:
        with _decoding(header):
            frame = next(frames)
        if frame.shape != (header.rows, header.cols) or frame.dtype.kind not in "iu":
            raise ScanError("corrupt_pixels", "a decoded slice has another size than its header says")
        yield frame, error


@contextlib.contextmanager
def _decoding(header: DicomHeader) -> Iterator[None]:
    try:
        with quietly():
            yield
    except (ScanError, MemoryError):
        raise
    except Exception as error:  # the decoders raise nearly anything on broken data
        name = syntax_name(header.syntax)
        raise ScanError(
            "corrupt_pixels",
            f"the pixels ({name}) can't be decoded or end too early: copy the file again from its source",
        ) from error


def _check_codestreams(dataset: FileDataset, header: DicomHeader) -> list[int]:
    """Refuse frames whose own size is another than the header's; return the largest error of each."""
    from pydicom.encaps import generate_frames
    from pydicom.uid import UID

    expected = header.rows * header.cols * header.bits_allocated // 8
    if not UID(header.syntax).is_encapsulated:
        if len(dataset.PixelData) < expected * header.frame_count:
            raise ScanError("corrupt_pixels", "the pixels end too early: copy the file again from its source")
        return [0] * header.frame_count
    errors = []
    for data in generate_frames(dataset.PixelData, number_of_frames=header.frame_count):
        if len(data) > 2 * expected + 65536:
            raise ScanError("corrupt_pixels", "a compressed slice is larger than its pixels: export the series again")
        if header.syntax == _RLE:
            errors.append(0)
            continue
        stream = read_codestream(data)
        if stream is None:
            raise ScanError("corrupt_pixels", "a compressed slice has no valid start: export the series again")
        if (stream.rows, stream.cols) != (header.rows, header.cols):
            raise ScanError("corrupt_pixels", "a compressed slice has another size than its header says")
        if not stream.reversible:
            raise ScanError(
                "lossy", "the slices were compressed with a transformation that loses detail: give the original"
            )
        errors.append(stream.near)
    if len(errors) != header.frame_count:
        raise ScanError("corrupt_pixels", f"{header.frame_count} frames were announced, {len(errors)} are there")
    return errors


def _decode_with_pydicom(dataset: FileDataset, _: DicomHeader) -> Iterator[npt.NDArray[np.integer[Any]]]:
    from pydicom.pixels.utils import iter_pixels

    yield from iter_pixels(dataset, raw=True)


def _decode_jpeg_lossless(dataset: FileDataset, header: DicomHeader) -> Iterator[npt.NDArray[np.integer[Any]]]:
    """One frame at a time through a temporary file that holds nothing but the pixels."""
    import SimpleITK as sitk
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

    with tempfile.TemporaryDirectory(prefix="molre-edge-") as folder:
        path = Path(folder) / "frame.dcm"
        for data in generate_frames(dataset.PixelData, number_of_frames=header.frame_count):
            bare = Dataset()
            bare.file_meta = FileMetaDataset()
            bare.file_meta.TransferSyntaxUID = UID(header.syntax)
            bare.SOPClassUID = bare.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
            bare.SOPInstanceUID = bare.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
            for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
                setattr(bare, name, dataset[name].value)
            bare.SamplesPerPixel = 1
            bare.PhotometricInterpretation = "MONOCHROME2"
            bare.PixelData = encapsulate([data])
            bare["PixelData"].VR = "OB"
            bare.save_as(path, enforce_file_format=True)
            with stderr_of_libraries() as said:
                image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
            if said:
                raise ScanError("corrupt_pixels", "a compressed slice is damaged: copy the file again from its source")
            yield sitk.GetArrayFromImage(image)[0]


def _from_border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The connected parts of a mask that touch the picture's border."""
    import SimpleITK as sitk

    connected: Any = sitk.ConnectedComponent
    labels = sitk.GetArrayFromImage(connected(sitk.GetImageFromArray(mask.astype(np.uint8))))
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    touching: npt.NDArray[np.bool_] = np.isin(labels, border[border > 0])
    return touching


def to_hounsfield(
    stored: npt.NDArray[np.integer[Any]], frame: Frame, padding: tuple[int, int] | None
) -> npt.NDArray[np.float32]:
    """Rescale stored values; padding and everything below become air.

    Args:
        stored: integers (rows, cols).
        frame: for slope and intercept.
        padding: lowest and highest stored value outside the picture, or None.

    Returns:
        float32 (rows, cols), HU, at least -1024.
    """
    hu = stored.astype(np.float64) * frame.slope + frame.intercept
    if padding is not None:
        outside = (stored >= padding[0]) & (stored <= padding[1])
        if max(value * frame.slope + frame.intercept for value in padding) > PADDING_IS_TISSUE_HU and outside.any():
            outside = _from_border(outside)
        hu[outside] = HU_MIN
    return np.maximum(hu, HU_MIN).astype(np.float32)
