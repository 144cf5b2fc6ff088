"""Anonymous ids of scans: keyed hashes, which say nothing about a scan and do not depend on other scans.

The key is a secret of the run. It lies beside ``scans.csv``; shards of one run share it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from molre_edge.errors import RunError, UsageError
from molre_edge.files import read_regular

__all__ = ["SECRET_FILE", "IdSecret", "Shard", "is_scan_id"]

SECRET_FILE = "ids.secret"
"""In a run: the key of its ids, in hexadecimal. Keep it where ``scans.csv`` is kept."""

_SECRET_BYTES = 32
_ID_BYTES = 10  # 80 bits, 16 characters of base32
_PREFIX = "scan-"
_ID = re.compile(r"scan-[a-z2-7]{16}")
_TRIES, _PAUSE_SECONDS = 50, 0.1


@dataclass(frozen=True, repr=False)
class IdSecret:
    """The key of a run's ids.

    Attributes:
        value: 32 random bytes.
    """

    value: bytes

    @classmethod
    def new(cls) -> IdSecret:
        """A random one."""
        return cls(secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def read(cls, path: Path) -> IdSecret:
        """Read a secret.

        Raises:
            RunError: not readable, or not a secret.
        """
        try:
            text = read_regular(path, largest=4 * _SECRET_BYTES).decode("ascii").strip()
            if len(text) == 2 * _SECRET_BYTES:
                return cls(bytes.fromhex(text))
        except OSError as error:
            raise RunError(f"{path}: the secret of the ids can't be read ({error.strerror or error})") from error
        except ValueError:
            pass
        raise RunError(f"{path}: not a secret of ids. Expected {2 * _SECRET_BYTES} hexadecimal digits")

    @classmethod
    def shared(cls, path: Path) -> IdSecret:
        """Read a secret, or make it if nobody has yet. Processes that start at once get the same.

        Raises:
            RunError: the file can't be made or read, or is not a secret.
        """
        if not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                cls.new().write(path)
            except OSError as error:
                raise RunError(f"{path}: the secret can't be written ({error.strerror or error})") from error
        for _ in range(_TRIES):
            if path.stat().st_size:  # without hard links, another process may be about to fill it
                break
            time.sleep(_PAUSE_SECONDS)
        return cls.read(path)

    def write(self, path: Path, *, replace: bool = False) -> None:
        """Write the secret whole, for this user alone.

        Args:
            path: of the file.
            replace: a file that is there; otherwise it stays.

        Raises:
            OSError: the folder can't be written to.
        """
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(f"{self.value.hex()}\n")
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(name, path)
                return
            with contextlib.suppress(FileExistsError):
                try:
                    os.link(name, path)
                except FileExistsError:
                    raise
                except OSError:  # a file system without hard links
                    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                        file.write(f"{self.value.hex()}\n")
        finally:
            Path(name).unlink(missing_ok=True)

    @property
    def mark(self) -> str:
        """A hash that tells secrets apart and gives none away."""
        return hashlib.sha256(b"molre-edge id secret\0" + self.value).hexdigest()

    def scan_id(self, path: str, key: str, repeat: int = 0) -> str:
        """The id of a scan.

        Args:
            path: as ``scans.csv`` has it.
            key: the same.
            repeat: number among entries with the same path and key, from 0.
        """
        message = f"{path}\0{key}\0{repeat}".encode()
        digest = hmac.new(self.value, message, hashlib.sha256).digest()
        return _PREFIX + base64.b32encode(digest[:_ID_BYTES]).decode("ascii").lower()


@dataclass(frozen=True)
class Shard:
    """One of N parts of a run.

    Attributes:
        index: from 1.
        count: N.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From ``I/N``.

        Raises:
            UsageError: something else, or I is not from 1 to N.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text}: expected I/N with I from 1 to N, such as 1/8")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """``I/N``."""
        return f"{self.index}/{self.count}"

    def holds(self, scan: str) -> bool:
        """Whether a scan is of this shard, by its id alone."""
        bits = base64.b32decode(scan.removeprefix(_PREFIX).upper())
        return int.from_bytes(bits, "big") % self.count == self.index - 1


def is_scan_id(text: str) -> bool:
    """Whether a text is an id as runs give them."""
    return _ID.fullmatch(text) is not None
