"""Engines in a bundle: each is a file in ``engines/`` with a JSON file beside it that holds its hash.

An engine is code for a GPU. It is read only by :func:`read_engine`, which compares its hash, and the hash of the graph
that it was built from, before any code deserialises it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import BundleError, EngineError, SigningError
from molre_edge.files import read_regular, replace_folder, restore_folder, write_json, write_whole
from molre_edge.signing.memory import SigningMemory

__all__ = ["ENGINES", "EngineFile", "list_engines", "read_engine", "read_engine_facts", "write_engine"]

ENGINES = "engines"
FORMAT = "molre-edge-engine"
FORMAT_VERSION = 1

_MAX_JSON_BYTES = 1 << 20
_MAX_ENGINE_BYTES = 16 << 30
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\.engine")


@dataclass(frozen=True)
class EngineFile:
    """An engine's file and the content of its JSON file.

    Attributes:
        path: the engine.
        sha256: SHA-256 of the engine.
        graph: the name of the bundle's graph that it was built from.
        graph_sha256: SHA-256 of that graph.
        facts: the content of the JSON file; docs/reference/tensorrt.md describes it.
    """

    path: Path
    sha256: str
    graph: str
    graph_sha256: str
    facts: Mapping[str, Any]


def write_engine(bundle: Bundle, name: str, content: bytes | memoryview, facts: Mapping[str, Any]) -> EngineFile:
    """Write an engine and its JSON file. An engine of that name is replaced.

    The folder of engines is exchanged as a whole, with the other files in it: at each moment, also after a kill, a
    reader finds the engine and the JSON that belong together, the old ones or the new ones.

    Args:
        bundle: the bundle to write to.
        name: the name without suffix, such as ``rtx-fp16``.
        content: the serialised engine.
        facts: the JSON file's content without format, version, file, sha256 and bytes.

    Raises:
        EngineError: it can't be written. Nothing of it is left, and an older engine stays.
    """
    path, size = bundle.folder / ENGINES / f"{name}.engine", memoryview(content).nbytes
    head = {"format": FORMAT, "version": FORMAT_VERSION, "file": path.name}
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        with _replaced(path.parent, {path.name, f"{name}.json"}) as folder:
            with write_whole(folder / path.name) as partial:
                partial.write_bytes(content)
            write_json(folder / f"{name}.json", {**head, "sha256": sha256, "bytes": size, **facts})
    except OSError as error:
        raise EngineError(
            f"{path}: can't be written ({error.strerror or error}). The engine takes {size / 1e6:.0f} MB; nothing of "
            f"it was left behind. Free some space, or make the folder writable, and build again"
        ) from error
    engine = read_engine_facts(path.with_suffix(".json"))
    with contextlib.suppress(SigningError):  # only asked for where releases are signed, and then an error of its own
        SigningMemory.here().made_here(engine.sha256, engine.graph_sha256)
    return engine


@contextlib.contextmanager
def _replaced(folder: Path, without: Collection[str]) -> Iterator[Path]:
    """A new folder with a folder's files but some, which takes its place if the block succeeds.

    Raises:
        OSError: it can't be written, or is a symbolic link.
    """
    if folder.is_symlink():
        raise OSError(0, "a symbolic link, not a folder", str(folder))
    mode = stat.S_IMODE(folder.stat().st_mode) if folder.is_dir() else None
    with replace_folder(folder, mode=mode) as partial:
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.name in without or file.name.startswith(".") or not stat.S_ISREG(file.lstat().st_mode):
                continue
            try:
                os.link(file, partial / file.name)
            except OSError:  # a file system without hard links
                shutil.copy2(file, partial / file.name)
        yield partial


def list_engines(bundle: Bundle) -> tuple[EngineFile, ...]:
    """The engines of a bundle, by name. Their hashes are compared when they are read.

    Hidden files are left out.

    Raises:
        BundleError: a JSON file is damaged or has another format.
    """
    with contextlib.suppress(OSError):
        restore_folder(bundle.folder / ENGINES)
    paths = sorted((bundle.folder / ENGINES).glob("*.json"))
    return tuple(read_engine_facts(path) for path in paths if not path.name.startswith("."))


def read_engine(bundle: Bundle, engine: EngineFile) -> bytes:
    """An engine's content. Its hash is compared; the bytes that were hashed are returned.

    Raises:
        BundleError: the engine is swapped, altered, missing, not a regular file, or built from another graph than the
            bundle's.
        SigningError: the release must be signed, and this machine did not build the engine from it.
    """
    again = "Build it again with 'molre-edge build'"
    if bundle.manifest["files"].get(engine.graph) != engine.graph_sha256:
        raise BundleError(f"{engine.path}: built from another {engine.graph} than this bundle's. {again}")
    if engine.path.parent.is_symlink():
        raise BundleError(f"{engine.path.parent}: is a symbolic link; expected a folder. {again}")
    try:
        content = read_regular(engine.path, largest=_MAX_ENGINE_BYTES, links=False)
    except OSError as error:
        raise BundleError(f"{engine.path}: can't be read ({error.strerror}). {again}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != engine.sha256 and read_engine_facts(engine.path.with_suffix(".json")).sha256 == found:
        raise BundleError(f"{engine.path}: was built anew while it was opened. Run the command again")
    if found != engine.sha256:
        raise BundleError(f"{engine.path}: altered or swapped: its SHA-256 is not the one in its JSON file. {again}")
    bundle.check_made_here(engine.path, found, engine.graph_sha256)
    if bundle.trust and engine.graph not in bundle.released:  # and its graph was made from this release
        bundle.check_made_here(bundle.folder / engine.graph, engine.graph_sha256, None)
    return content


def read_engine_facts(path: Path) -> EngineFile:
    """The content of an engine's JSON file. The engine itself is not read.

    Raises:
        BundleError: the file is missing, damaged or has another format.
    """
    try:
        data = json.loads(read_regular(path, largest=_MAX_JSON_BYTES, links=False))
        if data["format"] != FORMAT or data["version"] != FORMAT_VERSION:
            raise ValueError(f"expected format {FORMAT!r}, version {FORMAT_VERSION}")
        name, graph = data["file"], data["graph"]
        if not _NAME.fullmatch(name) or name != path.with_suffix(".engine").name:
            raise ValueError("expected the name of the engine beside it")
        if not _SHA256.fullmatch(data["sha256"]) or not _SHA256.fullmatch(graph["sha256"]):
            raise ValueError("expected SHA-256 of engine and graph")
        return EngineFile(path.parent / name, data["sha256"], str(graph["file"]), graph["sha256"], data)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{path}: not the JSON of an engine ({_reason(error)}). Delete it and its engine, and build again"
        ) from error


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:200]
