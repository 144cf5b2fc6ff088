"""Opens a DICOM file with pydicom, within bounds, and keeps only the tags that this package looks at.

pydicom's own `dcmread` inflates a deflated data set whole, before anybody can look at it. So the file's parts are read
one after the other here, by pydicom's functions for each, from a file object that bounds what is inflated and what a
header may hold at the place where it is read. Sources: DICOM PS3.10 7.1 (meta information), PS3.5 A (syntaxes).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.errors import ScanError
from molre_edge.scans.archive_path import archive_of
from molre_edge.scans.content import Content, Rewindable, WatchedFile, open_content
from molre_edge.scans.dicom_plain import PlainHeader, TooShort, parse_plain
from molre_edge.scans.limits import (
    MAX_DICOM_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADER_ITEMS,
    MAX_HEADER_READS,
    MAX_INFLATED_BYTES,
)
from molre_edge.scans.quiet import quietly
from molre_edge.scans.regular_file import PACKING_BROKEN, open_regular, unreadable
from molre_edge.scans.scan_records import FoundFile

if TYPE_CHECKING:
    from pydicom import FileDataset
    from pydicom.dataset import FileMetaDataset

__all__ = ["open_dicom", "open_pixels", "open_plain"]

_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_DEFLATED, _BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
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
    "PerFrameFunctionalGroupsSequence", "PhotometricInterpretation", "VolumetricProperties",
    "VolumeBasedCalculationTechnique", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
]  # fmt: skip
_PIXEL_TAGS = [
    "PlanarConfiguration", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
]  # fmt: skip
_PLAIN_HEADER_BYTES = (1 << 14, 1 << 20)
"""How much of a file is read for an ordinary header: enough for nearly all, then for those with much private data."""
_PIXEL_FACTS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "NumberOfFrames",
)  # fmt: skip
_PIXEL_GROUP = 0x7FE0
_PIXEL_DATA = 0x7FE00010
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""Every item of a sequence starts with this, in one of both byte orders."""


def open_dicom(path: Path, *, pixels: bool = False, tags: Sequence[str] = ()) -> FileDataset:
    """Read a file with pydicom, bounded in size and memory.

    At most `MAX_HEADER_BYTES` of header with `MAX_HEADER_ITEMS` items are read, and with `pixels` at most
    `MAX_INFLATED_BYTES` of a file that is deflated, gzipped or in an archive, or `MAX_DICOM_BYTES` of another one.

    Args:
        path: the file; with or without preamble and file meta information.
        pixels: read the pixels too; otherwise stop before them.
        tags: keywords of the attributes to keep instead of those that this package looks at to read a scan.

    Returns:
        The data set; its meta information always names the transfer syntax that it was read with.

    Raises:
        ScanError: ``corrupt_header``, ``empty_file``, ``too_large``, ``unsupported_syntax``, ``unsupported_format`` or
            ``unreadable``.
    """
    return _open(path, pixels, keywords=tags or _TAGS)


def _open(
    path: Path, pixels: bool, plain: list[PlainHeader] | None = None, keywords: Sequence[str] = _TAGS
) -> FileDataset:
    try:
        with open_content(path, limit=MAX_DICOM_BYTES, unpacked=MAX_INFLATED_BYTES) as content, quietly():
            if plain is not None and (header := _plain_start(content)) is not None:
                plain.append(header)
                return _read_pixels(content, header)
            return _read(content, pixels, keywords)
    except ScanError:
        raise
    except PACKING_BROKEN as error:
        raise ScanError(
            "corrupt_pixels" if pixels else "corrupt_header",
            "the gzipped, zipped or deflated data are damaged or end too early: copy the file again from its source",
        ) from error
    except OSError as error:
        raise _refusal_behind(error) or unreadable(error) from error
    except MemoryError as error:
        raise ScanError("too_large", "the file does not fit into this machine's memory") from error
    except Exception as error:  # pydicom raises nearly anything on broken files
        raise ScanError(
            "corrupt_header", "the DICOM header can't be read: copy the file again from its source"
        ) from error


def open_pixels(path: Path) -> tuple[FileDataset, PlainHeader | None]:
    """As :func:`open_dicom` with pixels, but faster where the header is an ordinary one.

    Returns:
        The data set; and the header by itself where it is ordinary: the data set then holds only what decoding needs.

    Raises:
        ScanError: as :func:`open_dicom`.
    """
    plain: list[PlainHeader] = []
    return _open(path, True, plain), plain[0] if plain else None


def _plain_start(content: Content) -> PlainHeader | None:
    """An ordinary header at the start of a content, which is rewound."""
    if content.packed:
        return None
    try:
        plain = parse_plain(content.read(_PLAIN_HEADER_BYTES[0]))
    except TooShort:
        plain = None
    content.skip_to(0)
    if plain is None or plain.implicit:  # pydicom guesses from the first element, and takes some lengths for explicit
        return None
    # pixels of several samples have more to say, and a multi-frame file has functional groups
    grey = plain.get("SamplesPerPixel") == 1 and (plain.get("NumberOfFrames") or 1) == 1
    return plain if grey else None


def open_plain(path: Path) -> tuple[PlainHeader, FoundFile] | None:
    """Read the header of an ordinary CT slice, opening its file once.

    Returns:
        The header, and size and times of the very file that was read; None where :func:`open_dicom` has to look.
    """
    if archive_of(path) is not None:
        return None
    try:
        file, facts = open_regular(path, limit=MAX_DICOM_BYTES)
        with file:
            data = file.read(_PLAIN_HEADER_BYTES[0])
            try:
                plain = parse_plain(data)
            except TooShort:
                data += file.read(_PLAIN_HEADER_BYTES[1] - len(data))
                plain = parse_plain(data)
    except (ScanError, OSError, TooShort):  # the ordinary way says what is wrong
        return None
    return None if plain is None else (plain, FoundFile.of(facts))


def _refusal_behind(error: BaseException) -> ScanError | None:
    """The refusal that was raised while pydicom read: it replaces any error, even that, by an OSError of its own."""
    cause = error.__context__
    while cause is not None and not isinstance(cause, ScanError):
        cause = cause.__context__
    return cause


class _Watch:
    """Counts what pydicom reads. A header longer than any is refused: its parts cost far more than its bytes."""

    def __init__(self) -> None:
        self.bytes, self.items, self.reads = 0, 0, 0
        self._most, self._has_items = MAX_HEADER_BYTES, True

    def header_ends(self, *, has_items: bool = True) -> None:
        """What follows are pixels: in items, each a fragment of a frame, or as they are."""
        self._most, self._has_items = MAX_HEADER_BYTES + MAX_DICOM_BYTES * 4, has_items

    def __call__(self, data: bytes) -> None:
        self.bytes += len(data)
        if self._has_items:
            self.items += data.count(_ITEMS[0]) + data.count(_ITEMS[1])
        self.reads += 1
        if self.bytes > self._most or self.items > MAX_HEADER_ITEMS or self.reads > MAX_HEADER_READS:
            raise ScanError(
                "too_large",
                f"the header has more than {MAX_HEADER_BYTES} bytes or {MAX_HEADER_ITEMS} items, far more than a CT "
                "series needs: export the series again",
            )


def _read(content: Content, pixels: bool, keywords: Sequence[str]) -> FileDataset:
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataset import FileDataset
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import UID

    watch = _Watch()
    block = 1 << (16 if pixels else 12)  # damage behind a header is found with the pixels that it spoils
    file: Any = Rewindable(content.read, watch, block) if content.packed else WatchedFile(content, watch)
    preamble = read_preamble(file, True)
    meta = _read_meta(file)
    syntax = str(meta.get("TransferSyntaxUID") or "").strip()
    known = bool(syntax)
    if syntax == _DEFLATED:
        file = Rewindable(_inflating(file), watch, block)
    elif not known:
        syntax = _guess_syntax(file)
    names = (*keywords, *(_PIXEL_TAGS if pixels else ()))
    tags = [tag for name in names if (tag := tag_for_keyword(name)) is not None]

    def stop(tag: int, _: str | None, length: int) -> bool:
        if tag == _PIXEL_DATA and length == _UNDEFINED_LENGTH and not known:
            raise ScanError(
                "unsupported_syntax", "the pixels are compressed, and the file does not say how: export it again"
            )
        if tag == _PIXEL_DATA and syntax == _DEFLATED and MAX_INFLATED_BYTES < length < _UNDEFINED_LENGTH:
            raise ScanError("too_large", f"the deflated pixels are said to have more than {MAX_INFLATED_BYTES} bytes")
        if tag == _PIXEL_DATA:
            watch.header_ends(has_items=length == _UNDEFINED_LENGTH)
        return tag > _PIXEL_DATA if pixels else tag >> 16 >= _PIXEL_GROUP

    dataset = read_dataset(
        file,
        syntax == _IMPLICIT,
        syntax != _BIG_ENDIAN,
        stop_when=stop,
        specific_tags=tags,
    )
    implicit, little = dataset.original_encoding
    if not known:
        meta.TransferSyntaxUID = UID(_IMPLICIT if implicit else syntax)
    if pixels and content.packed:
        while content.read(1 << 20):  # gzip and zip keep the checksum of what was read at its end
            pass
    whole = FileDataset("", dataset, preamble, meta, bool(implicit), bool(little))
    whole.set_original_encoding(implicit, little, dataset.original_character_set)
    return whole


def _read_pixels(content: Content, plain: PlainHeader) -> FileDataset:
    """The pixels behind an ordinary header, with what decoding needs to know of them."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    watch = _Watch()
    watch.header_ends()
    file: Any = WatchedFile(content, watch)
    file.seek(plain.pixels_at)
    dataset = read_dataset(file, False, True, stop_when=lambda tag, _, __: tag > _PIXEL_DATA)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(str(plain.file_meta["TransferSyntaxUID"]))
    whole = FileDataset("", dataset, None, meta, False, True)
    whole.set_original_encoding(False, True, dataset.original_character_set)
    for name in _PIXEL_FACTS:
        if name in plain:
            setattr(whole, name, plain.get(name))
    return whole


def _read_meta(file: Any) -> FileMetaDataset:
    """The file meta information: all of group 2. Its group length may lie, and is not used."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset

    start = file.tell()
    if file.read(2) != b"\x02\x00":
        file.seek(start)
        return FileMetaDataset()
    file.seek(start)
    return FileMetaDataset(read_dataset(file, False, True, stop_when=lambda tag, _, __: tag >> 16 != 2))


def _guess_syntax(file: Any) -> str:
    """How a data set is encoded that does not say so: its first element has a value representation, or not."""
    from pydicom.values import converters

    start = file.tell()
    head = file.read(6)
    file.seek(start)
    if head[4:6].decode("latin-1") not in converters:
        return _IMPLICIT
    return _BIG_ENDIAN if head[0] == 0 and head[1] else _EXPLICIT


def _inflating(file: Any) -> Callable[[int], bytes]:
    """Inflate the rest of a file piece by piece; refuses to inflate more than the limit."""
    inflate, total = zlib.decompressobj(-zlib.MAX_WBITS), 0

    def more(count: int) -> bytes:
        nonlocal total
        while not inflate.eof:
            block = inflate.unconsumed_tail or file.read(count)
            data = inflate.decompress(block, count)
            total += len(data)
            if total > MAX_INFLATED_BYTES:
                raise ScanError("too_large", f"the deflated file holds more than {MAX_INFLATED_BYTES} bytes")
            if data:
                return data
            if not block:
                raise zlib.error("the deflated data end too early")
        return b""

    return more
