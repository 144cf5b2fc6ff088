"""minisign's format: keys, signatures and trusted comments (https://jedisct1.github.io/minisign/, "minisign format").

A signature is Ed25519 over the BLAKE2b-512 of a file (algorithm ``ED``, "prehashed"); a second one, over the first and
the trusted comment, is the global signature. The older form without the hash (``Ed``) is refused: it would need the
whole file in memory, and minisign has not made it since version 0.8. ``minisign -V`` accepts what is written here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molre_edge.errors import MissingDependencyError, SigningError
from molre_edge.files import read_regular, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "MAX_COMMENT",
    "PublicKey",
    "SecretKey",
    "Signature",
    "new_secret_key",
    "parse_public_key",
    "parse_signature",
    "read_public_key",
    "read_secret_key",
    "read_signature",
    "sign",
    "write_key_pair",
]

MAX_COMMENT = 8192
"""Longest trusted comment in bytes, as minisign has it."""

_MAX_BYTES = 64 << 10
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
_KEY, _PREHASHED, _PLAIN = b"Ed", b"ED", b"\0\0"
_SCRYPT, _BLAKE = b"Sc", b"B2"
_OPS, _MEMORY = 33_554_432, 1 << 30
"""libsodium's "sensitive" settings, with which minisign protects a key: 1 GiB of memory and some seconds."""
_MOST_MEMORY = 1 << 31
_SECRET = struct.Struct("<2s2s2s32sQQ104s")


@dataclass(frozen=True)
class PublicKey:
    """What a signature is checked with.

    Attributes:
        id: eight bytes, as minisign shows them: 16 hexadecimal digits.
        raw: 32 bytes.
        source: the file it came from, for messages.
    """

    id: str
    raw: bytes
    source: str = ""

    @property
    def text(self) -> str:
        """The content of a ``.pub`` file."""
        content = base64.b64encode(_KEY + _id_bytes(self.id) + self.raw).decode()
        return f"{_UNTRUSTED}minisign public key {self.id}\n{content}\n"

    def verify(self, content: bytes, signature: Signature) -> None:
        """Check a signature over some content, and its global signature.

        Raises:
            SigningError: made by another key, the content was altered, or the trusted comment was.
        """
        if signature.key_id != self.id:
            raise SigningError(f"signed by key {signature.key_id}; expected key {self.id}")
        key = _public(self.raw)
        if not _holds(key, signature.raw, hashlib.blake2b(content).digest()):
            raise SigningError(f"the signature of key {self.id} does not fit: altered since it was signed")
        if not _holds(key, signature.global_raw, signature.raw + signature.comment.encode()):
            raise SigningError(f"the trusted comment was altered since key {self.id} signed it")


@dataclass(frozen=True)
class Signature:
    """A signature file.

    Attributes:
        key_id: of the key that made it.
        raw: Ed25519 over the content's BLAKE2b-512, 64 bytes.
        comment: the trusted comment.
        global_raw: Ed25519 over `raw` and the comment, 64 bytes.
    """

    key_id: str
    raw: bytes
    comment: str
    global_raw: bytes

    @property
    def text(self) -> str:
        """The content of a ``.minisig`` file."""
        first = base64.b64encode(_PREHASHED + _id_bytes(self.key_id) + self.raw).decode()
        last = base64.b64encode(self.global_raw).decode()
        return f"{_UNTRUSTED}signature by key {self.key_id}\n{first}\n{_TRUSTED}{self.comment}\n{last}\n"

    @property
    def fields(self) -> dict[str, str]:
        """The trusted comment as minisign writes it: ``name:value``, separated by tabs; the first of a name counts."""
        found: dict[str, str] = {}
        for part in self.comment.split("\t"):
            name, separator, value = part.partition(":")
            if separator:
                found.setdefault(name, value)
        return found


@dataclass(frozen=True, repr=False)
class SecretKey:
    """What signatures are made with; it is in no message.

    Attributes:
        id: as :attr:`PublicKey.id`.
        seed: 32 bytes.
    """

    id: str
    seed: bytes

    @property
    def public(self) -> PublicKey:
        """The key that others need."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return PublicKey(self.id, _private(self.seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def sign(content: bytes, key: SecretKey, comment: str) -> Signature:
    """Sign some content, with a trusted comment.

    Raises:
        SigningError: the comment has several lines or is too long.
        MissingDependencyError: ``cryptography`` is not installed.
    """
    if len(comment.encode()) > MAX_COMMENT or any(ord(sign) < 32 and sign != "\t" for sign in comment):
        raise SigningError(f"the trusted comment must be one line of at most {MAX_COMMENT} bytes")
    private = _private(key.seed)
    raw = private.sign(hashlib.blake2b(content).digest())
    return Signature(key.id, raw, comment, private.sign(raw + comment.encode()))


def read_public_key(path: Path) -> PublicKey:
    """A ``.pub`` file.

    Raises:
        SigningError: it can't be read, or is no public key of minisign.
    """
    return parse_public_key(_read(path), str(path))


def parse_public_key(text: str, source: str) -> PublicKey:
    """The content of a ``.pub`` file; a line with the key alone, as ``minisign -P`` takes it, will do.

    Raises:
        SigningError: it is no public key of minisign.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(_UNTRUSTED)]
    raw = _decoded(lines[0], 42) if len(lines) == 1 else None
    if raw is None or raw[:2] != _KEY:
        hint = " This is the secret key: never hand it out." if raw is None and "secret key" in text[:200] else ""
        raise SigningError(f"{source}: not a public key of minisign (a .pub file).{hint} Name the .pub file")
    return PublicKey(raw[2:10][::-1].hex().upper(), raw[10:], source)


def read_signature(path: Path) -> Signature:
    """A ``.minisig`` file.

    Raises:
        SigningError: it can't be read, or is no prehashed signature of minisign.
    """
    return parse_signature(_read(path), str(path))


def parse_signature(text: str, source: str) -> Signature:
    """The content of a ``.minisig`` file.

    Raises:
        SigningError: it is no prehashed signature of minisign.
    """
    lines = text.removesuffix("\n").split("\n")
    first = _decoded(lines[1], 74) if len(lines) == 4 else None
    last = _decoded(lines[3], 64) if len(lines) == 4 else None
    if first is None or last is None or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise SigningError(f"{source}: not a signature of minisign (four lines). Copy it again, or sign again")
    if first[:2] != _PREHASHED:
        raise SigningError(f"{source}: not a prehashed signature ('ED'). Sign again with minisign 0.8 or later")
    return Signature(first[2:10][::-1].hex().upper(), first[10:], lines[2].removeprefix(_TRUSTED), last)


def new_secret_key() -> SecretKey:
    """A new random key."""
    return SecretKey(secrets.token_bytes(8)[::-1].hex().upper(), secrets.token_bytes(32))


def write_key_pair(key: SecretKey, path: Path, password: str | None) -> Path:
    """Write ``NAME.key`` (mode 0600) and ``NAME.pub``, as ``minisign -G`` does.

    Args:
        key: the key.
        path: ``NAME.key``.
        password: protects the file; None or empty for none, as ``minisign -W``.

    Returns:
        The public key's file.

    Raises:
        SigningError: one of the files exists.
    """
    public = path.with_suffix(".pub")
    for each in (path, public):
        if each.exists():
            raise SigningError(f"{each}: exists. A key is never overwritten: name another, or remove it first")
    salt, ops, memory = (secrets.token_bytes(32), _OPS, _MEMORY) if password else (bytes(32), 0, 0)
    raw = _id_bytes(key.id) + key.seed + key.public.raw
    plain = raw + hashlib.blake2b(_KEY + raw, digest_size=32).digest()
    mask = _mask(password, salt, ops, memory) if password else bytes(len(plain))
    kind = _SCRYPT if password else _PLAIN
    packed = _SECRET.pack(_KEY, kind, _BLAKE, salt, ops, memory, bytes(a ^ b for a, b in zip(plain, mask, strict=True)))
    what = "encrypted " if password else ""
    text = f"{_UNTRUSTED}minisign {what}secret key\n{base64.b64encode(packed).decode()}\n"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="ascii") as file:
        file.write(text)
    with write_whole(public) as partial:
        partial.write_text(key.public.text, encoding="ascii")
    return public


def read_secret_key(path: Path, password: str | None = None) -> SecretKey:
    """A ``.key`` file of minisign or of ``molre-edge sign --new-key``.

    Raises:
        SigningError: it can't be read, is no secret key, is protected and no password was given, or the password is
            wrong.
    """
    lines = [line for line in _read(path).splitlines() if line.strip() and not line.startswith(_UNTRUSTED)]
    packed = _decoded(lines[0], _SECRET.size) if len(lines) == 1 else None
    if packed is None or packed[:2] != _KEY:
        raise SigningError(f"{path}: not a secret key of minisign (a .key file). Name the file that 'minisign -G' made")
    _, kind, _, salt, ops, memory, masked = _SECRET.unpack(packed)
    if kind == _PLAIN:
        plain = masked
    elif kind != _SCRYPT:
        raise SigningError(f"{path}: protected in a way that is not known here. Expected minisign's scrypt")
    elif not password:
        raise SigningError(f"{path}: protected by a password, and none was given. Set MOLRE_EDGE_KEY_PASSWORD")
    elif memory > _MOST_MEMORY or ops > 1 << 32:
        raise SigningError(
            f"{path}: asks for {memory >> 20} MiB to check a password; {_MOST_MEMORY >> 20} are the limit"
        )
    else:
        plain = bytes(a ^ b for a, b in zip(masked, _mask(password, salt, ops, memory), strict=True))
    raw, check = plain[:72], plain[72:]
    if hashlib.blake2b(_KEY + raw, digest_size=32).digest() != check:
        wrong = "the password is wrong" if kind == _SCRYPT else "damaged"
        raise SigningError(f"{path}: {wrong}. Check it, and sign again")
    return SecretKey(raw[:8][::-1].hex().upper(), raw[8:40])


def _mask(password: str, salt: bytes, ops: int, memory: int) -> bytes:
    """What a key is hidden with: scrypt with the settings that libsodium derives from its two limits."""
    ops = max(ops, 32768)
    block = 8
    if ops < memory // 32:
        parallel, most = 1, ops // (block * 4)
    else:
        most = memory // (block * 128)
        parallel = 0
    power = 1
    while power < 63 and (1 << power) <= most // 2:
        power += 1
    if not parallel:
        parallel = max(1, min((ops // 4) >> power, 0x3FFFFFFF) // block)
    return hashlib.scrypt(
        password.encode(), salt=salt, n=1 << power, r=block, p=parallel, maxmem=_MOST_MEMORY - 1, dklen=104
    )


def _read(path: Path) -> str:
    try:
        return read_regular(path, largest=_MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise SigningError(f"{path}: can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SigningError(f"{path}: not a text, as files of minisign are") from error


def _decoded(line: str, size: int) -> bytes | None:
    """Base64 of an exact size; None for anything else."""
    try:
        raw = base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == size else None


def _id_bytes(key_id: str) -> bytes:
    """Minisign shows a key's id as a number, whose bytes the files hold from its low end."""
    return bytes.fromhex(key_id)[::-1]


def _holds(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _public(raw: bytes) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingDependencyError("Checking a signature", "cryptography", "sign") from error
    return Ed25519PublicKey.from_public_bytes(raw)


def _private(seed: bytes) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingDependencyError("Signing", "cryptography", "sign") from error
    return Ed25519PrivateKey.from_private_bytes(seed)
