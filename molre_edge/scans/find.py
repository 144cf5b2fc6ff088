"""Finds the head CT scans under a path, and names the reason for everything else that lies there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from molre_edge.errors import ScanError
from molre_edge.scans.content import unreadable
from molre_edge.scans.dicom_header import DicomHeader
from molre_edge.scans.dicom_kind import is_media_directory
from molre_edge.scans.nifti import check_nifti
from molre_edge.scans.records import FoundScans, RejectedScan, ScanSource
from molre_edge.scans.series import Series, examine, group_series, sort_by_preference
from molre_edge.scans.sniff import sniff
from molre_edge.scans.walk import list_files

__all__ = ["find_scans"]

_LISTED_ONE_BY_ONE = 20
"""More files of one folder with the same reason are listed as one entry."""
_ALTERNATIVES = 3
"""So many other series of a study are tried when the chosen one fails on its content."""


def find_scans(path: Path, *, all_series: bool = False) -> FoundScans:
    """Find scans by their headers; no pixels are read.

    Args:
        path: a DICOM or NIfTI file, or a folder of any of them at any depth.
        all_series: keep every usable series of a study, not only the one to prefer.

    Returns:
        Scans in the order of their paths, and reasons for all other files.

    Raises:
        ScanError: ``no_such_path`` or ``too_many_files``; anything about single files is in the result.
    """
    path = Path(path)
    listing = list_files(path)
    rejected, ignored = listing.rejected, listing.ignored
    scans: list[ScanSource] = []
    headers: list[DicomHeader] = []
    for file in listing.files:
        try:
            found = _look_at(file)
        except ScanError as problem:
            rejected.append(RejectedScan(file, problem.code, str(problem)))
            continue
        except OSError as error:  # whatever the system says of one file is no reason to stop
            rejected.append(RejectedScan(file, "unreadable", str(unreadable(error))))
            continue
        if isinstance(found, DicomHeader):
            headers.append(found)
        elif isinstance(found, ScanSource):
            scans.append(found)
        else:
            ignored.append(found)
    series, copies = group_series(headers)
    ignored += copies
    for study in _studies(series):
        chosen, refused, beside = _choose(study, all_series)
        scans += chosen
        rejected += refused
        ignored += beside
    if listing.files == [path]:  # the user named it, so it was meant as a scan
        rejected, ignored = rejected + ignored, []
    return FoundScans(
        tuple(sorted(scans, key=lambda scan: (scan.path, scan.files))), _readable(rejected), _readable(ignored)
    )


def _look_at(file: Path) -> DicomHeader | ScanSource | RejectedScan:
    kind = "other" if file.name.startswith("._") else sniff(file)  # ._name: what macOS leaves beside a file
    if kind == "nifti":
        check_nifti(file)
        return ScanSource(file, (file,), "nifti")
    nothing = RejectedScan(file, "not_a_scan", "neither DICOM nor NIfTI")
    if kind == "other":
        return nothing
    try:
        header = examine(file)
    except ScanError:
        if kind == "maybe_dicom":
            return nothing
        raise
    if is_media_directory(header):
        return RejectedScan(
            file, "media_directory", "a DICOM media directory: the images it lists are looked at themselves"
        )
    return header


def _studies(series: Iterable[Series]) -> list[list[Series]]:
    studies: dict[str, list[Series]] = {}
    for one in series:
        studies.setdefault(one.study, []).append(one)
    return list(studies.values())


def _choose(study: list[Series], all_series: bool) -> tuple[list[ScanSource], list[RejectedScan], list[RejectedScan]]:
    """Of one study: scans, rejected, ignored."""
    usable = sort_by_preference([one for one in study if one.problem is None])
    unusable = [one.refusal() for one in study if one.problem is not None]
    if not usable:
        return [], unusable, []
    if all_series:
        return [one.source() for one in usable], [], unusable
    others = [one.refusal("series_not_chosen", "another series of the same study fits better") for one in usable[1:]]
    alternatives = tuple(one.source() for one in usable[1 : 1 + _ALTERNATIVES])
    return [replace(usable[0].source(), alternatives=alternatives)], [], unusable + others


def _readable(entries: list[RejectedScan]) -> tuple[RejectedScan, ...]:
    """Sort, and replace many files of one folder with one reason by one entry for the folder."""
    groups: dict[tuple[Path, str, str], list[RejectedScan]] = {}
    for entry in entries:
        groups.setdefault((entry.path.parent, entry.code, entry.reason), []).append(entry)
    result: list[RejectedScan] = []
    for (folder, code, reason), members in groups.items():
        if len(members) > _LISTED_ONE_BY_ONE:
            result.append(RejectedScan(folder, code, reason, sum(member.files for member in members)))
        else:
            result += members
    return tuple(sorted(result, key=lambda entry: (entry.path, entry.code)))
