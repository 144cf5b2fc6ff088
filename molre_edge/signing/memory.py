"""What this machine remembers about releases and files of its own making, outside of any bundle.

A bundle can be replaced as a whole, by an older one too. So the highest version of each release that was seen, and the
hashes of the engines and graphs that this machine made itself, are kept in the user's state folder.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from molre_edge.errors import SigningError
from molre_edge.files import read_regular, write_json
from molre_edge.machine import state_folder
from molre_edge.signing.trust import Signed

__all__ = ["MEMORY", "SigningMemory"]

MEMORY = "signing.json"
_FORMAT, _VERSION = "molre-edge-signing", 1
_MAX_BYTES = 4 << 20
_MOST_MADE = 2000


class SigningMemory:
    """Versions seen and files made here. Unlike a cache, it may not be lost silently: damage is an error."""

    def __init__(self, path: Path | None) -> None:
        """Use a file; None where the user has no home."""
        self._path = path

    @classmethod
    def here(cls) -> SigningMemory:
        """That of this user on this machine."""
        folder = state_folder()
        return cls(None if folder is None else folder / MEMORY)

    def check(self, signed: Signed, what: Path, *, accept_older: bool = False, remember: bool = True) -> None:
        """Refuse a release older than one that was seen; remember a newer one.

        Args:
            signed: a release whose signature was checked.
            what: the bundle or adapter, for messages.
            accept_older: take it all the same, and remember its version as the highest.
            remember: False only refuses: for what is looked at, or not used yet.

        Raises:
            SigningError: the release is older, or what was seen can't be read or remembered.
        """
        name = f"{signed.key_id} {signed.name}"
        if self._read()["seen"].get(name) == signed.version:
            return  # the usual case needs no writing
        with self._changing() as data:
            seen = data["seen"]
            newest = seen.get(name)
            if newest is not None and signed.version < newest and not accept_older:
                raise SigningError(
                    f"{what}: version {signed.version} of {signed.name or 'a release without a name'}, and this "
                    f"machine has used version {newest}. An older release is not used again unless you say so: "
                    f"'molre-edge verify --accept-older'"
                )
            if remember:
                seen[name] = signed.version

    def made_here(self, sha256: str, source_sha256: str) -> None:
        """Remember that this machine made a file (an engine, an 8-bit graph) from a graph.

        Raises:
            SigningError: it can't be remembered.
        """
        with self._changing() as data:
            made = data["made"]
            made.pop(sha256, None)  # the newest come last
            made[sha256] = source_sha256
            for old in list(made)[:-_MOST_MADE]:
                del made[old]

    def source_of(self, sha256: str) -> str | None:
        """SHA-256 of the graph that this machine made a file from; None if it did not make the file.

        Raises:
            SigningError: the memory can't be read.
        """
        source = self._read()["made"].get(sha256)
        return source if isinstance(source, str) else None

    def _read(self) -> dict[str, Any]:
        if self._path is None or not self._path.exists():
            return {"seen": {}, "made": {}}
        try:
            data = json.loads(read_regular(self._path, largest=_MAX_BYTES, links=False))
            if (data["format"], data["version"]) != (_FORMAT, _VERSION):
                raise ValueError(f"expected format {_FORMAT!r}, version {_VERSION}")
            if not all(type(version) is int for version in data["seen"].values()):
                raise ValueError("seen: expected whole numbers")
            return {"seen": dict(data["seen"]), "made": dict(data["made"])}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SigningError(
                f"{self._path}: which releases this machine has used can't be read ({str(error)[:200]}). Restore the "
                f"file from a backup; remove it only if you are sure that no older release was put in place"
            ) from error

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The content, written again at the end if it has changed; one process at a time."""
        if self._path is None:
            raise SigningError("releases can't be remembered: this user has no home. Set MOLRE_EDGE_STATE to a folder")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _alone(self._path.with_suffix(".lock")):
                before, data = self._read(), self._read()
                yield data
                if data != before or list(data["made"]) != list(before["made"]):
                    write_json(self._path, {"format": _FORMAT, "version": _VERSION, **data})
                    self._path.chmod(0o600)
        except OSError as error:
            raise SigningError(
                f"{self._path}: which releases this machine has used can't be remembered ({error.strerror or error}). "
                f"Make the folder writable, or set MOLRE_EDGE_STATE to one that is"
            ) from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block; the system ends the lock with its process."""
    try:
        import fcntl
    except ImportError:  # Windows: two changes at the same moment may lose one
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
