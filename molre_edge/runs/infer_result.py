"""What a run found: one frozen value, and the JSON of ``infer --json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from molre_edge.parity import ParityNumbers, Verdict
from molre_edge.reports.parity_report import FailedScan, TimingRow
from molre_edge.reports.waiting import waiting
from molre_edge.runs.dicom_folder import DICOM_FOLDER
from molre_edge.runs.scan_findings import ScanFindings
from molre_edge.runs.slices import SLICES_FILE
from molre_edge.specs import DISCLAIMER

__all__ = ["InferResult"]

_MEANINGS: Mapping[int, str] = {
    0: "done",
    1: "no scan could be used",
    3: "parity failed",
    4: "done, but some scans could not be used or compared, or have no DICOM result",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class InferResult:
    """What a run found.

    Attributes:
        folder: the run's files; docs/reference/infer.md lists them.
        report: the HTML report.
        engine: name of the runner, such as ``onnxruntime:fp16``.
        bundle: digest of the bundle.
        adapter: name of the adapter that answered; None where the graph holds what was trained.
        adapter_sha256: of its file.
        scans: the answers of each scan, in the order of the rows; each is read from the run's folder when it is used.
        rejected: scans that could not be used, with the reason.
        numbers: parity; None if nothing was compared.
        verdict: the same, judged.
        timing: rows by runner and phase.
        compared: in words, what parity was judged on; empty if nothing was compared.
        notes: what the user should know about how this was found.
        shard: which part of the scans this run answers, ``I/N``; None answers all.
        not_compared: ids of scans on which the user's own model failed.
        no_dicom_result: ids of scans that were answered and whose DICOM results could not be made.
        seconds: wall time of this start, from its first step to the report.
    """

    folder: Path
    report: Path
    engine: str
    bundle: str
    scans: Sequence[ScanFindings]
    rejected: tuple[FailedScan, ...]
    numbers: ParityNumbers | None
    verdict: Verdict | None
    timing: tuple[TimingRow, ...]
    compared: str
    notes: tuple[str, ...]
    shard: str | None = None
    adapter: str | None = None
    adapter_sha256: str | None = None
    not_compared: tuple[str, ...] = ()
    no_dicom_result: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def slices(self) -> Path | None:
        """``slices.csv``: the images that each slice on the model's grid was made of. None where no scan was answered.

        It holds paths and UIDs, which may identify patients.
        """
        path = self.folder / SLICES_FILE
        return path if path.is_file() else None

    @property
    def dicom(self) -> Path | None:
        """The folder of the DICOM results. None if there are none. They name patients."""
        path = self.folder / DICOM_FOLDER
        return path if path.is_dir() else None

    @property
    def waiting(self) -> str:
        """Who waited for whom, in a sentence; empty where no scan was answered."""
        return waiting(self.timing)

    @property
    def parity_failed(self) -> bool:
        """Whether parity was judged and failed."""
        return self.verdict is not None and not self.verdict.passed

    @property
    def exit_code(self) -> int:
        """3 parity failed, 1 no scan usable, 4 some not used, not compared or without DICOM result; else 0."""
        if self.parity_failed:
            return 3
        if not self.scans and self.shard is None:
            return 1
        return 4 if self.rejected or self.not_compared or self.no_dicom_result else 0

    @property
    def meaning(self) -> str:
        """The exit code in words."""
        return _MEANINGS[self.exit_code]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what ``infer --json`` prints."""
        return {
            "run": str(self.folder),
            "report": str(self.report),
            "slices": None if self.slices is None else str(self.slices),
            "engine": self.engine,
            "bundle": self.bundle,
            "adapter": self.adapter,
            "adapter_sha256": self.adapter_sha256,
            "shard": self.shard,
            "scans": len(self.scans),
            "findings": [scan.to_dict() for scan in self.scans],
            "rejected": [asdict(scan) for scan in self.rejected],
            "parity": None if self.verdict is None else self.verdict.to_dict(),
            "compared": self.compared,
            "not_compared": list(self.not_compared),
            "dicom": None if self.dicom is None else str(self.dicom),
            "no_dicom_result": list(self.no_dicom_result),
            "timing": [asdict(row) for row in self.timing],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
            "exit_code": self.exit_code,
            "meaning": self.meaning,
            "disclaimer": DISCLAIMER,
        }
