"""The bundle: everything an edge box needs, hashed, and nothing of PyTorch.

A folder with ``manifest.json``, ``graphs/``, ``golden/`` and, later, ``calibration/`` and ``engines/``. The manifest
holds the SHA-256 of every file that it covers, and a file is read only through :meth:`Bundle.read`, which checks it.
Without torch and onnx.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.bundle.golden import GoldenSet, read_golden
from molre_edge.bundle.manifest import (
    FORMAT,
    FORMAT_VERSION,
    MAX_MANIFEST_BYTES,
    GraphFacts,
    is_covered,
    parse_manifest,
)
from molre_edge.errors import BundleError
from molre_edge.files import StrPath, replace_folder, sha256_of, write_json
from molre_edge.specs import DEFAULT_BUNDLE, Grid, Precision

__all__ = [
    "DEFAULT_BUNDLE",
    "GOLDEN_FILE",
    "MANIFEST",
    "Bundle",
    "GoldenSet",
    "GraphFacts",
    "amend_manifest",
    "check_free",
    "new_bundle",
    "write_manifest",
]

MANIFEST = "manifest.json"
GOLDEN_FILE = "golden/golden.npz"

_MAX_FILE_BYTES = 4 << 30


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle: its manifest is read and checked, its files are checked when they are read.

    Attributes:
        folder: where it lies.
        digest: SHA-256 of the manifest; it stands for the whole bundle.
        manifest: as read.
        grid, findings, thresholds: of the model.
        graphs: facts by precision.
        checkpoint_sha256: of the checkpoint that was exported.
    """

    folder: Path
    digest: str
    manifest: Mapping[str, Any]
    grid: Grid
    findings: tuple[str, ...]
    thresholds: npt.NDArray[np.float64]
    graphs: Mapping[Precision, GraphFacts]
    checkpoint_sha256: str

    @classmethod
    def open(cls, folder: Path, *, expect_digest: str | None = None) -> Bundle:
        """Read and check the manifest.

        Args:
            folder: the bundle.
            expect_digest: refuse every other digest. Hashes in a manifest protect against accidents; only a digest that
                came another way protects against somebody who rewrites both.

        Raises:
            BundleError: absent, damaged, of another version, or not the expected one.
        """
        path = folder / MANIFEST
        try:
            if path.is_symlink():
                raise BundleError(f"{path}: is a link; a bundle's files lie in the bundle itself")
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise BundleError(f"{path}: larger than any manifest of ours; not a bundle")
            raw = path.read_bytes()
        except OSError as error:
            raise BundleError(
                f"{folder}: not a bundle ({MANIFEST} can't be read: {error.strerror}). Make one with "
                f"'molre-edge export CHECKPOINT -o {folder}', or name another with --bundle"
            ) from error
        digest = hashlib.sha256(raw).hexdigest()
        if expect_digest is not None:
            _check_digest(folder, digest, expect_digest)
        try:
            manifest = parse_manifest(raw)
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from error
        return cls(
            folder=folder,
            digest=digest,
            manifest=manifest.data,
            grid=manifest.grid,
            findings=manifest.findings,
            thresholds=manifest.thresholds,
            graphs=manifest.graphs,
            checkpoint_sha256=manifest.checkpoint_sha256,
        )

    @classmethod
    def of(cls, bundle: Bundle | StrPath, *, expect_digest: str | None = None) -> Bundle:
        """An open bundle, as it is, or the bundle in a folder; see :meth:`open`.

        Raises:
            BundleError: as :meth:`open`; also if an open bundle does not have the expected digest.
        """
        if not isinstance(bundle, Bundle):
            return cls.open(Path(bundle), expect_digest=expect_digest)
        if expect_digest is not None:
            _check_digest(bundle.folder, bundle.digest, expect_digest)
        return bundle

    def read(self, name: str) -> bytes:
        """The content of a covered file, after its hash was checked; the bytes checked are the bytes returned.

        Raises:
            BundleError: not covered by the manifest, absent, a link, or altered.
        """
        expected = self.manifest["files"].get(name)
        if expected is None:
            covered = ", ".join(sorted(self.manifest["files"]))
            raise BundleError(f"{self.folder}: the manifest covers no {name}; it covers {covered}")
        path = self.folder / name
        if path.is_symlink() or path.parent.is_symlink():
            raise BundleError(f"{path}: is a link; a bundle's files lie in the bundle itself")
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise BundleError(f"{path}: larger than any file of ours; copy the bundle again")
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: can't be read ({error.strerror}); copy the bundle again") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise BundleError(
                f"{path}: altered or damaged, its SHA-256 is not the manifest's. Copy the bundle again, or export anew"
            )
        return content

    def graph(self, precision: Precision) -> GraphFacts:
        """Facts of the graph of a precision.

        Raises:
            BundleError: the bundle has none; the message says how to make one.
        """
        if precision not in self.graphs:
            there = ", ".join(str(p) for p in self.graphs)
            how = "'molre-edge calibrate' makes it" if precision is Precision.INT8 else "export the checkpoint again"
            raise BundleError(f"{self.folder}: has no {precision} graph, only {there}; {how}")
        return self.graphs[precision]

    def golden(self) -> GoldenSet:
        """The golden volumes and answers.

        Raises:
            BundleError: absent or altered.
        """
        outputs = next(iter(self.graphs.values())).outputs
        shapes = {"volumes": (None, *self.grid.shape), **{spec.name: spec.shape for spec in outputs}}
        content = self.read(GOLDEN_FILE)
        try:
            return read_golden(content, shapes)
        except ValueError as error:
            raise BundleError(f"{self.folder / GOLDEN_FILE}: damaged ({error}); export the checkpoint again") from error


def _check_digest(folder: Path, digest: str, expected: str) -> None:
    if digest != expected.lower():
        raise BundleError(
            f"{folder}: its digest is {digest}, expected {expected}. This is not the bundle that was released; do not "
            f"use it"
        )


@contextlib.contextmanager
def new_bundle(folder: Path, *, force: bool) -> Iterator[Path]:
    """A folder to fill; it becomes the bundle when the block ends well. Call :func:`write_manifest` last.

    Args:
        folder: the bundle's final place.
        force: replace a bundle that is there, its engines and int8 graph included.

    Raises:
        BundleError: something is there already, and it is no bundle or `force` is not given.
    """
    check_free(folder, force=force)
    with replace_folder(folder.resolve()) as partial:  # behind a link, the folder is replaced and the link stays
        yield partial


def check_free(folder: Path, *, force: bool) -> None:
    """Refuse to write over something that must not be lost.

    Raises:
        BundleError: `folder` is a bundle and `force` is not given, or is something else than a bundle.
    """
    place = folder.resolve()
    if place == Path.cwd() or place in Path.cwd().parents or os.path.ismount(place):
        raise BundleError(
            f"{folder}: is the current folder, one above it or a mount point, and can't be replaced as a whole; name a "
            f"folder within it with -o"
        )
    there = next(path for path in place.parents if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise BundleError(f"{folder}: {there} can't be written to; choose another folder with -o")
    if place.is_dir() and not any(place.iterdir()):
        return
    if place.exists() and not _is_bundle(place):
        raise BundleError(f"{folder}: is there already and is not a bundle; choose another folder with -o")
    if place.exists() and not force:
        raise BundleError(
            f"{folder}: there is a bundle already; --force replaces it, with its engines and int8 graph, "
            f"or choose another folder with -o"
        )


def _is_bundle(folder: Path) -> bool:
    """Whether a folder has a manifest of ours, of any version: other programs have files of that name too."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            manifest = json.loads(file.read(MAX_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def write_manifest(folder: Path, content: Mapping[str, Any]) -> str:
    """Hash the files of a bundle, write its manifest whole, and return the digest.

    Args:
        folder: the bundle, its files in place.
        content: all of the manifest but ``format``, ``version`` and ``files``.
    """
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and is_covered(path.relative_to(folder).as_posix())
    }
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, **content, "files": files}
    write_json(folder / MANIFEST, manifest)
    return sha256_of(folder / MANIFEST)


def amend_manifest(bundle: Bundle, content: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Replace the manifest of a bundle at once, and return its new digest.

    Unlike :func:`write_manifest` it hashes nothing: what is not new keeps the hash that it was exported with, so that
    damage is not taken for content.

    Args:
        bundle: opened; it still describes the old manifest afterwards.
        content: all of the manifest but ``format``, ``version`` and ``files``, which are set here.
        files: SHA-256 by name.
    """
    told = {name: value for name, value in content.items() if name not in ("format", "version", "files")}
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, **told, "files": dict(sorted(files.items()))}
    write_json(bundle.folder / MANIFEST, manifest)
    return sha256_of(bundle.folder / MANIFEST)
