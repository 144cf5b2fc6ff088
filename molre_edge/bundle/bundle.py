"""The bundle: everything an edge box needs, with hashes, and nothing of PyTorch.

It is a folder with ``manifest.json``, ``graphs/``, ``golden/`` and, later, ``calibration/`` and ``engines/``. The
manifest holds the SHA-256 of every file that it covers. A file is read only by :meth:`Bundle.read`, which compares its
hash. This module needs neither torch nor onnx.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.file import Adapter
from molre_edge.adapters.fit_facts import FitFacts
from molre_edge.adapters.store import AdapterStore
from molre_edge.bundle.golden import GoldenSet, read_golden
from molre_edge.bundle.golden_origin import OwnGolden
from molre_edge.bundle.manifest import (
    FORMAT,
    FORMAT_VERSION,
    MAX_MANIFEST_BYTES,
    GraphFacts,
    is_covered,
    parse_manifest,
)
from molre_edge.bundle.release import check_release
from molre_edge.errors import AdapterError, BundleError, SigningError
from molre_edge.files import (
    StrPath,
    name_problem,
    read_regular,
    replace_folder,
    restore_folder,
    sha256_of,
    write_json,
)
from molre_edge.locks import hold
from molre_edge.signing.memory import SigningMemory
from molre_edge.signing.trust import NO_TRUST, Signed, Trust, configured_trust
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
    "check_name",
    "hold_bundle",
    "new_bundle",
    "write_manifest",
]

MANIFEST = "manifest.json"
GOLDEN_FILE = "golden/golden.npz"

_MAX_FILE_BYTES = 4 << 30


@dataclass(frozen=True, eq=False)
class Bundle:
    """An open bundle: its manifest is checked, its files are checked when they are read.

    Attributes:
        folder: the bundle's folder.
        digest: SHA-256 of the manifest; it stands for the whole bundle.
        manifest: the manifest's content.
        grid, findings, thresholds: those of the model.
        graphs: the graphs' facts, by precision.
        checkpoint_sha256: SHA-256 of the exported checkpoint.
        own_golden: who gave the golden answers, if the user's own model did; None for the rebuild of the checkpoint.
        fit: what an adapter must be made for; None if the graphs hold what was trained, and take no adapter.
        pinned_adapter: SHA-256 of the export's own adapter if the bundle was opened by its digest, which stands for no
            other; None if it was not, or if signatures stand for adapters.
        using: the adapter that was chosen with :meth:`select`. Findings, thresholds, golden answers and checkpoint are
            then its own.
        trust: the keys that it was checked by.
        signed: the release's signature; None if no signature was asked for.
        released: the files that the signature covers.
        accept_older, remember: how versions of signed releases and adapters are taken; see :meth:`open`.
    """

    folder: Path
    digest: str
    manifest: Mapping[str, Any]
    grid: Grid
    findings: tuple[str, ...]
    thresholds: npt.NDArray[np.float64]
    graphs: Mapping[Precision, GraphFacts]
    checkpoint_sha256: str
    own_golden: OwnGolden | None = None
    fit: FitFacts | None = None
    pinned_adapter: str | None = None
    using: Adapter | None = None
    trust: Trust = NO_TRUST
    signed: Signed | None = None
    released: frozenset[str] = frozenset()
    accept_older: bool = False
    remember: bool = True

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        expect_digest: str | None = None,
        trust: Trust | None = None,
        accept_older: bool = False,
        remember: bool = True,
    ) -> Bundle:
        """Read and check the manifest, and its signature where one is asked for.

        Args:
            folder: the bundle.
            expect_digest: refuse every other digest. The hashes in a manifest protect against accidents. Only a digest
                that was sent another way, or a signature, protects against a person who rewrites both.
            trust: the keys that must have signed the release; None for those that are configured on this machine.
            accept_older: take an older release, and older adapters, than this machine has used.
            remember: whether its version counts as used from now on; False to look at it, or to verify it first.

        Raises:
            BundleError: the bundle is missing, damaged, of another version, or not the expected one.
            SigningError: it is not signed as `trust` asks, was altered since, or is older than one that was used.
        """
        folder = Path(folder)
        trust = configured_trust() if trust is None else trust
        restore_folder(folder)  # a replacement that was killed may have put it aside
        path = folder / MANIFEST
        try:
            raw = read_regular(path, largest=MAX_MANIFEST_BYTES, links=False)
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
        signed, released = None, frozenset[str]()
        if trust:
            signed, released = check_release(folder, manifest.data, trust)
            SigningMemory.here().check(signed, folder, accept_older=accept_older, remember=remember)
        return cls(
            folder=folder,
            digest=digest,
            manifest=manifest.data,
            grid=manifest.grid,
            findings=manifest.findings,
            thresholds=manifest.thresholds,
            graphs=manifest.graphs,
            checkpoint_sha256=manifest.checkpoint_sha256,
            own_golden=manifest.own_golden,
            fit=manifest.fit,
            pinned_adapter=None if expect_digest is None or trust else manifest.first_adapter,
            trust=trust,
            signed=signed,
            released=released,
            accept_older=accept_older,
            remember=remember,
        )

    @classmethod
    def of(
        cls,
        bundle: Bundle | StrPath,
        *,
        expect_digest: str | None = None,
        trust: Trust | None = None,
        accept_older: bool = False,
        remember: bool = True,
    ) -> Bundle:
        """An open bundle, as it is, or the bundle in a folder; see :meth:`open`.

        Raises:
            BundleError, SigningError: as :meth:`open`; also if an open bundle does not have the expected digest.
        """
        if not isinstance(bundle, Bundle):
            return cls.open(
                Path(bundle), expect_digest=expect_digest, trust=trust, accept_older=accept_older, remember=remember
            )
        if trust and bundle.trust != trust:
            expected = expect_digest or bundle.digest
            again = cls.open(
                bundle.folder, expect_digest=expected, trust=trust, accept_older=accept_older, remember=remember
            )
            return again if bundle.using is None else again.select(bundle.using.name)
        if expect_digest is not None:
            _check_digest(bundle.folder, bundle.digest, expect_digest)
            pinned = None if bundle.trust else bundle.manifest.get("first_adapter")
            return replace(bundle, pinned_adapter=pinned)
        return bundle

    def read(self, name: str) -> bytes:
        """The content of a covered file. Its hash is compared; the bytes that were hashed are returned.

        Raises:
            BundleError: the file is not covered by the manifest, is missing, is not a regular file, or is altered.
        """
        expected = self.manifest["files"].get(name)
        if expected is None:
            covered = ", ".join(sorted(self.manifest["files"]))
            raise BundleError(f"{self.folder}: the manifest does not cover {name}; it covers {covered}")
        path = self.folder / name
        if path.parent.is_symlink():
            raise BundleError(f"{path.parent}: is a symbolic link; expected a folder. Copy the bundle again")
        try:
            content = read_regular(path, largest=_MAX_FILE_BYTES, links=False)
        except OSError as error:
            raise BundleError(f"{path}: can't be read ({error.strerror}). Copy the bundle again") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise BundleError(
                f"{path}: altered or damaged: its SHA-256 is not the one in the manifest. Copy the bundle again, or "
                f"export the checkpoint again"
            )
        if self.trust and name.startswith("graphs/") and name not in self.released:
            self.check_made_here(path, expected, None)
        return content

    def check_made_here(self, path: Path, sha256: str, source_sha256: str | None) -> None:
        """Refuse a file that the signed release does not cover, unless this machine made it; without trust, nothing.

        Args:
            path: the file.
            sha256: of the file.
            source_sha256: of the graph that it must have been made from; None for any of the release.

        Raises:
            SigningError: this machine did not make it, or made it from another graph.
        """
        if not self.trust:
            return
        source = SigningMemory.here().source_of(sha256)
        known = {source_sha256} if source_sha256 else {self.manifest["files"][name] for name in self.released}
        if source is None or source not in known:
            raise SigningError(
                f"{path}: the signed release does not cover it, and this machine did not make it from that release, so "
                f"it is not run. Make it here: 'molre-edge calibrate' for a graph, 'molre-edge build' for an engine"
            )

    def graph(self, precision: Precision) -> GraphFacts:
        """The facts of a precision's graph.

        Raises:
            BundleError: the bundle has no such graph; the message says how to make one.
        """
        if precision not in self.graphs:
            there = ", ".join(str(p) for p in self.graphs)
            made = {Precision.INT8: "'molre-edge calibrate'", Precision.FP8: "'molre-edge calibrate --precision fp8'"}
            how = f"{made[precision]} makes it" if precision in made else "export the checkpoint again"
            raise BundleError(f"{self.folder}: has no {precision} graph, only {there}. Expected one: {how}")
        return self.graphs[precision]

    def golden(self) -> GoldenSet:
        """The golden volumes and answers.

        Raises:
            BundleError: the golden set is missing, altered or damaged.
        """
        outputs = next(iter(self.graphs.values())).outputs
        shapes = {"volumes": (None, *self.grid.shape), **{spec.name: spec.shape for spec in outputs}}
        content = self.read(GOLDEN_FILE)
        try:
            golden = read_golden(content, shapes)
        except ValueError as error:
            raise BundleError(f"{self.folder / GOLDEN_FILE}: damaged ({error}); export the checkpoint again") from error
        if self.using is None:
            return golden
        if self.using.golden_volumes != golden.sha256:
            raise AdapterError(
                f"adapter {self.using.words}: its golden answers are to other golden volumes than this bundle's, so it "
                f"can't be checked here. Pack it for this bundle: 'molre-edge adapter pack CHECKPOINT --bundle "
                f"{self.folder}'"
            )
        return GoldenSet(golden.volumes, self.using.golden)

    def adapter_facts(self) -> FitFacts:
        """What an adapter must be made for.

        Raises:
            AdapterError: the graphs take no adapter.
        """
        if self.fit is None:
            raise AdapterError(
                f"{self.folder}: its graphs hold what was trained, and take no adapter. Export the checkpoint again "
                f"with --adapters inputs"
            )
        return self.fit

    def store(self, *, remember: bool = True) -> AdapterStore:
        """The bundle's adapters, checked as the bundle was.

        Args:
            remember: False where adapters are only looked at.
        """
        return AdapterStore(
            self.folder,
            self.trust,
            release="" if self.signed is None else self.signed.name,
            accept_older=self.accept_older,
            remember=remember and self.remember,
        )

    def adapter(self, name: str | None = None) -> Adapter:
        """An adapter of the bundle, its hash compared.

        Args:
            name: of the adapter; None for the default.

        Raises:
            AdapterError: the graphs take none, or there is none of that name.
            BundleError: its file is altered or missing.
        """
        self.adapter_facts()
        return self.store().read(name)

    def select(self, name: str | None = None) -> Bundle:
        """The bundle with one of its adapters chosen; the bundle as it is if its graphs take none.

        Args:
            name: of the adapter; None for the one that was chosen already, else the default.

        Raises:
            AdapterError, BundleError: as :meth:`adapter`; AdapterError also if the bundle was opened by its digest, no
                name is given, and the default is not the adapter that the export made.
        """
        if name is None and (self.fit is None or self.using is not None):
            return self
        adapter = self.adapter(name)
        pinned = self.pinned_adapter
        if name is None and pinned is not None and pinned != adapter.digest:
            raise AdapterError(
                f"{self.folder}: the expected digest stands for the adapter {pinned[:12]}, which the export made; the "
                f"default is now {adapter.words}. If that is meant, name it with --adapter, or trust a key that signs "
                f"adapters"
            )
        return self.with_adapter(adapter)

    def with_adapter(self, adapter: Adapter) -> Bundle:
        """The bundle with an adapter chosen, whether it is one of its own or not; see :attr:`using`.

        Raises:
            AdapterError: what it says of its golden answers is damaged.
        """
        try:
            own = None if adapter.own_golden is None else OwnGolden.from_dict(adapter.own_golden)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AdapterError(
                f"adapter {adapter.words}: what it says of its golden answers is damaged ({str(error)[:200]}). Pack it "
                f"again"
            ) from error
        return replace(
            self,
            findings=adapter.findings,
            thresholds=adapter.thresholds,
            checkpoint_sha256=adapter.checkpoint_sha256,
            own_golden=own,
            using=adapter,
        )


def _check_digest(folder: Path, digest: str, expected: str) -> None:
    if digest != expected.lower():
        raise BundleError(
            f"{folder}: its digest is {digest}, expected {expected}. This is not the bundle that was released; do not "
            f"use it"
        )


@contextlib.contextmanager
def new_bundle(folder: Path, *, force: bool) -> Iterator[Path]:
    """A folder to fill. It becomes the bundle if the block succeeds. Call :func:`write_manifest` last.

    Args:
        folder: the bundle's final place.
        force: replace an existing bundle, with its engines, adapters and 8-bit graphs.

    Raises:
        BundleError: `folder` exists and is not a bundle, or is a bundle and `force` is not given.
    """
    check_free(folder, force=force)
    with replace_folder(folder.resolve()) as partial:  # behind a link, the folder is replaced and the link stays
        yield partial


@contextlib.contextmanager
def hold_bundle(bundle: Bundle, what: str) -> Iterator[None]:
    """Hold a bundle for writing; no other command can write it while the block runs.

    Args:
        bundle: an open bundle.
        what: the work, for other processes' messages, such as ``molre-edge build``.

    Raises:
        InUseError: another process writes the bundle.
        BundleError: the bundle was replaced since it was opened.
    """
    with hold(bundle.folder, what):
        if Bundle.open(bundle.folder, trust=bundle.trust).digest != bundle.digest:
            raise BundleError(
                f"{bundle.folder}: another command has changed the bundle since it was opened. Start again, with the "
                f"bundle as it is now"
            )
        yield


def check_name(folder: Path) -> None:
    """Refuse a name that no file system can have.

    Raises:
        BundleError: the name is too long.
    """
    if problem := name_problem(folder):
        raise BundleError(f"{folder}: {problem}. Choose a shorter name with -o")


def check_free(folder: Path, *, force: bool) -> None:
    """Refuse to overwrite something that must not be lost.

    Raises:
        BundleError: `folder` is a bundle and `force` is not given; or it is something else; or it can't be written.
    """
    check_name(folder)
    restore_folder(folder.resolve())
    place = folder.resolve()
    if place == Path.cwd() or place in Path.cwd().parents or os.path.ismount(place):
        raise BundleError(
            f"{folder}: is the current folder, a folder above it, or a mount point, so it can't be replaced as a "
            f"whole. Name a folder within it with -o"
        )
    there = next(path for path in place.parents if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise BundleError(f"{folder}: {there} is not a writable folder. Choose another folder with -o")
    if place.is_dir() and not any(place.iterdir()):
        return
    if place.exists() and not _is_bundle(place):
        raise BundleError(f"{folder}: exists and is not a bundle. Choose another folder with -o")
    if place.exists() and not force:
        raise BundleError(
            f"{folder}: a bundle exists there. Replace it with --force, with its engines, adapters and 8-bit graphs, "
            f"or choose another folder with -o"
        )


def _is_bundle(folder: Path) -> bool:
    """Whether a folder has a bundle's manifest, of any version: other programs have files of that name too."""
    try:
        manifest = json.loads(read_regular(folder / MANIFEST, largest=MAX_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def write_manifest(folder: Path, content: Mapping[str, Any]) -> str:
    """Hash the files of a bundle, write its manifest, and return the digest.

    Args:
        folder: the bundle, with its files in place.
        content: the manifest without ``format``, ``version`` and ``files``.
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
    """Replace the manifest of a bundle in one step, and return its new digest.

    Unlike :func:`write_manifest`, it hashes nothing: a file that is not new keeps the hash of its export, so that
    damage is not accepted as content.

    Args:
        bundle: an open bundle. It still describes the old manifest afterwards.
        content: the manifest; its ``format``, ``version`` and ``files`` are replaced.
        files: SHA-256 by name.
    """
    told = {name: value for name, value in content.items() if name not in ("format", "version", "files")}
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, **told, "files": dict(sorted(files.items()))}
    write_json(bundle.folder / MANIFEST, manifest)
    return sha256_of(bundle.folder / MANIFEST)
