"""Results as files: in a folder for this user alone, each whole or not at all."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molre_edge.dicom_results.capture import secondary_capture
from molre_edge.dicom_results.facts import AttendedImage, FindingRow, ResultError, ResultFacts, SrKind
from molre_edge.dicom_results.report import structured_report
from molre_edge.errors import MolreEdgeError
from molre_edge.files import write_whole
from molre_edge.scans.quiet import quietly

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["CAPTURE_SUFFIX", "SR_SUFFIX", "private_folder", "write_results"]

SR_SUFFIX, CAPTURE_SUFFIX = ".sr.dcm", ".capture.dcm"


def write_results(
    findings: Iterable[FindingRow],
    source_headers: Sequence[Dataset],
    facts: ResultFacts,
    folder: Path,
    stem: str,
    *,
    sr: SrKind | None = "comprehensive3d",
    capture: bool = False,
    predecessor: Dataset | None = None,
    earlier_capture: Dataset | None = None,
    frames: Sequence[tuple[int, ...]] = (),
    notes: Sequence[str] = (),
    attended: AttendedImage | None = None,
) -> tuple[Path, ...]:
    """Write the results of one scan: ``<stem>.sr.dcm`` and ``<stem>.capture.dcm``.

    Both name the patient: the folder is for this user alone (0700, files 0600). If one can't be made, none is written.

    Args:
        findings: all of the model's.
        source_headers: of all images of the answered series.
        facts: who answered.
        folder: made if it is missing.
        stem: of the names.
        sr: kind of the structured report; None for none.
        capture: also write the page of positive findings.
        predecessor: the report that this one replaces.
        earlier_capture: the page that this one follows.
        frames: of each source, the frames that were used.
        notes: what a reader should know about the scan, without identifiers.
        attended: the image that the model attended to most, for the report; None for a model that does not say.

    Returns:
        The files, the report first.

    Raises:
        MissingDependencyError: the extra ``dicom`` is not installed.
        ResultError: no valid result can be made for this source; its code says why.
        OSError: the folder can't be written to.
    """
    rows = tuple(findings)
    made: list[tuple[str, bytes]] = []
    try:
        if sr is not None:
            report = structured_report(
                rows,
                source_headers,
                facts,
                sr,
                predecessor=predecessor,
                frames=frames,
                notes=notes,
                attended=attended,
            )
            made.append((SR_SUFFIX, _encoded(report)))
        if capture:
            page = secondary_capture(
                rows, source_headers, facts, predecessor=earlier_capture, frames=frames, notes=notes
            )
            made.append((CAPTURE_SUFFIX, _encoded(page)))
    except (MolreEdgeError, OSError):
        raise
    except Exception as error:  # whatever a header from outside makes a library do; its words may quote that header
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ResultError(
            "result_failed",
            f"a bug in making it ({type(error).__name__} at {Path(place.filename).name}:{place.lineno}). Please report "
            f"it as docs/concepts/security.md says",
        ) from error
    private_folder(folder)
    paths = []
    for suffix, content in made:
        path = folder / f"{stem}{suffix}"
        with write_whole(path, clear=False, mode=0o600) as partial:
            partial.write_bytes(content)
        paths.append(path)
    return tuple(paths)


def private_folder(folder: Path) -> None:
    """Make a folder that only this user may open; one that is there becomes so."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(folder, 0o700)


def _encoded(dataset: Dataset) -> bytes:
    import io

    stream = io.BytesIO()
    with quietly():
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
