"""A study's answer as files: findings as JSON, and as DICOM what the configuration asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from molre_edge.dicom_results.facts import ResultFacts
from molre_edge.dicom_results.sources import answered_source, attended_in, frames_of, read_source_headers
from molre_edge.dicom_results.write import CAPTURE_SUFFIX, SR_SUFFIX, write_results
from molre_edge.node.configuration import Results
from molre_edge.node.entries import Job
from molre_edge.node.ids import set_digest
from molre_edge.runs.loaded import Prediction

__all__ = ["FINDINGS_FILE", "STEM", "answered_digest", "write_report"]

FINDINGS_FILE = "findings.json"
STEM = "report"
"""Of the DICOM files: ``report.sr.dcm`` and ``report.capture.dcm``."""


def answered_digest(prediction: Prediction) -> str:
    """Digest of the images that were read and of what read them: equal ones give the same report, UIDs included."""
    read = answered_source(prediction.source, prediction.slices)
    names = {f"{file.name} {frames}" for file, frames in zip(read.files, frames_of(read), strict=True)}
    who = [f"bundle {prediction.bundle}", f"engine {prediction.engine}", f"adapter {prediction.adapter_sha256}"]
    return set_digest([*who, *names])


def write_report(prediction: Prediction, job: Job, wanted: Results, folder: Path, before: Path | None) -> None:
    """Write a report's files.

    Args:
        prediction: the answer.
        job: that was answered.
        wanted: which DICOM objects.
        folder: where to; empty.
        before: folder of the report that this one follows.

    Raises:
        ResultError: the study's headers allow no DICOM object; its code says why.
        OSError: a file can't be written.
    """
    data: dict[str, Any] = {
        "study": job.study, "number": job.number, "version": job.version, "images": len(job.images),
        "follows": None if before is None else int(before.name), **prediction.to_dict(),
    }  # fmt: skip
    (folder / FINDINGS_FILE).write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if not wanted.objects:
        return
    read = answered_source(prediction.source, prediction.slices)
    write_results(
        prediction.findings.values(),
        read_source_headers(read),
        ResultFacts(bundle=prediction.bundle, engine=prediction.engine, adapter=prediction.adapter_sha256),
        folder,
        STEM,
        sr=None if wanted.sr == "none" else wanted.sr,
        capture=wanted.secondary_capture,
        predecessor=None if before is None else _earlier(before, SR_SUFFIX),
        earlier_capture=None if before is None else _earlier(before, CAPTURE_SUFFIX),
        frames=frames_of(read),
        notes=[warning.text for warning in prediction.warnings],
        attended=attended_in(prediction.attended, prediction.slices),
    )


def _earlier(folder: Path, suffix: str) -> Any:
    """The structured report, or the capture, of an earlier version; None if none was made."""
    from pydicom import dcmread

    path = folder / f"{STEM}{suffix}"
    return dcmread(path) if path.is_file() else None
