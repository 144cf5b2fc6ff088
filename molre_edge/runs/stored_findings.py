"""The findings of a run's scans, read from its folder when they are used: a run can have more than memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from molre_edge.runs.answers import Record, read_record, read_records, record_path
from molre_edge.runs.scan_findings import ScanFindings, findings_of, mean_gates
from molre_edge.runs.store import RunStore
from molre_edge.scans import ScanWarning

__all__ = ["StoredFindings"]


class StoredFindings(Sequence[ScanFindings]):
    """The answers of a run's scans, in the order of its rows.

    Each is read from the run's folder when it is asked for, and not kept.
    """

    def __init__(self, folder: Path, scans: Sequence[str], names: Sequence[str], thresholds: Sequence[float]) -> None:
        """Name what is there; nothing is read yet.

        Args:
            folder: of the run.
            scans: ids of the answered scans.
            names: of the findings, in the order of the model's outputs.
            thresholds: one a finding.
        """
        self._folder, self._scans, self._names, self._thresholds = folder, scans, names, thresholds

    @classmethod
    def of(cls, store: RunStore, names: Sequence[str], thresholds: Sequence[float]) -> StoredFindings:
        """Of a run whose answers are all stored."""
        scans = tuple(entry.scan for entry in store.entries if entry.status == "done")
        return cls(store.folder, scans, names, thresholds)

    @staticmethod
    def made(record: Record, names: Sequence[str], thresholds: Sequence[float]) -> ScanFindings:
        """The findings in a stored answer."""
        return ScanFindings(
            scan=record.scan,
            findings=findings_of(record.engine, names, np.asarray(thresholds, dtype=np.float64)),
            gates=mean_gates(record.engine),
            attended=record.attended,
            warnings=tuple(ScanWarning(code, text) for code, text in record.warnings),
            facts=record.facts,
            milliseconds=record.engine_ms,
        )

    def __len__(self) -> int:
        """How many scans were answered."""
        return len(self._scans)

    @overload
    def __getitem__(self, at: int) -> ScanFindings: ...

    @overload
    def __getitem__(self, at: slice) -> StoredFindings: ...

    def __getitem__(self, at: int | slice) -> ScanFindings | StoredFindings:
        """One scan, or some of them.

        Raises:
            RunError: its answer is damaged, or not there any more.
        """
        if isinstance(at, slice):
            return StoredFindings(self._folder, self._scans[at], self._names, self._thresholds)
        scan = self._scans[at]
        return self.made(read_record(record_path(self._folder, scan), scan), self._names, self._thresholds)

    def __iter__(self) -> Iterator[ScanFindings]:
        """All scans, read one by one."""
        for record in read_records(self._folder, self._scans):
            yield self.made(record, self._names, self._thresholds)
