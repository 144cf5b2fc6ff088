"""Engines in a bundle: each a file in ``engines/`` with a JSON beside it that holds its hash.

An engine is code for a GPU. It is read only through :func:`read_engine`, which compares its hash and that of the graph
it was built from before anybody deserialises it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import BundleError, EngineError
from molre_edge.files import write_json, write_whole

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
    """An engine's file and what its JSON says.

    Attributes:
        path: the engine.
        sha256: of the engine.
        graph: name of the graph in the bundle that it was built from.
        graph_sha256: of that graph.
        facts: all of the JSON; docs/tensorrt.md describes it.
    """

    path: Path
    sha256: str
    graph: str
    graph_sha256: str
    facts: Mapping[str, Any]


def write_engine(bundle: Bundle, name: str, content: bytes | memoryview, facts: Mapping[str, Any]) -> EngineFile:
    """Write an engine and its JSON, each whole; an engine of that name is replaced.

    Args:
        bundle: where to.
        name: without suffix, such as ``rtx-fp16``.
        content: the serialised engine.
        facts: all of the JSON but format, version, file, sha256 and bytes.

    Raises:
        EngineError: it can't be written; nothing is left of it, and an older one stays.
    """
    path, size = bundle.folder / ENGINES / f"{name}.engine", memoryview(content).nbytes
    head = {"format": FORMAT, "version": FORMAT_VERSION, "file": path.name}
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        with write_whole(path) as partial:
            partial.write_bytes(content)
            # Within the block: on a full disk neither file takes its place. Between the two, a kill leaves a JSON that
            # refuses the older engine.
            write_json(path.with_suffix(".json"), {**head, "sha256": sha256, "bytes": size, **facts})
    except OSError as error:
        raise EngineError(
            f"{path}: can't be written ({error.strerror or error}); the engine takes {size / 1e6:.0f} MB. Nothing "
            f"of it was left behind"
        ) from error
    return read_engine_facts(path.with_suffix(".json"))


def list_engines(bundle: Bundle) -> tuple[EngineFile, ...]:
    """The engines of a bundle, by name. Their hashes are compared when they are read.

    Hidden files are none: a build that is running, or was killed, has its half-written JSON there.

    Raises:
        BundleError: a JSON is damaged or not one of ours.
    """
    paths = sorted((bundle.folder / ENGINES).glob("*.json"))
    return tuple(read_engine_facts(path) for path in paths if not path.name.startswith("."))


def read_engine(bundle: Bundle, engine: EngineFile) -> bytes:
    """An engine's content after its hash was compared; the bytes checked are the bytes returned.

    Raises:
        BundleError: swapped, altered, a link, absent, or built from another graph than the bundle's.
    """
    again = "build it again with 'molre-edge build'"
    if bundle.manifest["files"].get(engine.graph) != engine.graph_sha256:
        raise BundleError(f"{engine.path}: built from another {engine.graph} than this bundle's; {again}")
    if engine.path.is_symlink() or engine.path.parent.is_symlink():
        raise BundleError(f"{engine.path}: is a link; a bundle's files lie in the bundle itself")
    try:
        if engine.path.stat().st_size > _MAX_ENGINE_BYTES:
            raise BundleError(f"{engine.path}: larger than any engine of ours; {again}")
        content = engine.path.read_bytes()
    except OSError as error:
        raise BundleError(f"{engine.path}: can't be read ({error.strerror}); {again}") from error
    if hashlib.sha256(content).hexdigest() != engine.sha256:
        raise BundleError(f"{engine.path}: altered or swapped, its SHA-256 is not that of its JSON; {again}")
    return content


def read_engine_facts(path: Path) -> EngineFile:
    """What the JSON of an engine says; the engine itself is not read.

    Raises:
        BundleError: the JSON is absent, damaged or not one of ours.
    """
    try:
        if path.is_symlink() or path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("a link, or larger than any of ours")
        data = json.loads(path.read_bytes())
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
            f"{path}: not the JSON of an engine ({str(error)[:200]}); delete it with its engine and build again"
        ) from error
