"""The files of a calibration in its bundle: found again by a key of their inputs, and written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge import __version__
from molre_edge.adapters.tensors import Tensors, tensors_digest
from molre_edge.bundle.bundle import GOLDEN_FILE, Bundle, amend_manifest
from molre_edge.bundle.manifest import CALIBRATION_SECTIONS, GraphFacts
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.errors import BundleError, SigningError
from molre_edge.files import sha256_of, write_whole
from molre_edge.parity import ParityLimits
from molre_edge.signing.memory import SigningMemory
from molre_edge.specs import Precision

__all__ = ["FILES", "REPORT_VERSION", "ResultFiles", "cached_report", "check_writable", "result_key", "write_result"]

REPORT_VERSION = 3
"""Of the report's content."""


@dataclass(frozen=True)
class ResultFiles:
    """The files of a calibration in its bundle.

    Attributes:
        graph: the 8-bit graph.
        report: for programs.
        page: for people.
    """

    graph: str
    report: str
    page: str


FILES = {
    Precision.INT8: ResultFiles("graphs/int8.onnx", "calibration/report.json", "calibration/report.html"),
    Precision.FP8: ResultFiles("graphs/fp8.onnx", "calibration/report-fp8.json", "calibration/report-fp8.html"),
}
"""By the precision of the graph."""


def check_writable(bundle: Bundle, precision: Precision) -> None:
    """Check, before minutes of work, that the result can be written into the bundle.

    Raises:
        BundleError: a folder of the bundle is a link or a file, or can't be written to.
    """
    files = FILES[precision]
    for folder in {(bundle.folder / name).parent for name in (files.graph, files.report, files.page)}:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise BundleError(f"{folder}: expected a folder, found a link or a file. Remove it, and calibrate again")
        if not os.access(folder if folder.exists() else bundle.folder, os.W_OK):
            raise BundleError(f"{folder}: this folder can't be written to. Calibrate a copy of the bundle")


def result_key(
    bundle: Bundle,
    contents: Sequence[str],
    labels: Sequence[npt.NDArray[np.float64] | None],
    settings: CalibrationSettings,
    limits: ParityLimits,
    adapter: Tensors | None = None,
) -> str:
    """SHA-256 of everything that the result depends on: graph, golden answers, scans, labels, settings, libraries.

    Args:
        bundle: has a float32 graph.
        contents: SHA-256 of each scan.
        labels: of each scan, float64 [findings] with NaN if unknown; None for a scan without labels.
        settings: of the calibration.
        limits: the parity limits.
        adapter: the trained tensors by which the graphs answer, if they take them as inputs.
    """
    versions = {name: metadata.version(name) for name in ("numpy", "onnx", "onnxruntime") if _is_installed(name)}
    scans = sorted(
        (
            [content, None if row is None else np.nan_to_num(row, nan=-1.0).tolist()]
            for content, row in zip(contents, labels, strict=True)
        ),
        key=json.dumps,  # of two copies of a scan, one may have labels and the other none
    )
    parts = {
        "molre-edge": __version__,
        "report": REPORT_VERSION,
        "versions": versions,
        "graph": bundle.manifest["files"][bundle.graph(Precision.FP32).file],
        **({} if adapter is None else {"adapter": tensors_digest(adapter)}),
        "golden": bundle.manifest["files"].get(GOLDEN_FILE),
        "thresholds": bundle.thresholds.tolist(),
        "scans": scans,
        "settings": asdict(settings),
        "limits": limits.to_dict(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:  # an ONNX Runtime for GPUs has another name
        return False
    return True


def cached_report(bundle: Bundle, precision: Precision, key: str) -> Mapping[str, Any] | None:
    """The report of the bundle's calibration, if its key is the same and its files are intact; else None."""
    section, files = bundle.manifest.get(CALIBRATION_SECTIONS[precision]), FILES[precision]
    if not isinstance(section, dict) or section.get("key") != key or precision not in bundle.graphs:
        return None
    try:
        bundle.read(bundle.graph(precision).file)
        report: Mapping[str, Any] = json.loads(bundle.read(files.report))
        bundle.read(files.page)
    except (BundleError, SigningError, ValueError):
        return None
    return report


def write_result(
    bundle: Bundle,
    precision: Precision,
    graph: bytes,
    facts: GraphFacts,
    report: Mapping[str, Any],
    page: str,
    *,
    section: Mapping[str, Any],
    parity: Mapping[str, Any],
    notes: Sequence[str],
) -> str:
    """Write a calibration into its bundle and return the new digest.

    The manifest is replaced last, in one step. If the process is killed before that, the bundle is unchanged; only a
    bundle that had such a graph, which was about to be replaced, may be left without one.

    Args:
        bundle: an open bundle that the caller holds.
        precision: of the graph.
        graph: the file of the 8-bit graph.
        facts: of that graph, for the manifest.
        report: for programs.
        page: for people, HTML.
        section: the manifest's section on the calibration.
        parity: the manifest's section on the parity of the graph.
        notes: of this calibration; they replace those of an earlier one.
    """
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    files, place = FILES[precision], CALIBRATION_SECTIONS[precision]
    contents = {files.graph: graph, files.report: text.encode(), files.page: page.encode()}
    plain = {name: value for name, value in bundle.manifest.items() if name != place}
    old = bundle.manifest.get(place)
    earlier = old.get("notes", []) if isinstance(old, dict) else []
    plain["notes"] = [note for note in plain["notes"] if note not in earlier]
    plain["graphs"] = {name: value for name, value in plain["graphs"].items() if name != str(precision)}
    plain["parity"] = {name: value for name, value in plain["parity"].items() if name != str(precision)}
    others = {name: value for name, value in bundle.manifest["files"].items() if name not in contents}
    with contextlib.ExitStack() as stack:
        partial: dict[str, Path] = {}
        for name, content in contents.items():  # everything is on the disk before anything changes
            partial[name] = stack.enter_context(write_whole(bundle.folder / name))
            partial[name].write_bytes(content)
        hashes = {name: sha256_of(path) for name, path in partial.items()}
        if any(name in bundle.manifest["files"] for name in contents):
            amend_manifest(bundle, plain, others)
    plain["graphs"] = {**plain["graphs"], str(precision): facts.to_dict()}
    plain["parity"] = {**plain["parity"], str(precision): dict(parity)}
    plain["notes"] = [*plain["notes"], *notes]
    plain[place] = {**section, "notes": list(notes)}
    with contextlib.suppress(SigningError):  # only asked for where releases are signed, and then an error of its own
        source = bundle.manifest["files"][bundle.graph(Precision.FP32).file]
        SigningMemory.here().made_here(hashes[files.graph], source)
    return amend_manifest(bundle, plain, {**others, **hashes})
