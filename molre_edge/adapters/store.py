"""A bundle's adapters: files named by their content in ``adapters/``, and one index that is replaced in one step.

Every change writes new files first and the index last, so at each moment, also after a kill, the index names whole
files. Files that it does not name are leftovers; the next change removes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from molre_edge.adapters.file import MAX_ADAPTER_BYTES, SUFFIX, Adapter, adapter_name, parse_adapter
from molre_edge.errors import AdapterError, BundleError
from molre_edge.files import read_regular, write_json, write_whole
from molre_edge.signing.memory import SigningMemory
from molre_edge.signing.trust import NO_TRUST, Trust
from molre_edge.signing.trust import SUFFIX as SIGNATURE

__all__ = ["ADAPTERS", "INDEX", "AdapterStore", "Index", "StoredAdapter"]

ADAPTERS = "adapters"
INDEX = "index.json"
FORMAT, FORMAT_VERSION = "molre-edge-adapters", 1

_MAX_INDEX_BYTES = 1 << 20
_MOST = 1000
_TRIES = 5
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredAdapter:
    """One adapter of an index.

    Attributes:
        sha256: of its file.
        added: when it was added (UTC).
        checked: engines that answered its golden answers when it was added.
        previous: the version before it; None without one.
    """

    sha256: str
    added: str
    checked: tuple[str, ...] = ()
    previous: StoredAdapter | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        previous = None if self.previous is None else self.previous.to_dict()
        return {"sha256": self.sha256, "added": self.added, "checked": list(self.checked), "previous": previous}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, depth: int = 1) -> StoredAdapter:
        """The inverse of :meth:`to_dict`; no version before the previous one is read.

        Raises:
            ValueError, KeyError, TypeError: impossible values.
        """
        if not _SHA256.fullmatch(data["sha256"]) or not all(isinstance(each, str) for each in data["checked"]):
            raise ValueError("expected SHA-256, and names of engines")
        previous = data["previous"] if depth else None
        older = None if previous is None else cls.from_dict(previous, depth=depth - 1)
        return cls(data["sha256"], str(data["added"])[:40], tuple(data["checked"]), older)


@dataclass(frozen=True)
class Index:
    """What a bundle's index says.

    Attributes:
        default: name of the adapter that is used where none is named; empty in a store without adapters.
        adapters: by name.
    """

    default: str = ""
    adapters: Mapping[str, StoredAdapter] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        listed = {name: self.adapters[name].to_dict() for name in sorted(self.adapters)}
        return {"format": FORMAT, "version": FORMAT_VERSION, "default": self.default, "adapters": listed}

    def files(self) -> set[str]:
        """Names of the files that it names."""
        every = [*self.adapters.values(), *(each.previous for each in self.adapters.values() if each.previous)]
        return {f"{each.sha256}{SUFFIX}" for each in every}


class AdapterStore:
    """The adapters of one bundle. What writes holds the bundle (:func:`molre_edge.bundle.bundle.hold_bundle`)."""

    def __init__(
        self,
        bundle: Path,
        trust: Trust = NO_TRUST,
        *,
        release: str = "",
        accept_older: bool = False,
        remember: bool = True,
    ) -> None:
        """Use the folder ``adapters`` of a bundle; it may not exist yet.

        Args:
            bundle: the bundle's folder.
            trust: the keys, one of which must have signed each adapter that is read.
            release: name of the bundle's signed release: versions of adapters are counted for each.
            accept_older: take versions older than those that were used here.
            remember: whether the versions that are read count as used.
        """
        self.folder, self._trust, self._release = bundle / ADAPTERS, trust, release
        self._accept_older, self._remember = accept_older, remember

    def index(self) -> Index:
        """The index; an empty one if there is none.

        Raises:
            BundleError: it is damaged, a link, or of another format.
        """
        path = self.folder / INDEX
        if self.folder.is_symlink():
            raise BundleError(f"{self.folder}: is a symbolic link; expected a folder. Copy the bundle again")
        try:
            data = json.loads(read_regular(path, largest=_MAX_INDEX_BYTES, links=False))
            if data["format"] != FORMAT or data["version"] != FORMAT_VERSION:
                raise ValueError(f"expected format {FORMAT!r}, version {FORMAT_VERSION}")
            if len(data["adapters"]) > _MOST:
                raise ValueError(f"more than {_MOST} adapters")
            stored = {adapter_name(name): StoredAdapter.from_dict(each) for name, each in data["adapters"].items()}
            if data["default"] not in stored:
                raise ValueError("its default is none of its adapters")
        except FileNotFoundError:
            return Index()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, AdapterError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise BundleError(
                f"{path}: not a bundle's list of adapters ({reason[:200]}). Copy the bundle again, or export the "
                f"checkpoint again and add its adapters"
            ) from error
        return Index(data["default"], stored)

    def read(self, name: str | None = None) -> Adapter:
        """An adapter, its hash compared; the bytes that were hashed are those that are used.

        Args:
            name: of the adapter; None for the default.

        Raises:
            AdapterError: there is none of that name.
            BundleError: its file is missing, altered or damaged, or the index is.
            SigningError: it is not signed as the trusted keys ask, or is older than one that was used here.
        """
        for attempt in range(_TRIES):
            index = self.index()
            stored = self.named(index, name)
            try:
                return self._read_file(stored.sha256, index.default if name is None else name)
            except FileNotFoundError as error:  # removed since the index was read, or lost
                if attempt == _TRIES - 1:
                    path = self._path(stored.sha256)
                    raise BundleError(f"{path}: is missing. Copy the bundle again, or add the adapter again") from error
        raise AssertionError("unreachable")

    @staticmethod
    def named(index: Index, name: str | None) -> StoredAdapter:
        """What an index says of a name; None is the default.

        Raises:
            AdapterError: there is none of that name.
        """
        key = index.default if name is None else name
        if not index.adapters:
            raise AdapterError("the bundle has no adapter yet. 'molre-edge adapter add FILE' adds one")
        if key not in index.adapters:
            there = ", ".join(sorted(index.adapters))
            raise AdapterError(
                f"the bundle has no adapter {key[:100]!r}; it has {there}. 'molre-edge adapter add FILE' adds one"
            )
        return index.adapters[key]

    def read_version(self, stored: StoredAdapter, name: str, *, accept_older: bool = False) -> Adapter:
        """One version of an adapter, its hash compared.

        Args:
            stored: the version.
            name: of the adapter.
            accept_older: where it must be signed, take a version older than one that was used here, from now on.

        Raises:
            BundleError: its file is missing, altered or damaged.
            SigningError: as :meth:`read`.
        """
        try:
            return self._read_file(stored.sha256, name, accept_older=accept_older)
        except FileNotFoundError as error:
            raise BundleError(f"{self._path(stored.sha256)}: is missing. Add the adapter again") from error

    def signable(self) -> Mapping[Path, str]:
        """The files of the adapters in use, with their names.

        Raises:
            BundleError: as :meth:`index`.
        """
        return {self._path(stored.sha256): name for name, stored in self.index().adapters.items()}

    def put(
        self, adapter: Adapter, content: bytes, checked: tuple[str, ...] = (), signature: bytes | None = None
    ) -> Index:
        """Add an adapter, or a new version of one. The first of a bundle becomes its default.

        Args:
            adapter: parsed from `content`.
            content: the bytes of its file.
            checked: engines that answered its golden answers.
            signature: the content of its signature's file; None without one.

        Raises:
            OSError: it can't be written; the adapters stay as they were.
        """
        index = self.index()
        self._clear(index)
        with write_whole(self._path(adapter.digest)) as partial:
            partial.write_bytes(content)
        if signature is not None:
            path = self._path(adapter.digest)
            with write_whole(path.with_name(path.name + SIGNATURE)) as partial:
                partial.write_bytes(signature)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        before = index.adapters.get(adapter.name)
        if before is not None and before.sha256 == adapter.digest:
            before = before.previous  # the same again: the version before it stays
        stored = StoredAdapter(adapter.digest, now, checked, before and replace(before, previous=None))
        return self._write(Index(index.default or adapter.name, {**index.adapters, adapter.name: stored}))

    def remove(self, name: str) -> Index:
        """Remove an adapter and the version before it.

        Raises:
            AdapterError: there is none of that name, or it is the default.
        """
        index = self.index()
        self.named(index, name)
        if name == index.default:
            raise AdapterError(
                f"adapter {name} is the bundle's default, and a bundle without one answers nothing. Make another one "
                f"the default first: 'molre-edge adapter default NAME'"
            )
        return self._write(Index(index.default, {key: each for key, each in index.adapters.items() if key != name}))

    def make_default(self, name: str) -> Index:
        """Use an adapter where none is named.

        Raises:
            AdapterError: there is none of that name.
        """
        index = self.index()
        self.named(index, name)
        return self._write(Index(name, index.adapters))

    def roll_back(self, name: str) -> Index:
        """Exchange an adapter with the version before it.

        Raises:
            AdapterError: there is none of that name, or no version before it.
        """
        index = self.index()
        stored = self.named(index, name)
        if stored.previous is None:
            raise AdapterError(f"adapter {name}: there is no version before {stored.sha256[:12]} to go back to")
        back = replace(stored.previous, previous=replace(stored, previous=None))
        return self._write(Index(index.default, {**index.adapters, name: back}))

    def _path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}{SUFFIX}"

    def _read_file(self, sha256: str, name: str, *, accept_older: bool = False) -> Adapter:
        path = self._path(sha256)
        again = "Copy the bundle again, or add the adapter again"
        try:
            content = read_regular(path, largest=MAX_ADAPTER_BYTES, links=False)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BundleError(f"{path}: can't be read ({error.strerror}). {again}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise BundleError(f"{path}: altered or damaged: its SHA-256 is not its name. {again}")
        try:
            adapter = parse_adapter(content)
        except ValueError as error:
            raise BundleError(f"{path}: not a whole adapter ({error}). {again}") from error
        if adapter.name != name:
            raise BundleError(f"{path}: is the adapter {adapter.name}, and the list says {name}. {again}")
        self.check_signature(content, path, name, accept_older=accept_older or self._accept_older)
        return adapter

    def check_signature(
        self, content: bytes, path: Path, name: str, *, accept_older: bool = False, remember: bool = True
    ) -> None:
        """Check an adapter's signature and version, if the trusted keys ask for it.

        Args:
            content: of its file.
            path: of its file; the signature is beside it.
            name: of the adapter.
            accept_older: take a version older than one that was used here.
            remember: whether it counts as used from now on.

        Raises:
            SigningError: it is not signed, by another key, altered, or older.
        """
        if not self._trust:
            return
        signed = replace(self._trust.check(content, path), name=f"adapter {name} of {self._release}")
        remember = remember and self._remember
        SigningMemory.here().check(signed, path, accept_older=accept_older, remember=remember)

    def _write(self, index: Index) -> Index:
        """Replace the index, then remove what it no longer names."""
        write_json(self.folder / INDEX, index.to_dict())
        self._clear(index)
        return index

    def _clear(self, index: Index) -> None:
        """Remove files of adapters that the index does not name: removed ones, and what a killed command left."""
        kept = {INDEX, *index.files()}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            name = path.name.removesuffix(SIGNATURE)
            ours = name.endswith(SUFFIX) or (name.startswith(".") and ".partial" in name)
            if ours and name not in kept:
                with contextlib.suppress(OSError):
                    path.unlink()
