"""What scans are to the rest of the program: a source on disk, a volume, and reasons for everything left out."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.scans.archive_path import status

__all__ = [
    "Candidate",
    "FoundFile",
    "FoundScans",
    "HeadVolume",
    "RejectedScan",
    "ScanSource",
    "ScanWarning",
    "SliceSource",
]


@dataclass(frozen=True)
class ScanWarning:
    """Something about an accepted scan that its user should know.

    Attributes:
        code: a stable word, listed in docs/concepts/scans.md.
        text: a sentence without identifiers and without paths.
    """

    code: str
    text: str


@dataclass(frozen=True)
class RejectedScan:
    """A file, or files of one folder or series, that is not among the scans, and why.

    Attributes:
        path: the file, or the folder that holds the files.
        code: a stable word for the reason, listed in docs/concepts/scans.md.
        reason: a sentence without identifiers and without paths.
        files: how many files this stands for.
    """

    path: Path
    code: str
    reason: str
    files: int = 1


@dataclass(frozen=True)
class FoundFile:
    """What a file was when its scan was found. What is read must be the same.

    Attributes:
        size: in bytes.
        modified_ns: time of the last change of its content.
        changed_ns: time of the last change of its content or its place on disk; programs can't set it.
        digest: SHA-256 (hexadecimal) over the header: UIDs, patient and place of each slice. Empty for NIfTI.
        frames: the frames that belong to the scan, by their index from 0; none when all do.
    """

    size: int
    modified_ns: int
    changed_ns: int
    digest: str = ""
    frames: tuple[int, ...] = ()

    @staticmethod
    def of(stat: os.stat_result) -> FoundFile:
        """What the file system says."""
        return FoundFile(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    def same_on_disk(self, other: FoundFile) -> bool:
        """Whether size and times are equal."""
        mine = self.size, self.modified_ns, self.changed_ns
        return mine == (other.size, other.modified_ns, other.changed_ns)


@dataclass(frozen=True)
class Candidate:
    """One volume of a study, and why it was chosen or not.

    Attributes:
        name: the series and what sets the volume apart in it, such as ``series 2, kernel H30s``.
        slices: how many.
        files: how many.
        status: ``chosen``, ``not_chosen``, ``refused`` or ``set_aside``.
        reason: a sentence without identifiers and without paths.
    """

    name: str
    slices: int
    files: int
    status: str
    reason: str


@dataclass(frozen=True)
class ScanSource:
    """One scan on disk: a volume of a DICOM study, or one NIfTI file. Nothing of its pixels was read yet.

    Attributes:
        path: the folder or file that names it to the user.
        files: its files, sorted.
        kind: ``dicom`` or ``nifti``.
        alternatives: other usable volumes of the study, the next best first, for when this one fails on its content.
        found: what each file was when the scan was found, in the order of `files`; empty when that was not noted.
        folders: how many files lay in each folder of the scan when it was found.
        warnings: about how the volume was put together.
        candidates: all volumes of the study, the chosen one first.
    """

    path: Path
    files: tuple[Path, ...]
    kind: str
    alternatives: tuple[ScanSource, ...] = ()
    found: tuple[FoundFile, ...] = ()
    folders: tuple[tuple[Path, int], ...] = ()
    warnings: tuple[ScanWarning, ...] = ()
    candidates: tuple[Candidate, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) over names, sizes and modification times: cheap, for resuming, no proof of content.

        The sizes and times are those of the moment when the scan was found, where they were noted. Names are relative
        to the common folder, so that a moved scan keeps its fingerprint. A file that has gone missing counts as such
        and changes the result, and so do changes of the alternatives.
        """
        folder = os.path.commonpath([file.parent for file in self.files]) if self.files else ""
        digest = hashlib.sha256(self.kind.encode())
        for file, found in zip(self.files, self.found or (None,) * len(self.files), strict=True):
            facts = "missing"
            with contextlib.suppress(OSError):
                found = found or FoundFile.of(status(file))
            if found is not None:
                facts = f"{found.size}\0{found.modified_ns}"
                facts += "".join(f"\0{index}" for index in found.frames)
            name = os.path.relpath(file, folder)
            digest.update(f"\0{name}\0{facts}".encode("utf-8", "surrogateescape"))
        for other in self.alternatives:
            digest.update(f"\0or {other.fingerprint()}".encode())
        return digest.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. It holds paths, which may carry names of people."""
        return {
            "path": str(self.path),
            "files": [str(file) for file in self.files],
            "kind": self.kind,
            "alternatives": [other.to_dict() for other in self.alternatives],
            "found": [[each.size, each.modified_ns, each.changed_ns, each.digest, each.frames] for each in self.found],
            "folders": [[str(folder), count] for folder, count in self.folders],
            "warnings": [asdict(each) for each in self.warnings],
            "candidates": [asdict(each) for each in self.candidates],
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ScanSource:
        """The inverse of :meth:`to_dict`."""
        return ScanSource(
            path=Path(data["path"]),
            files=tuple(Path(file) for file in data["files"]),
            kind=data["kind"],
            alternatives=tuple(ScanSource.from_dict(each) for each in data["alternatives"]),
            found=tuple(
                FoundFile(size, modified_ns, changed_ns, digest, tuple(frames))
                for size, modified_ns, changed_ns, digest, frames in data["found"]
            ),
            folders=tuple((Path(folder), count) for folder, count in data["folders"]),
            warnings=tuple(ScanWarning(**each) for each in data["warnings"]),
            candidates=tuple(Candidate(**each) for each in data["candidates"]),
        )


@dataclass(frozen=True)
class FoundScans:
    """Everything that lies under a path: each regular file is in exactly one of the three lists.

    Only the frames of one multi-frame file can belong to several volumes. Such a file counts once, with the first.

    Attributes:
        scans: what can be read, one for each study (or one for each usable series on request).
        rejected: what claims to be an image that may have been meant as a scan, but can't be used.
        ignored: what is plainly no scan, or lies beside the chosen series of the same study.
    """

    scans: tuple[ScanSource, ...]
    rejected: tuple[RejectedScan, ...]
    ignored: tuple[RejectedScan, ...]


@dataclass(frozen=True)
class SliceSource:
    """Where a slice of a volume came from. It identifies a person's image: it goes into no report.

    Attributes:
        path: its file.
        sop_uid: SOP Instance UID, empty for NIfTI and where the file has none.
        frame: number of the frame in the file, or of the slice in a NIfTI file, from 1.
    """

    path: Path
    sop_uid: str
    frame: int


@dataclass(frozen=True, eq=False)
class HeadVolume:
    """A head CT as a rectangular stack of slices, in Hounsfield units.

    Attributes:
        hu: (slices, rows, cols), HU, at least -1024; int16 where all values are whole and fit, else float32. Slices
            inferior to superior, rows anterior to posterior, cols from the patient's right to left. Slices of a tilted
            gantry are already shifted over one another. Convert to float32 before you calculate with it.
        positions_mm: float64 (slices,), increasing: centres of the slices along their common normal.
        thickness_mm: float64 (slices,): as the header says, or estimated from the steps.
        pixel_mm: (row, col) distance between pixel centres.
        warnings: what the user should know.
        facts: what a report may show: no identifiers, paths, UIDs or dates.
        sources: where each slice came from, in the order of `hu`; empty when unknown. For the caller alone.
        candidates: all volumes of the study, the chosen one first, and why it was chosen.
    """

    hu: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    positions_mm: npt.NDArray[np.float64]
    thickness_mm: npt.NDArray[np.float64]
    pixel_mm: tuple[float, float]
    warnings: tuple[ScanWarning, ...]
    facts: dict[str, Any]
    sources: tuple[SliceSource, ...] = ()
    candidates: tuple[Candidate, ...] = ()
