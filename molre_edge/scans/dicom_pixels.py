"""Decodes a DICOM file's frames to stored values.

pyjpegls decodes JPEG-LS, pylibjpeg-openjpeg JPEG 2000, pydicom RLE. JPEG Lossless goes through SimpleITK's GDCM, since
pylibjpeg's decoder for it is GPL. Each is asked for its samples as they are; :func:`stored_values` alone makes stored
values of them.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.codestream import read_codestream
from molre_edge.scans.dicom_header import DicomHeader
from molre_edge.scans.dicom_kind import is_encapsulated, syntax_name
from molre_edge.scans.quiet import quietly, stderr_of_libraries

if TYPE_CHECKING:
    from pydicom import FileDataset

    from molre_edge.scans.dicom_plain import PlainHeader

__all__ = [
    "DIRECT",
    "MAX_NEAR_HU",
    "DecodedFrame",
    "PixelBits",
    "Samples",
    "decode_frames",
    "decode_one",
    "most_stream_bytes",
    "pixel_bits",
    "stored_values",
]

MAX_NEAR_HU = 5.0
"""Largest error of a near-lossless value that is accepted, with a warning: below the noise of a head CT."""
_RLE, _BIG_ENDIAN = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.2"
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{end}" for end in (90, 91, 201, 202, 203))
_JPEG_END = b"\xff\xd9"
"""The last marker of a JPEG stream; JPEG-LS data can't hold it (ITU-T T.87 C.1, A.1)."""
DIRECT = frozenset((*_JPEG_LS, *_JPEG_2000))
"""Syntaxes whose decoders take the code stream of a frame and nothing else."""

DecodedFrame = tuple[npt.NDArray[np.integer[Any]], int]
"""Stored values (rows, cols), integers; and the largest error of a stored value."""


@dataclass(frozen=True)
class PixelBits:
    """Where a stored value lies in its container (PS3.5 8.1.1).

    Attributes:
        allocated: bits of the container: 8, 16 or 32.
        stored: bits of the value.
        high: its highest bit; the bits above it and below its lowest may hold anything, such as an old overlay.
        signed: whether it is a two's complement number.
    """

    allocated: int
    stored: int
    high: int
    signed: bool


@dataclass(frozen=True)
class Samples:
    """What is known of a decoder's samples.

    Attributes:
        precision: bits of a sample; in native and RLE data, all of the container.
        signed: whether the decoder's samples are signed.
        near: their largest error.
    """

    precision: int
    signed: bool = False
    near: int = 0


def pixel_bits(dataset: FileDataset | PlainHeader) -> PixelBits:
    """Read where stored values lie in their containers.

    Raises:
        ScanError: ``corrupt_header``, when the elements contradict each other.
    """
    allocated = int(dataset.get("BitsAllocated") or 16)
    stored = int(dataset.get("BitsStored") or allocated)
    value = dataset.get("HighBit")
    high = stored - 1 if value is None or value == "" else int(value)
    if allocated not in (8, 16, 32) or not (1 <= stored <= allocated and stored - 1 <= high < allocated):
        raise ScanError(
            "corrupt_header",
            f"the header claims values of {stored} bits, the highest of them bit {high}, in {allocated} bits: expected "
            "8, 16 or 32 bits with the value within; export the series again",
        )
    return PixelBits(allocated, stored, high, bool(dataset.get("PixelRepresentation") or 0))


def stored_values(
    decoded: npt.NDArray[np.integer[Any]], samples: Samples, bits: PixelBits
) -> npt.NDArray[np.integer[Any]]:
    """Make stored values of what any decoder returns.

    Samples that reach up to the value's highest bit are whole containers: the value is taken out of them, whatever lies
    beside it. Narrower samples are the value alone. PS3.5 8.1.1 (containers), 8.2 (compressed ones).

    Args:
        decoded: integers (rows, cols), as the decoder returns them.
        samples: what its code stream says of them.
        bits: what the header says of the values.

    Returns:
        Integers (rows, cols).

    Raises:
        ScanError: ``corrupt_pixels``, when it can't be told which samples are negative.
    """
    whole = samples.precision == bits.allocated == bits.stored == 8 * decoded.dtype.itemsize
    if whole and (decoded.dtype.kind == "i") == bits.signed:
        return decoded
    width = 16 if max(bits.allocated, samples.precision, 8 * decoded.dtype.itemsize) <= 16 else 64
    sign = "i" if samples.signed else "u"
    held: npt.NDArray[np.integer[Any]] = decoded.view(f"{decoded.dtype.byteorder}{sign}{decoded.dtype.itemsize}")
    pattern = held.astype(f"{sign}{width // 8}", copy=False)
    if not samples.signed and samples.precision < width:
        pattern = pattern & ((1 << samples.precision) - 1)  # a decoder may have continued the sign
    if samples.precision > bits.high:
        above = width - 1 - bits.high
    else:
        above = width - bits.stored
        if (
            bits.signed
            and not samples.signed
            and samples.precision < bits.stored
            and (pattern >> (samples.precision - 1)).any()
        ):
            raise ScanError(
                "corrupt_pixels",
                f"the slices were compressed with {samples.precision} bits a value without sign, and the header says "
                f"{bits.stored} bits with sign, so it is unknown which are negative: export the series uncompressed",
            )
    if above:
        pattern = pattern << above
    values: npt.NDArray[np.integer[Any]] = pattern.view(f"{'i' if bits.signed else 'u'}{width // 8}")
    return values >> (width - bits.stored) if bits.stored < width else values


def decode_frames(dataset: FileDataset, header: DicomHeader) -> Iterator[DecodedFrame]:
    """Decode the frames of a file in order.

    Args:
        dataset: the file, with its pixels.
        header: its header.

    Yields:
        Stored values, integers (rows, cols), and their largest error.

    Raises:
        ScanError: ``corrupt_header``, ``corrupt_pixels``, ``lossy`` or ``unsupported_syntax``.
    """
    with _decoding(header):
        bits = pixel_bits(dataset)
        frames_samples = _check_codestreams(dataset, header, bits)
    frames = _frames(dataset, header, frames_samples)
    for samples in frames_samples:
        with _decoding(header):
            frame = next(frames)
        if frame.shape != (header.rows, header.cols) or frame.dtype.kind not in "iu":
            raise ScanError("corrupt_pixels", "a decoded slice has another size than its header says")
        yield stored_values(frame, samples, bits), samples.near


def decode_one(data: bytes, header: DicomHeader, bits: PixelBits) -> DecodedFrame:
    """Decode the only frame of a file, of a syntax in `DIRECT`.

    Args:
        data: the frame's code stream.
        header: of its file.
        bits: where its values lie.

    Raises:
        ScanError: as :func:`decode_frames`.
    """
    samples = _check_codestream(data, header, bits)
    with _decoding(header):
        frame = _decode(data, header, samples)
    return stored_values(frame, samples, bits), samples.near


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


def _check_codestreams(dataset: FileDataset, header: DicomHeader, bits: PixelBits) -> list[Samples]:
    """Refuse frames whose own size is another than the header's; return what each says of its samples."""
    from pydicom.encaps import generate_frames

    if "PixelData" not in dataset:
        raise ScanError(
            "corrupt_pixels", "there is no Pixel Data (7FE0,0010), where CT keeps its integers: export the series again"
        )
    if not is_encapsulated(header.syntax):
        size, whole = len(dataset.PixelData), _frame_bytes(header) * header.frame_count
        if size < whole:
            raise ScanError("corrupt_pixels", "the pixels end too early: copy the file again from its source")
        if size >= 2 * whole:
            raise ScanError(
                "corrupt_pixels",
                f"Pixel Data (7FE0,0010) has {size} bytes, but rows, columns, bits and frames of the header make "
                f"{whole}: one of them is wrong; export the series again",
            )
        return [Samples(bits.allocated, bits.signed)] * header.frame_count
    streams = generate_frames(dataset.PixelData, number_of_frames=header.frame_count)
    frames = [_check_codestream(data, header, bits) for data in streams]
    if len(frames) != header.frame_count:
        raise ScanError("corrupt_pixels", f"{header.frame_count} frames were announced, {len(frames)} are there")
    return frames


def _frame_bytes(header: DicomHeader) -> int:
    return header.rows * header.cols * header.bits_allocated // 8


def most_stream_bytes(header: DicomHeader) -> int:
    """The longest code stream that a frame may have."""
    return 2 * _frame_bytes(header) + 65536


def _check_codestream(data: bytes, header: DicomHeader, bits: PixelBits) -> Samples:
    if len(data) > most_stream_bytes(header):
        raise ScanError("corrupt_pixels", "a compressed slice is larger than its pixels: export the series again")
    if header.syntax == _RLE:
        return Samples(bits.allocated, bits.signed)
    stream = read_codestream(data)
    if header.syntax in _JPEG_LS and data.rfind(_JPEG_END) < 0:  # CharLS may search for half a minute
        raise ScanError("corrupt_pixels", "a compressed slice ends too early: copy the file again from its source")
    if stream is None:
        raise ScanError("corrupt_pixels", "a compressed slice has no valid start: export the series again")
    if (stream.rows, stream.cols, stream.components) != (header.rows, header.cols, 1):
        raise ScanError("corrupt_pixels", "a compressed slice has another size than its header says")
    if not stream.reversible:
        raise ScanError(
            "lossy", "the slices were compressed with a transformation that loses detail: give the original"
        )
    return Samples(stream.precision, stream.signed, stream.near)


def _frames(
    dataset: FileDataset, header: DicomHeader, samples: Sequence[Samples]
) -> Iterator[npt.NDArray[np.integer[Any]]]:
    from pydicom.encaps import generate_frames
    from pydicom.pixels.utils import iter_pixels

    if header.syntax in _JPEG_LOSSLESS:
        yield from _decode_jpeg_lossless(dataset, header)
    elif header.syntax in DIRECT:
        streams = generate_frames(dataset.PixelData, number_of_frames=header.frame_count)
        for data, one in zip(streams, samples, strict=True):
            yield _decode(data, header, one)
    elif header.syntax == _RLE or (header.syntax == _BIG_ENDIAN and header.bits_allocated == 8):  # swapped in pairs
        yield from iter_pixels(dataset, raw=True, correct_unused_bits=False)
    else:
        order = ">" if header.syntax == _BIG_ENDIAN else "<"
        kind = f"{order}{'i' if samples[0].signed else 'u'}{header.bits_allocated // 8}"
        count = header.rows * header.cols
        for index in range(header.frame_count):
            start = index * _frame_bytes(header)
            yield np.frombuffer(dataset.PixelData, kind, count, start).reshape(header.rows, header.cols)


def _decode(data: bytes, header: DicomHeader, samples: Samples) -> npt.NDArray[np.integer[Any]]:
    """One frame of JPEG-LS or JPEG 2000; its container is as wide as its precision needs."""
    if header.syntax in _JPEG_LS:
        from jpeg_ls import decode_pixel_data

        decoded, _ = decode_pixel_data(data)
    else:
        from openjpeg.utils import decode_pixel_data as decode_jpeg_2000

        decoded = decode_jpeg_2000(data, version=2)
    size = 1 if samples.precision <= 8 else 2 if samples.precision <= 16 else 4
    if len(decoded) != header.rows * header.cols * size:
        raise ScanError("corrupt_pixels", "a decoded slice has another size than its header says")
    return np.frombuffer(decoded, f"<{'i' if samples.signed else 'u'}{size}").reshape(header.rows, header.cols)


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
            bare.Rows, bare.Columns = header.rows, header.cols
            bare.BitsAllocated = bare.BitsStored = pixel_bits(dataset).allocated  # all bits, as they are
            bare.HighBit, bare.PixelRepresentation = bare.BitsAllocated - 1, 0
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
