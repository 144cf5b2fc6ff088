"""Writes the DICOM results of a run's scans: when a scan is answered, before its answer is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.dicom_results.facts import ResultError, ResultFacts, SrKind, check_extra, check_kind
from molre_edge.dicom_results.sources import answered_source, attended_in, frames_of, read_source_headers
from molre_edge.dicom_results.write import write_results
from molre_edge.runs.answers import Record
from molre_edge.runs.context import RunContext
from molre_edge.runs.dicom_folder import DICOM_FOLDER, NO_DICOM_RESULT, NO_DICOM_STUDY, remove_dicom_files
from molre_edge.runs.scan_findings import findings_of
from molre_edge.scans import GridSlice, ScanSource

__all__ = ["DicomFiles"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomFiles:
    """Which results a run writes.

    Attributes:
        folder: of the results.
        facts: who answers.
        names: of the findings, in the order of the model's outputs.
        thresholds: float64 [findings].
        sr: kind of the structured report; None for none.
        capture: whether a page of positive findings is written.
    """

    folder: Path
    facts: ResultFacts
    names: Sequence[str]
    thresholds: npt.NDArray[np.float64]
    sr: SrKind | None
    capture: bool

    @classmethod
    def of(cls, folder: Path, context: RunContext) -> DicomFiles | None:
        """Of a run; None if it writes no DICOM results.

        Raises:
            MissingDependencyError: the extra ``dicom`` is not installed.
            UsageError: an unknown kind of report.
        """
        if context.sr is None and not context.secondary_capture:
            return None
        check_extra()
        return cls(
            folder=folder / DICOM_FOLDER,
            facts=ResultFacts(
                bundle=context.bundle.digest,
                engine=context.runner.name,
                adapter=None if context.bundle.using is None else context.bundle.using.digest,
            ),
            names=context.bundle.findings,
            thresholds=np.asarray(context.bundle.thresholds, dtype=np.float64),
            sr=None if context.sr is None else check_kind(context.sr),
            capture=context.secondary_capture,
        )

    def write(self, record: Record, source: ScanSource, slices: Sequence[GridSlice]) -> Record:
        """Write the results of an answered scan.

        Args:
            record: the answer.
            source: the scan as it was found.
            slices: the images that were used.

        Returns:
            The answer, with a warning if there is no result; a scan whose result fails keeps its answer.

        Raises:
            OSError: the disk is full, say: the run stops, and is resumed.
        """
        remove_dicom_files(self.folder, record.scan)  # those of an answer that was lost
        if source.kind != "dicom":
            return _warned(record, NO_DICOM_STUDY, "no DICOM result: a NIfTI file names no study that it could go to")
        try:
            read = answered_source(source, slices)
            write_results(
                findings_of(record.engine, self.names, self.thresholds).values(),
                read_source_headers(read),
                self.facts,
                self.folder,
                record.scan,
                sr=self.sr,
                capture=self.capture,
                frames=frames_of(read),
                notes=[text for _, text in record.warnings],
                attended=attended_in(record.attended, slices),
            )
        except ResultError as error:
            return _warned(record, NO_DICOM_RESULT, f"no DICOM result could be made ({error.code}): {error}")
        return record


def _warned(record: Record, code: str, text: str) -> Record:
    return replace(record, warnings=(*record.warnings, (code, text)))
