"""What scans are to the rest of the program: a source on disk, a volume, and reasons for everything left out."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.scans.content import status

__all__ = ["FoundScans", "HeadVolume", "RejectedScan", "ScanSource", "ScanWarning"]


@dataclass(frozen=True)
class ScanWarning:
    """Something about an accepted scan that its user should know.

    Attributes:
        code: a stable word, listed in docs/scans.md.
        text: a sentence without identifiers and without paths.
    """

    code: str
    text: str


@dataclass(frozen=True)
class RejectedScan:
    """A file, or files of one folder or series, that is not among the scans, and why.

    Attributes:
        path: the file, or the folder that holds the files.
        code: a stable word for the reason, listed in docs/scans.md.
        reason: a sentence without identifiers and without paths.
        files: how many files this stands for.
    """

    path: Path
    code: str
    reason: str
    files: int = 1


@dataclass(frozen=True)
class ScanSource:
    """One scan on disk: the chosen series of a DICOM study, or one NIfTI file. Nothing of its pixels was read yet.

    Attributes:
        path: the folder or file that names it to the user.
        files: its files, sorted.
        kind: ``dicom`` or ``nifti``.
        alternatives: other usable series of the study, the next best first, for when this one fails on its content.
    """

    path: Path
    files: tuple[Path, ...]
    kind: str
    alternatives: tuple[ScanSource, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) over names, sizes and modification times: cheap, for resuming, no proof of content.

        Names are relative to the common folder, so that a moved scan keeps its fingerprint. A file that has gone
        missing counts as such and changes the result, and so do changes of the alternatives.
        """
        folder = os.path.commonpath([file.parent for file in self.files]) if self.files else ""
        digest = hashlib.sha256(self.kind.encode())
        for file in self.files:
            try:
                stat = status(file)
                facts = f"{stat.st_size}\0{stat.st_mtime_ns}"
            except OSError:
                facts = "missing"
            name = os.path.relpath(file, folder)
            digest.update(f"\0{name}\0{facts}".encode("utf-8", "surrogateescape"))
        for other in self.alternatives:
            digest.update(f"\0or {other.fingerprint()}".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class FoundScans:
    """Everything that lies under a path: each regular file is in exactly one of the three lists.

    Attributes:
        scans: what can be read, one for each study (or one for each usable series on request).
        rejected: what claims to be an image that may have been meant as a scan, but can't be used.
        ignored: what is plainly no scan, or lies beside the chosen series of the same study.
    """

    scans: tuple[ScanSource, ...]
    rejected: tuple[RejectedScan, ...]
    ignored: tuple[RejectedScan, ...]


@dataclass(frozen=True, eq=False)
class HeadVolume:
    """A head CT as a rectangular stack of slices, in Hounsfield units.

    Attributes:
        hu: float32 (slices, rows, cols), HU, at least -1024; slices inferior to superior, rows anterior to posterior,
            cols from the patient's right to left. Slices of a tilted gantry are already shifted over one another.
        positions_mm: float64 (slices,), increasing: centres of the slices along their common normal.
        thickness_mm: float64 (slices,): as the header says, or estimated from the steps.
        pixel_mm: (row, col) distance between pixel centres.
        warnings: what the user should know.
        facts: what a report may show: no identifiers, paths, UIDs or dates.
    """

    hu: npt.NDArray[np.float32]
    positions_mm: npt.NDArray[np.float64]
    thickness_mm: npt.NDArray[np.float64]
    pixel_mm: tuple[float, float]
    warnings: tuple[ScanWarning, ...]
    facts: dict[str, Any]
