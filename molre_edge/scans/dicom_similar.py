"""Headers of ordinary slices: what is the same in all slices of a series is made into values and checked once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path

from molre_edge.scans.dicom_access import Attributes
from molre_edge.scans.dicom_header import DicomHeader, read_plain_header, with_frames
from molre_edge.scans.dicom_kind import check_kind, check_storage
from molre_edge.scans.dicom_plain import PlainHeader
from molre_edge.scans.scan_records import FoundFile
from molre_edge.scans.traits import whole_number
from molre_edge.scans.with_values import with_values

__all__ = ["read_slice_header"]

_KEPT = 32
"""So many headers are kept, by all that slices of a series have in common; each takes some kilobytes."""
_known: OrderedDict[Hashable, DicomHeader] = OrderedDict()


def read_slice_header(path: Path, plain: PlainHeader, on_disk: FoundFile) -> DicomHeader | None:
    """Read and check the header of an ordinary CT slice.

    Args:
        path: its file.
        plain: what :func:`parse_plain` made of it.
        on_disk: what the file system says of it.

    Returns:
        The header with its frame; None where pydicom has to look.

    Raises:
        ScanError: why it can't be part of a head volume.
        ValueError, TypeError, OverflowError: a value breaks its type: pydicom has to look.
    """
    known = _known.get(plain.common)
    if known is not None and (similar := _like(known, path, plain, on_disk)) is not None:
        return similar
    header = read_plain_header(path, plain, on_disk)
    if header is None:
        return None
    check_kind(header)
    check_storage(header)
    header = with_frames(header, plain)
    if len(header.frames) == 1:
        _known[plain.common] = header
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return header


def _like(known: DicomHeader, path: Path, plain: PlainHeader, on_disk: FoundFile) -> DicomHeader | None:
    """A header that differs from another only in what is of each slice; None where that is not as it should be."""
    position = plain.get("ImagePositionPatient")
    if not isinstance(position, tuple) or len(position) != 3 or not all(abs(place) < 1e6 for place in position):
        return None
    uid, attributes = plain.get("SOPInstanceUID") or "", Attributes([plain], plain)
    (frame,) = known.frames
    traits = with_values(
        frame.traits,
        instance=whole_number(attributes, "InstanceNumber"),
        location_mm=attributes.number("SliceLocation"),
    )
    frame = with_values(frame, path=path, position=position, sop_uid=uid, traits=traits)
    known.common_digest  # noqa: B018 - made once, and taken over
    return with_values(known, path=path, sop_uid=uid, on_disk=on_disk, frames=(frame,))
