"""The bundle: everything an edge box needs, hashed, and nothing of PyTorch.

A folder with ``manifest.json``, ``graphs/``, ``golden/`` and, later, ``calibration/`` and ``engines/``. The manifest
holds the SHA-256 of every file that it covers, and a file is read only through :meth:`Bundle.read`, which checks it.
Without torch and onnx.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import BundleError, ConfigError
from molre_edge.files import replace_folder, sha256_of, write_json
from molre_edge.parity import Outputs
from molre_edge.specs import Grid, Precision, TensorSpec

__all__ = [
    "DEFAULT_BUNDLE",
    "GOLDEN_FILE",
    "MANIFEST",
    "Bundle",
    "GoldenSet",
    "GraphFacts",
    "check_free",
    "new_bundle",
    "write_golden",
    "write_manifest",
]

FORMAT = "molre-edge-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
GOLDEN_FILE = "golden/golden.npz"
DEFAULT_BUNDLE = Path("edge-bundle")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SAFE_NAME = re.compile(r"(graphs|golden|calibration|reports)/[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True)
class GraphFacts:
    """One graph of a bundle.

    Attributes:
        file: its name in the bundle.
        inputs: the volume's specification.
        outputs: specifications of logits, gates (absent for K = 0) and embedding.
        opset: of the default ONNX domain.
        ir_version: of the file.
    """

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    ir_version: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return {
            "file": self.file,
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
            "opset": self.opset,
            "ir_version": self.ir_version,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GraphFacts:
        """The inverse of :meth:`to_dict`."""
        return cls(
            str(data["file"]),
            tuple(TensorSpec.from_dict(spec) for spec in data["inputs"]),
            tuple(TensorSpec.from_dict(spec) for spec in data["outputs"]),
            int(data["opset"]),
            int(data["ir_version"]),
        )


@dataclass(frozen=True, eq=False)
class GoldenSet:
    """Volumes and what the PyTorch reference answered to them.

    Attributes:
        volumes: float16 [n, slices, rows, cols], HU.
        outputs: the reference's answers.
    """

    volumes: npt.NDArray[np.float16]
    outputs: Outputs


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
            if path.stat().st_size > _MAX_MANIFEST_BYTES:
                raise BundleError(f"{path}: larger than any manifest of ours; not a bundle")
            raw = path.read_bytes()
        except OSError as error:
            raise BundleError(
                f"{folder}: not a bundle ({MANIFEST} can't be read: {error.strerror}). Make one with "
                f"'molre-edge export CHECKPOINT -o {folder}', or name another with --bundle"
            ) from error
        digest = hashlib.sha256(raw).hexdigest()
        if expect_digest is not None and digest != expect_digest.lower():
            raise BundleError(
                f"{folder}: its digest is {digest}, expected {expect_digest}. This is not the bundle that was "
                f"released; do not use it"
            )
        try:
            manifest = json.loads(raw)
        except ValueError as error:
            raise BundleError(f"{path}: damaged, not JSON ({error}); export the checkpoint again") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise BundleError(f"{path}: not a manifest of molre-edge (expected 'format' to be {FORMAT!r})")
        if manifest.get("version") != FORMAT_VERSION:
            raise BundleError(
                f"{path}: format version {manifest.get('version')!r}; this molre-edge reads version {FORMAT_VERSION}. "
                f"Export the checkpoint again, or install the version that wrote it"
            )
        try:
            return cls._from_manifest(folder, digest, manifest)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise BundleError(
                f"{path}: damaged ({type(error).__name__}: {error}); export the checkpoint again"
            ) from error

    @classmethod
    def _from_manifest(cls, folder: Path, digest: str, manifest: Mapping[str, Any]) -> Bundle:
        files = manifest["files"]
        for name, sha256 in files.items():
            if not _SAFE_NAME.fullmatch(name) or not _SHA256.fullmatch(sha256):
                raise ValueError(f"files: unexpected entry {name!r}")
        graphs = {Precision(key): GraphFacts.from_dict(value) for key, value in manifest["graphs"].items()}
        for facts in graphs.values():
            if facts.file not in files:
                raise ValueError(f"graphs: {facts.file!r} is not among the files")
        findings = tuple(str(name) for name in manifest["findings"])
        thresholds = np.asarray(manifest["thresholds"], dtype=np.float64)
        if thresholds.shape != (len(findings),):
            raise ValueError(f"thresholds: expected {len(findings)}, got {thresholds.shape}")
        return cls(
            folder=folder,
            digest=digest,
            manifest=manifest,
            grid=Grid(**manifest["grid"]),
            findings=findings,
            thresholds=thresholds,
            graphs=graphs,
            checkpoint_sha256=str(manifest["checkpoint"]["sha256"]),
        )

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
        try:
            with np.load(io.BytesIO(self.read(GOLDEN_FILE)), allow_pickle=False) as data:
                outputs = Outputs(data["logits"], data["embedding"], data.get("gates", None))
                return GoldenSet(data["volumes"], outputs)
        except (KeyError, ValueError) as error:
            raise BundleError(f"{self.folder / GOLDEN_FILE}: damaged ({error}); export the checkpoint again") from error


def write_golden(folder: Path, golden: GoldenSet) -> None:
    """Write the golden set into a bundle that is being made."""
    arrays = {"volumes": golden.volumes, "logits": golden.outputs.logits, "embedding": golden.outputs.embedding}
    if golden.outputs.gates is not None:
        arrays["gates"] = golden.outputs.gates
    path = folder / GOLDEN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


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
    with replace_folder(folder) as partial:
        yield partial


def check_free(folder: Path, *, force: bool) -> None:
    """Refuse to write over something that must not be lost.

    Raises:
        BundleError: `folder` is a bundle and `force` is not given, or is something else than a bundle.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder}: is there already and is not a bundle; choose another folder with -o")
    if folder.exists() and not force:
        raise BundleError(
            f"{folder}: there is a bundle already; --force replaces it, with its engines and int8 graph, "
            f"or choose another folder with -o"
        )


def write_manifest(folder: Path, content: Mapping[str, Any]) -> str:
    """Hash the files of a bundle, write its manifest whole, and return the digest.

    Args:
        folder: the bundle, its files in place.
        content: all of the manifest but ``format``, ``version`` and ``files``.
    """
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _SAFE_NAME.fullmatch(path.relative_to(folder).as_posix())
    }
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, **content, "files": files}
    write_json(folder / MANIFEST, manifest)
    return sha256_of(folder / MANIFEST)
