"""Tells by name and first bytes what a file claims to be, without reading it."""

from __future__ import annotations

from pathlib import Path

from molre_edge.errors import ScanError
from molre_edge.scans.nifti import is_nifti_name

__all__ = ["sniff"]

_DICOM_NAMES = (".dcm", ".dicom", ".dic", ".ima")
_OTHER_IMAGES = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".mnc", ".img", ".hdr", ".img.gz", ".hdr.gz", ".v3d")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar", ".iso", ".bz2", ".xz")
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
"""Groups 0002 and 0008, with which a DICOM data set without preamble starts, in both byte orders."""


def sniff(path: Path) -> str:
    """Name the kind of a file.

    Returns:
        ``dicom`` (has the preamble), ``maybe_dicom`` (may be a data set without one; nothing is lost if not),
        ``claims_dicom`` (is called DICOM), ``nifti``, or ``other``.

    Raises:
        ScanError: ``unsupported_format`` for a volume or an archive of a kind that is not read, ``unreadable``.
    """
    name = path.name.lower()
    if is_nifti_name(path):
        return "nifti"
    if name.endswith(_OTHER_IMAGES):
        raise ScanError(
            "unsupported_format", "this image format is not read: convert it to NIfTI or give the DICOM files"
        )
    if name.endswith(_ARCHIVES):
        raise ScanError("unsupported_format", "this is an archive: unpack it and give the folder")
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise ScanError("unreadable", f"the file can't be opened: {error.strerror or 'input/output error'}") from error
    if start[128:132] == b"DICM":
        return "dicom"
    if name.endswith(_DICOM_NAMES):
        return "claims_dicom"
    known_element = start[2:4] in (b"\x00\x00", b"\x05\x00", b"\x00\x05", b"\x08\x00")
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    plausible = start[:2] in _FIRST_GROUPS and (known_element or explicit)
    return "maybe_dicom" if plausible else "other"
