"""UIDs that follow from what an object is made of, so that a rerun makes the same object and not another one."""

from __future__ import annotations

import hashlib
import re
import uuid

__all__ = ["is_uid", "uid_of"]

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_LONGEST = 64


def uid_of(*parts: str) -> str:
    """A UID below ``2.25``, where UUIDs are: from the SHA-256 of texts. Source: DICOM PS3.5 B.2."""
    digest = hashlib.sha256("\0".join(("molre-edge", *parts)).encode("utf-8", "surrogatepass")).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def is_uid(text: str) -> bool:
    """Whether a text is a UID as DICOM PS3.5 9.1 defines it: an object that refers to any other text is not valid."""
    return len(text) <= _LONGEST and _UID.fullmatch(text) is not None
