"""The keys that this machine trusts, and the check of a signed file by them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from molre_edge.errors import SigningError
from molre_edge.files import StrPath
from molre_edge.signing.minisign import PublicKey, read_public_key, read_signature

__all__ = ["NO_TRUST", "SUFFIX", "Signed", "Trust", "configured_trust", "trust_of"]

SUFFIX = ".minisig"
"""What a signature's file name adds to that of the signed file, as minisign has it."""

_VARIABLE = "MOLRE_EDGE_TRUST"
_SYSTEM = Path("/etc/molre-edge/trust")


@dataclass(frozen=True)
class Signed:
    """A signature that was checked.

    Attributes:
        key_id: of the trusted key that made it.
        name: of the release, from the trusted comment; releases of one name replace each other.
        version: from the trusted comment; its ``timestamp`` if it has no ``version``.
        comment: the trusted comment.
    """

    key_id: str
    name: str
    version: int
    comment: str

    def to_dict(self) -> dict[str, str | int]:
        """Plain data for JSON."""
        return {"key": self.key_id, "name": self.name, "version": self.version, "trusted_comment": self.comment}


@dataclass(frozen=True)
class Trust:
    """Keys, one of which must have signed whatever is used. Without keys nothing is asked.

    Attributes:
        keys: the trusted keys, several while one replaces another.
        source: where they were named, for messages.
    """

    keys: tuple[PublicKey, ...]
    source: str

    def __bool__(self) -> bool:
        """Whether signatures are asked for."""
        return bool(self.keys)

    def check(self, content: bytes, path: Path) -> Signed:
        """Check the signature beside a file.

        Args:
            content: of the file, as it will be used.
            path: of the file; its signature is ``<path>.minisig``.

        Raises:
            SigningError: there is none, it is damaged, made by another key, or does not fit.
            MissingDependencyError: ``cryptography`` is not installed.
        """
        place = path.with_name(path.name + SUFFIX)
        if not os.path.lexists(place):
            raise SigningError(
                f"{path}: not signed ({place.name} is missing), and {self.source} asks for a signature. Get the signed "
                f"release, or sign it with 'molre-edge sign'"
            )
        signature = read_signature(place)
        key = next((each for each in self.keys if each.id == signature.key_id), None)
        if key is None:
            ids = ", ".join(each.id for each in self.keys)
            raise SigningError(
                f"{path}: signed by key {signature.key_id}, which is not trusted here; {self.source} names {ids}. Do "
                f"not use it unless you know whose key that is"
            )
        try:
            key.verify(content, signature)
        except SigningError as error:
            raise SigningError(f"{path}: {error}. Do not use it; get the release again from its maker") from None
        fields = signature.fields
        return Signed(key.id, fields.get("name", ""), _version(path, fields), signature.comment)


NO_TRUST = Trust((), "nothing")
"""Asks for no signature, whatever is configured: for signing itself."""


def configured_trust() -> Trust:
    """The keys that the environment, the user or the system names; the first of these that names any.

    ``MOLRE_EDGE_TRUST`` holds paths of ``.pub`` files; else those in ``~/.config/molre-edge/trust/`` count, else those
    in ``/etc/molre-edge/trust/``.

    Raises:
        SigningError: a key can't be read, or a folder of keys holds none: what should be checked is never left out.
    """
    if given := os.environ.get(_VARIABLE):
        named = tuple(read_public_key(Path(path)) for path in given.split(os.pathsep) if path)
        if not named:
            raise SigningError(f"{_VARIABLE}: names no key. Name .pub files, or leave it empty")
        return Trust(named, _VARIABLE)
    for folder in (_user_folder(), _SYSTEM):
        if folder is None or not folder.is_dir():
            continue
        keys = tuple(read_public_key(path) for path in sorted(folder.glob("*.pub")))
        if not keys:
            raise SigningError(f"{folder}: holds no key (*.pub). Put one there, or remove the folder")
        return Trust(keys, str(folder))
    return NO_TRUST


def trust_of(keys: Sequence[StrPath] | Trust | None) -> Trust:
    """The keys in some ``.pub`` files; None takes those that are configured.

    Raises:
        SigningError: a key can't be read.
    """
    if isinstance(keys, Trust):
        return keys
    if not keys:
        return configured_trust()
    return Trust(tuple(read_public_key(Path(path)) for path in keys), "--trust")


def _user_folder() -> Path | None:
    if given := os.environ.get("XDG_CONFIG_HOME"):
        return Path(given) / "molre-edge" / "trust"
    try:
        return Path.home() / ".config" / "molre-edge" / "trust"
    except RuntimeError:  # a user without a home
        return None


def _version(path: Path, fields: dict[str, str]) -> int:
    word = fields.get("version", fields.get("timestamp", "0"))
    if not (word.isascii() and word.isdigit() and len(word) <= 15):
        raise SigningError(f"{path}: its trusted comment names version {word[:40]!r}; expected a whole number")
    return int(word)
