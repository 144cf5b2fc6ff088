"""The headers of the images that an answer is about, read within the bounds that hold for every scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from molre_edge.dicom_results.facts import AttendedImage, ResultError
from molre_edge.dicom_results.identity import HEADER_TAGS
from molre_edge.errors import ScanError
from molre_edge.scans import Attended, GridSlice, ScanSource, attended_image
from molre_edge.scans.dicom_open import open_dicom
from molre_edge.scans.unchanged import check_unchanged

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["answered_source", "attended_in", "frames_of", "read_source_headers"]


def answered_source(source: ScanSource, slices: Sequence[GridSlice]) -> ScanSource:
    """The volume that was really read: the source, or one of its alternatives if that replaced it.

    Args:
        source: from :func:`molre_edge.scans.find_scans`.
        slices: the images of the answered grid.

    Raises:
        ResultError: ``no_source``: neither has those images.
    """
    used = {(each.source.path, each.source.frame - 1) for each in slices}
    for candidate in (source, *source.alternatives):
        frames = dict(zip(candidate.files, frames_of(candidate) or ((),) * len(candidate.files), strict=True))
        if used and all(path in frames and (not frames[path] or at in frames[path]) for path, at in used):
            return candidate
    raise ResultError("no_source", "the images that were answered are not among those that were found: run it again")


def attended_in(attended: Attended | None, slices: Sequence[GridSlice]) -> AttendedImage | None:
    """The image that a model attended to most; None if it does not say, or attended to what lies outside the scan.

    Args:
        attended: by the model.
        slices: the images of the answered grid.
    """
    image = attended_image(attended, slices)
    return None if attended is None or image is None else AttendedImage(image.sop_uid, image.frame, attended.weight)


def frames_of(source: ScanSource) -> tuple[tuple[int, ...], ...]:
    """Of each file, the frames that belong to the volume, from 0; none when all do."""
    return tuple(each.frames for each in source.found)


def read_source_headers(source: ScanSource) -> tuple[Dataset, ...]:
    """The headers of a scan's images, without pixels, in the order of its files. Only what a result needs is kept.

    Raises:
        ResultError: ``not_dicom`` for NIfTI; ``source_unreadable`` if a file has changed since it was found, or can't
            be read any more.
    """
    if source.kind != "dicom":
        raise ResultError("not_dicom", "the scan is a NIfTI file, which names no patient and no study to report on")
    try:
        headers = tuple(open_dicom(file, tags=HEADER_TAGS) for file in source.files)
        check_unchanged(source)
    except ScanError as error:
        raise ResultError("source_unreadable", f"a header can't be read again ({error.code}: {error})") from error
    return headers
