"""Reads one scan: the files of a source to a checked volume."""

from __future__ import annotations

from dataclasses import replace

from molre_edge.errors import ScanError
from molre_edge.scans.anatomy import check_head
from molre_edge.scans.coarse import shrink
from molre_edge.scans.dicom_volume import read_dicom
from molre_edge.scans.nifti import read_nifti
from molre_edge.scans.records import HeadVolume, ScanSource

__all__ = ["read_scan"]


def read_scan(source: ScanSource) -> HeadVolume:
    """Read a scan and check that it is a head CT in Hounsfield units.

    The order of checks is: what the object is, how it is stored, where its slices lie, and only then what they show.

    Args:
        source: from :func:`molre_edge.scans.find_scans`.

    Raises:
        ScanError: for anything that the files can cause; its code is listed in docs/scans.md.
    """
    if not source.files:
        raise ScanError("no_files", "the scan has no files: look for scans again")
    try:
        volume = read_dicom(source.files) if source.kind == "dicom" else read_nifti(source.files[0])
        warnings = check_head(shrink(volume))
    except MemoryError as error:
        raise ScanError("too_large", "the scan does not fit into this machine's memory: use thicker slices") from error
    return replace(volume, warnings=(*volume.warnings, *warnings))
