"""Groups DICOM files into series and studies, and chooses the series of a study that a head model should see."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from molre_edge.errors import ScanError
from molre_edge.scans.content import content_bytes
from molre_edge.scans.dicom_header import DicomHeader, read_header, read_image_header
from molre_edge.scans.dicom_kind import check_kind, check_storage, is_native
from molre_edge.scans.dicom_open import open_dicom
from molre_edge.scans.dicom_volume import check_series
from molre_edge.scans.kernel import is_bone_kernel
from molre_edge.scans.records import RejectedScan, ScanSource
from molre_edge.scans.stack import Stack

__all__ = ["Series", "examine", "group_series", "sort_by_preference"]

_OWN_KINDS = ("not_ct", "localizer", "dose_page", "secondary_capture", "derived_map", "not_head")
"""Reasons that make files another kind of thing, even within one series; other reasons spoil the series they are in."""
_ENOUGH_MM = 160.0
_COVERAGE_STEP_MM = 20.0
_LARGE_FIELD_MM = 350.0
_THIN_ENOUGH_MM = 6.0


def examine(path: Path) -> DicomHeader:
    """Read a header, and note in its `problem` why the file can't be part of a head volume.

    Raises:
        ScanError: when it is not even known what the file is.
    """
    dataset = open_dicom(path)
    header = read_header(path, dataset)
    try:
        check_kind(header)
        check_storage(header)
        header = read_image_header(path, dataset)
        size = header.rows * header.cols * header.frame_count * header.bits_allocated // 8
        stored = content_bytes(path)  # None where only unpacking would tell
        if is_native(header.syntax) and stored is not None and stored < size:
            raise ScanError("corrupt_pixels", "the pixels end too early: copy the file again from its source")
    except ScanError as problem:
        return replace(header, problem=problem)
    return header


@dataclass(frozen=True, eq=False)
class Series:
    """Files that belong together.

    Attributes:
        study: key of the study.
        headers: one a file, sorted by path.
        stack: where its slices lie, or None with a problem.
        problem: why it can't be used, or None.
    """

    study: str
    headers: tuple[DicomHeader, ...]
    stack: Stack | None
    problem: ScanError | None

    @property
    def path(self) -> Path:
        """The file, or the folder of all files."""
        files = [header.path for header in self.headers]
        return files[0] if len(files) == 1 else Path(os.path.commonpath([file.parent for file in files]))

    def source(self) -> ScanSource:
        """The series as a scan."""
        return ScanSource(self.path, tuple(header.path for header in self.headers), "dicom")

    def refusal(self, code: str | None = None, reason: str | None = None) -> RejectedScan:
        """The series as something left out, with its own reason or another."""
        if code is None or reason is None:
            assert self.problem is not None
            code, reason = self.problem.code, str(self.problem)
        return RejectedScan(self.path, code, reason, len(self.headers))


def group_series(headers: Iterable[DicomHeader]) -> tuple[list[Series], list[RejectedScan]]:
    """Group files by study, series and kind, and check each group.

    Returns:
        The series; and damaged second copies of files that are there in good order.
    """
    groups: dict[tuple[str, str, str], list[DicomHeader]] = {}
    for header in sorted(headers, key=lambda one: one.path):
        folder = f"folder {header.path.parent}"
        code = header.problem.code if header.problem and header.problem.code in _OWN_KINDS else ""
        series = header.series or f"{folder} {header.series_number}"
        groups.setdefault((header.study or folder, f"{folder} {series}" if code else series, code), []).append(header)
    found, copies = [], []
    for (study, _, _), members in groups.items():
        good = {header.sop_uid for header in members if header.problem is None}
        spoiled = [header for header in members if header.problem and header.sop_uid and header.sop_uid in good]
        copies += [
            RejectedScan(header.path, "duplicate_file", "a damaged copy of a slice that is there in good order")
            for header in spoiled
        ]
        found.append(_check(study, tuple(header for header in members if header not in spoiled)))
    return found, copies


def _check(study: str, headers: tuple[DicomHeader, ...]) -> Series:
    problems = [header.problem for header in headers if header.problem]
    if problems:
        problem = problems[0]
        if len(problems) < len(headers):
            problem = ScanError(problem.code, f"{len(problems)} of {len(headers)} files: {problem}")
        return Series(study, headers, None, problem)
    try:
        return Series(study, headers, check_series(headers), None)
    except ScanError as problem:
        return Series(study, headers, None, problem)


def sort_by_preference(series: Sequence[Series]) -> list[Series]:
    """Usable series of one study, the one to read first.

    In turn: one image a position; original before derived; a field of view of a head; a header that names the head;
    coverage (in steps of 20 mm, up to 160 mm); thin enough; a smooth kernel; no contrast agent; more slices in the
    same height; and last the series number, UID and path, so that the choice is the same everywhere.
    """
    return sorted(series, key=_rank)


def _rank(series: Series) -> tuple[object, ...]:
    stack, first = series.stack, series.headers[0]
    assert stack is not None
    steps = np.diff(stack.positions_mm)
    crowded = len({header.sop_uid for header in series.headers}) == len(series.headers) and bool((steps < 0.01).any())
    height = min(float(stack.positions_mm[-1] - stack.positions_mm[0]), _ENOUGH_MM)
    step = float(np.median(steps))
    field = max(first.rows * stack.pixel_mm[0], first.cols * stack.pixel_mm[1])
    return (
        crowded,
        first.image_type[:1] == ("DERIVED",),
        field > _LARGE_FIELD_MM,
        not any(word in first.body_part for word in ("HEAD", "BRAIN", "SKULL")),
        -int(height / _COVERAGE_STEP_MM),
        step > _THIN_ENOUGH_MM,
        is_bone_kernel(first.kernel),
        any(header.contrast for header in series.headers),
        round(step, 2),
        first.series_number,
        first.series,
        str(series.path),
    )
