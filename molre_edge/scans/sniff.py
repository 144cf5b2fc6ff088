"""Tells by first bytes and name what a file claims to be, without reading it."""

from __future__ import annotations

from pathlib import Path

from molre_edge.errors import ScanError
from molre_edge.scans.content import open_content
from molre_edge.scans.nifti import is_nifti, is_nifti_name
from molre_edge.scans.regular_file import BROKEN

__all__ = ["may_be_dicom", "sniff"]

_DICOM_NAMES = (".dcm", ".dicom", ".dic", ".ima", ".dcm.gz", ".dicom.gz", ".dic.gz", ".ima.gz")
_OTHER_IMAGES = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".mnc", ".img", ".hdr", ".img.gz", ".hdr.gz", ".v3d")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar", ".iso", ".bz2", ".xz")
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
"""Groups 0002 and 0008, with which a DICOM data set without preamble starts, in both byte orders."""
_FIRST_BYTES = 352
"""Enough for a DICOM preamble and for the header of a NIfTI-1 file."""
_ANY_SIZE = 2**63
"""Only the first bytes are read, and a film that lies beside the scans is no scan that is too large."""


def may_be_dicom(path: Path) -> bool:
    """Whether a file's name leaves it open that it is DICOM."""
    return not (is_nifti_name(path) or path.name.lower().endswith((*_OTHER_IMAGES, *_ARCHIVES)))


def sniff(path: Path) -> str:
    """Name the kind of a file, or of what is gzipped in it. What its first bytes say comes before its name.

    Returns:
        ``dicom`` (has the preamble), ``maybe_dicom`` (may be a data set without one; nothing is lost if not),
        ``claims_dicom`` (is called DICOM), ``nifti`` (is one, or is called so), or ``other``.

    Raises:
        ScanError: ``unsupported_format`` for a volume or an archive of a kind that is not read, ``unreadable``,
            ``empty_file`` or ``corrupt_header``.
    """
    name, start, problem = path.name.lower(), b"", None
    try:
        with open_content(path, limit=_ANY_SIZE) as content:
            start = content.read(_FIRST_BYTES)
    except ScanError as unread:
        problem = unread
    except BROKEN:
        if name.endswith(_DICOM_NAMES):
            problem = ScanError("corrupt_header", "the file breaks within its header: copy it again from its source")
    if is_nifti_name(path):
        return "dicom" if _is_dicom(start) and not is_nifti(start) else "nifti"
    if _is_dicom(start):
        return "dicom"
    if is_nifti(start):
        return "nifti"
    return _by_name(name, start, problem)


def _is_dicom(start: bytes) -> bool:
    return start[128:132] == b"DICM"


def _by_name(name: str, start: bytes, problem: ScanError | None) -> str:
    """What a file is whose first bytes do not say it."""
    if name.endswith(_OTHER_IMAGES):
        raise ScanError(
            "unsupported_format", "this image format is not read: convert it to NIfTI or give the DICOM files"
        )
    if name.endswith(_ARCHIVES):  # a .zip that comes here lies within another one
        raise ScanError(
            "unsupported_format",
            "this is an archive of another kind than zip, or lies in one: unpack it, give the folder",
        )
    claims = name.endswith(_DICOM_NAMES)
    if problem is not None:
        if not claims and problem.code == "empty_file":
            return "other"
        raise problem
    if claims:
        return "claims_dicom"
    known_element = start[2:4] in (b"\x00\x00", b"\x05\x00", b"\x00\x05", b"\x08\x00")
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    plausible = start[:2] in _FIRST_GROUPS and (known_element or explicit)
    return "maybe_dicom" if plausible else "other"
