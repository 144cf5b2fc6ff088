"""Reads one scan: the files of a source to a checked volume."""

from __future__ import annotations

from dataclasses import replace

from molre_edge.errors import ScanError
from molre_edge.scans.anatomy import check_head
from molre_edge.scans.coarse import shrink
from molre_edge.scans.dicom_volume import read_dicom
from molre_edge.scans.head_size import check_head_size
from molre_edge.scans.interleave import check_neighbours
from molre_edge.scans.nifti import read_nifti
from molre_edge.scans.odd_slices import check_slices
from molre_edge.scans.scan_records import HeadVolume, ScanSource, ScanWarning
from molre_edge.scans.unchanged import check_unchanged, new_files

__all__ = ["read_scan"]


def read_scan(source: ScanSource) -> HeadVolume:
    """Read a scan and check that it is a head CT in Hounsfield units.

    The order of checks is: what the object is, how it is stored, where its slices lie, and only then what they show.
    When the series fails on them, the next best of its study is read instead, with the warning ``series_replaced``.

    Args:
        source: from :func:`molre_edge.scans.find_scans`.

    Raises:
        ScanError: for anything that the files can cause, of the series to prefer; its code is listed in
            docs/concepts/scans.md.
    """
    try:
        return _read_one(source)
    except ScanError as error:
        if error.code == "changed":  # not what was chosen any more: another choice may be right
            raise
        problem = error
    for other in source.alternatives:
        try:
            volume = _read_one(other)
        except ScanError:
            continue
        text = (
            f"the series to prefer can't be used ({problem.code}: {problem}); the next best of the study, with "
            f"{len(other.files)} files, was read instead"
        )
        return replace(
            volume, warnings=(ScanWarning("series_replaced", text), *volume.warnings), candidates=source.candidates
        )
    if source.alternatives:
        raise ScanError(problem.code, f"{problem} (nor can {len(source.alternatives)} other series of the study)")
    raise problem


def _read_one(source: ScanSource) -> HeadVolume:
    if not source.files:
        raise ScanError("no_files", "the scan has no files: look for scans again")
    check_unchanged(source)
    try:
        volume = read_dicom(source) if source.kind == "dicom" else read_nifti(source.files[0])
        moved = check_neighbours(volume.hu)
        coarse = shrink(volume)
        check_slices(coarse, copies=source.kind == "dicom")
        warnings = (*moved, *check_head_size(coarse), *check_head(coarse))
    except MemoryError as error:
        raise ScanError("too_large", "the scan does not fit into this machine's memory: use thicker slices") from error
    check_unchanged(source)  # what was replaced while it was read
    warnings = (*source.warnings, *volume.warnings, *warnings, *new_files(source))
    return replace(volume, warnings=warnings, candidates=source.candidates)
