"""The verbs ``sign_release`` and ``make_signing_key``, for the maker of a release."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molre_edge.adapters.store import AdapterStore
from molre_edge.bundle.bundle import Bundle, hold_bundle
from molre_edge.bundle.release import RELEASE, release_content
from molre_edge.errors import SigningError
from molre_edge.files import StrPath, read_regular, write_whole
from molre_edge.signing.minisign import SecretKey, new_secret_key, read_secret_key, sign, write_key_pair
from molre_edge.signing.trust import NO_TRUST, SUFFIX

__all__ = ["SignedRelease", "SigningKey", "make_signing_key", "sign_release", "write_release"]

_MAX_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class SigningKey:
    """A new pair of keys.

    Attributes:
        secret: file of the secret key, readable by its owner alone; it never leaves the maker.
        public: file of the public key, which boxes trust.
        id: of the pair, as minisign shows it.
    """

    secret: Path
    public: Path
    id: str

    def to_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return {"secret_key": str(self.secret), "public_key": str(self.public), "key": self.id}


@dataclass(frozen=True)
class SignedRelease:
    """A release and its signature.

    Attributes:
        path: the file that was signed: the bundle's ``release.json``, or the file itself.
        signature: the signature's file.
        key_id: of the key.
        name, version: of the release, as its trusted comment says them.
    """

    path: Path
    signature: Path
    key_id: str
    name: str
    version: int

    def to_dict(self) -> dict[str, str | int]:
        """Plain data for JSON, as ``molre-edge sign --json`` prints it."""
        return {
            "signed": str(self.path),
            "signature": str(self.signature),
            "key": self.key_id,
            "name": self.name,
            "version": self.version,
        }


def make_signing_key(path: StrPath, *, password: str | None = None) -> SigningKey:
    """Make a pair of keys in minisign's format: ``NAME.key`` and ``NAME.pub``.

    Args:
        path: the secret key's file, ``NAME.key``.
        password: protects the secret key; None leaves it to the permissions of the file. Protecting and opening a key
            takes 1 GiB of memory and some seconds, as minisign has it.

    Raises:
        SigningError: a file of that name exists, or the name does not end in ``.key``.
        MissingDependencyError: ``cryptography`` is not installed.
    """
    secret = Path(path)
    if secret.suffix != ".key":
        raise SigningError(f"{secret}: expected a name that ends in .key; the public key goes beside it, as .pub")
    if not secret.parent.is_dir():
        raise SigningError(f"{secret.parent}: no such folder. Make it first; nobody but you should be able to read it")
    key = new_secret_key()
    return SigningKey(secret, write_key_pair(key, secret, password), key.id)


def sign_release(
    path: StrPath,
    key: StrPath,
    *,
    password: str | None = None,
    name: str | None = None,
    version: int | None = None,
) -> SignedRelease:
    """Sign a bundle's release, or a file, in minisign's format.

    Of a bundle, everything that its manifest covers now is the release; its adapters get a signature each. What a box
    adds later (8-bit graphs of its own calibrations, engines) is not covered, and runs only on the box that made it.

    Args:
        path: a bundle, or a file such as ``NAME.adapter``.
        key: the secret key of ``make_signing_key`` or of ``minisign -G``.
        password: of the key, if it has one.
        name: of the release: boxes refuse an older version of a name. Default: that of the folder or file.
        version: a whole number that grows with each release. Default: the time, in seconds since 1970.

    Raises:
        SigningError: the key or its password is wrong, or name or version can't be used.
        BundleError: `path` is no bundle, or a file in it is altered.
        InUseError: another process writes the bundle.
        MissingDependencyError: ``cryptography`` is not installed.
    """
    target = Path(path)
    secret = read_secret_key(Path(key), password)
    if target.is_dir():
        bundle = Bundle.open(target, trust=NO_TRUST)
        with hold_bundle(bundle, "molre-edge sign"):
            for each in bundle.manifest["files"]:
                bundle.read(each)  # what is signed must be what was exported
            return write_release(bundle.folder, bundle.manifest, secret, name or target.resolve().name, version)
    try:
        content = read_regular(target, largest=_MAX_FILE_BYTES)
    except OSError as error:
        raise SigningError(f"{target}: can't be read ({error.strerror}). Name a bundle or a file") from error
    return _signed(target, content, secret, name or target.stem, version)


def write_release(
    folder: Path, manifest: Mapping[str, Any], key: SecretKey, name: str, version: int | None = None
) -> SignedRelease:
    """Write ``release.json`` and its signature into a bundle that the caller holds, and sign its adapters.

    Raises:
        SigningError: name or version can't be used.
    """
    content = release_content(manifest)
    path = folder / RELEASE
    comment, version = _comment(path.name, name, version)
    signature = sign(content, key, comment)  # before anything is written
    for file, adapter in AdapterStore(folder).signable().items():  # data of their own, each with a signature
        _signed(file, read_regular(file, largest=_MAX_FILE_BYTES), key, adapter, version)
    with write_whole(path) as partial:
        partial.write_bytes(content)
    return _written(path, signature.text, key.id, name, version)


def _signed(path: Path, content: bytes, key: SecretKey, name: str, version: int | None) -> SignedRelease:
    comment, version = _comment(path.name, name, version)
    return _written(path, sign(content, key, comment).text, key.id, name, version)


def _written(path: Path, text: str, key_id: str, name: str, version: int) -> SignedRelease:
    place = path.with_name(path.name + SUFFIX)
    with write_whole(place) as partial:
        partial.write_text(text, encoding="utf-8")
    return SignedRelease(path, place, key_id, name, version)


def _comment(file: str, name: str, version: int | None) -> tuple[str, int]:
    """The trusted comment, as minisign writes its own with two fields more, and the version in it."""
    now = int(time.time())
    version = now if version is None else version
    if not name or len(name) > 100 or not name.isprintable() or ":" in name:
        raise SigningError(f"name {name!r}: expected 1 to 100 printable signs without ':'")
    if not 0 <= version < 10**15:
        raise SigningError(f"version {version}: expected a whole number from 0 to 999999999999999")
    return f"timestamp:{now}\tfile:{file}\thashed\tname:{name}\tversion:{version}", version
