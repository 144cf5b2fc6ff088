"""A copy of a bundle within a model repository: what the manifest covers, its signature, adapters and engines."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from molre_edge.adapters.file import MAX_ADAPTER_BYTES
from molre_edge.adapters.store import ADAPTERS, INDEX, AdapterStore
from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.bundle.engine_files import ENGINES, list_engines, read_engine
from molre_edge.bundle.manifest import MAX_MANIFEST_BYTES
from molre_edge.bundle.release import RELEASE
from molre_edge.errors import BundleError, SigningError
from molre_edge.files import read_regular
from molre_edge.signing.trust import SUFFIX as SIGNATURE
from molre_edge.specs import Precision

__all__ = ["copy_bundle", "default_adapter"]

_MAX_RELEASE_BYTES = MAX_MANIFEST_BYTES + (1 << 20)


def copy_bundle(bundle: Bundle, folder: Path, precision: Precision) -> None:
    """Copy an open bundle; every hash is compared, and the copy is opened and checked as the bundle was.

    Args:
        bundle: open.
        folder: new.
        precision: engines of the other precisions' graphs stay behind.

    Raises:
        BundleError: a file is altered, missing, or was replaced since the bundle was opened.
        SigningError: an adapter is not signed as the bundle's trust asks.
    """
    folder.mkdir()
    for name in sorted(bundle.manifest["files"]):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(bundle.read(name))
    (folder / MANIFEST).write_bytes(_read(bundle.folder / MANIFEST, MAX_MANIFEST_BYTES))
    for name in (RELEASE, RELEASE + SIGNATURE):
        if (bundle.folder / name).is_file():
            (folder / name).write_bytes(_read(bundle.folder / name, _MAX_RELEASE_BYTES))
    if bundle.fit is not None:
        _copy_adapters(bundle, folder / ADAPTERS)
    _copy_engines(bundle, folder / ENGINES, precision)
    copied = Bundle.open(folder, expect_digest=bundle.digest, trust=bundle.trust)
    if copied.fit is not None:
        for name in sorted(copied.store().index().adapters):
            copied.select(name)


def default_adapter(folder: Path) -> str | None:
    """Name of the adapter that answers requests without one; None for graphs that take none.

    Raises:
        BundleError: the list of adapters is damaged.
    """
    return AdapterStore(folder).index().default or None


def _copy_adapters(bundle: Bundle, folder: Path) -> None:
    """Copy the adapters that the bundle lists, and the version before each, with their signatures."""
    folder.mkdir()
    index = bundle.store().index()
    for name in sorted(index.files()):
        content = _read(bundle.folder / ADAPTERS / name, MAX_ADAPTER_BYTES)
        if hashlib.sha256(content).hexdigest() != Path(name).stem:
            raise BundleError(
                f"{bundle.folder / ADAPTERS / name}: altered or damaged: its SHA-256 is not its name. Add the adapter "
                f"again"
            )
        (folder / name).write_bytes(content)
        signature = bundle.folder / ADAPTERS / (name + SIGNATURE)
        if signature.is_file():
            (folder / signature.name).write_bytes(_read(signature, 1 << 20))
    (folder / INDEX).write_text(json.dumps(index.to_dict(), indent=2) + "\n", encoding="utf-8")


def _copy_engines(bundle: Bundle, folder: Path, precision: Precision) -> None:
    graph = bundle.graph(precision).file
    for engine in list_engines(bundle):
        if engine.graph != graph:
            continue
        try:
            content = read_engine(bundle, engine)
        except (BundleError, SigningError):  # left behind, as infer passes over it
            continue
        folder.mkdir(exist_ok=True)
        (folder / engine.path.name).write_bytes(content)
        facts = json.dumps(dict(engine.facts), indent=2, allow_nan=False) + "\n"
        (folder / engine.path.with_suffix(".json").name).write_text(facts, encoding="utf-8")


def _read(path: Path, largest: int) -> bytes:
    try:
        return read_regular(path, largest=largest, links=False)
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror}). Copy the bundle again") from error
