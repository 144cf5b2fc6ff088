"""Names that say nothing about a person: keyed hashes of UIDs, for the database, the disk, logs and the status page."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from molre_edge.runs.scan_ids import IdSecret

__all__ = ["Ids", "set_digest"]


class Ids:
    """Keyed hashes under the node's own secret.

    Whoever has the secret can confirm which UID an id stands for; nobody else can.
    """

    def __init__(self, folder: Path) -> None:
        """Read the secret of a node's folder, or make it.

        Raises:
            RunError: the file can't be made or read, or is not a secret.
        """
        self._key = IdSecret.shared(folder / "node.secret").value

    def study(self, uid: str) -> str:
        """Of a Study Instance UID."""
        return self._id("study", uid)

    def instance(self, uid: str) -> str:
        """Of a SOP Instance UID."""
        return self._id("image", uid)

    def _id(self, kind: str, uid: str) -> str:
        digest = hmac.new(self._key, f"{kind}\0{uid}".encode(), hashlib.sha256).digest()
        return f"{kind}-{base64.b32encode(digest[:15]).decode('ascii').lower()}"


def set_digest(names: Iterable[str]) -> str:
    """SHA-256 (hexadecimal) of a set of names, in any order."""
    return hashlib.sha256("\0".join(sorted(set(names))).encode()).hexdigest()
