"""Finds the head CT scans under a path, and names the reason for everything else that lies there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from molre_edge.errors import ScanError
from molre_edge.scans.archive_path import status
from molre_edge.scans.choice import reason_against, sort_by_preference
from molre_edge.scans.dicom_header import DicomHeader
from molre_edge.scans.dicom_kind import is_media_directory
from molre_edge.scans.nifti import check_nifti
from molre_edge.scans.regular_file import unreadable
from molre_edge.scans.scan_records import Candidate, FoundFile, FoundScans, RejectedScan, ScanSource
from molre_edge.scans.series import Series, examine, examine_plain, group_series
from molre_edge.scans.sniff import may_be_dicom, sniff
from molre_edge.scans.traits import ORIGIN, PATIENT
from molre_edge.scans.walk import list_files

__all__ = ["Looked", "find_scans", "look_at"]

Looked: TypeAlias = DicomHeader | ScanSource | RejectedScan | ScanError
"""What a file is by its header: a DICOM object, a NIfTI volume, plainly no scan, or one that can't be used."""

_LISTED_ONE_BY_ONE = 20
"""More files of one folder with the same reason are listed as one entry."""
_ALTERNATIVES = 3
"""So many other series of a study are tried when the chosen one fails on its content."""


def find_scans(
    path: Path,
    *,
    all_series: bool = False,
    settle_seconds: float = 0.0,
    look: Callable[[Sequence[Path]], Iterable[Looked]] | None = None,
) -> FoundScans:
    """Find scans by their headers; no pixels are read.

    Args:
        path: a DICOM or NIfTI file, or a folder of any of them at any depth.
        all_series: keep every usable volume of a study, not only the one to prefer.
        settle_seconds: refuse a study, or a NIfTI file, of which a file was changed less than so long ago: it may still
            be arriving. 0 accepts all.
        look: gives for each file what :func:`look_at` says of it; by default that reads the headers in this process.

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
    looked = map(look_at, listing.files) if look is None else look(listing.files)
    for file, found in zip(listing.files, looked, strict=True):
        if isinstance(found, ScanError):
            rejected.append(RejectedScan(file, found.code, str(found)))
        elif isinstance(found, DicomHeader):
            headers.append(found)
        elif isinstance(found, ScanSource):
            if text := _still_arriving(found.found, settle_seconds):
                rejected.append(RejectedScan(file, "still_arriving", text))
            else:
                scans.append(found)
        else:
            ignored.append(found)
    series, copies = group_series(headers)
    ignored += copies
    beside_each = Counter(file.parent for file in listing.files)
    for study in _studies(series):
        newest = [header.on_disk for one in study for header in one.headers if header.on_disk is not None]
        if text := _still_arriving(newest, settle_seconds):
            rejected += [one.refusal("still_arriving", text) for one in study]
            continue
        chosen, refused, beside = _choose(study, all_series)
        scans += [scan if path.is_file() else _with_folders(scan, beside_each) for scan in chosen]
        rejected += refused
        ignored += beside
    if listing.files == [path]:  # the user named it, so it was meant as a scan
        rejected, ignored = rejected + ignored, []
    return FoundScans(
        tuple(sorted(scans, key=lambda scan: (scan.path, scan.files))), _readable(rejected), _readable(ignored)
    )


def look_at(file: Path) -> Looked:
    """Read the header of one file."""
    try:
        return _look_at(file)
    except ScanError as problem:
        return problem
    except OSError as error:  # whatever the system says of one file is no reason to stop
        return unreadable(error)


def _look_at(file: Path) -> DicomHeader | ScanSource | RejectedScan:
    beside = file.name.startswith("._")  # what macOS leaves beside a file
    header = examine_plain(file) if may_be_dicom(file) and not beside else None
    if header is None:
        found = _look_closer(file, "other" if beside else sniff(file))
        if not isinstance(found, DicomHeader):
            return found
        header = found
    if is_media_directory(header):
        return RejectedScan(
            file,
            "media_directory",
            "a DICOMDIR, which lists images and holds none: give the folder that it lies in, with its images",
        )
    return header


def _look_closer(file: Path, kind: str) -> DicomHeader | ScanSource | RejectedScan:
    if kind == "nifti":
        try:
            found = FoundFile.of(status(file))
        except OSError as error:
            raise ScanError("unreadable", f"the file can't be read: {error.strerror or 'i/o error'}") from error
        check_nifti(file)
        return ScanSource(file, (file,), "nifti", found=(found,))
    nothing = RejectedScan(file, "not_a_scan", "neither DICOM nor NIfTI")
    if kind == "other":
        return nothing
    try:
        return examine(file)
    except ScanError:
        if kind == "maybe_dicom":
            return nothing
        raise


def _with_folders(scan: ScanSource, beside: Mapping[Path, int]) -> ScanSource:
    """Note how many files lay in the folders of a scan."""
    folders = sorted({file.parent for file in scan.files})
    return replace(scan, folders=tuple((folder, beside[folder]) for folder in folders))


def _still_arriving(files: Iterable[FoundFile], seconds: float) -> str:
    """Why files are left for later, when one of them was changed just now; else empty."""
    now = time.time_ns()
    age = min((abs(now - file.modified_ns) / 1e9 for file in files), default=float("inf"))
    if age >= seconds:
        return ""
    return (
        f"a file was changed less than {seconds:g} s ago, so the scan may still be arriving: run it again when nothing "
        "changes there any more"
    )


def _studies(series: Iterable[Series]) -> list[list[Series]]:
    studies: dict[str, list[Series]] = {}
    for one in series:
        studies.setdefault(one.study, []).append(one)
    return [visit for study in studies.values() for visit in _visits(study)]


def _visits(study: Sequence[Series]) -> list[list[Series]]:
    """Take series apart that have one study UID and state different sexes or study dates: the UID was made constant.

    What a series does not state tells nothing, nor does any sex but M and F: O is sent for an unknown patient, too.
    """
    visits: list[tuple[list[str], list[Series]]] = []
    for one in study:
        header = one.headers[0]
        sex = header.patient[PATIENT.index("PatientSex")]
        stated = [sex if sex in ("M", "F") else "", header.origin[ORIGIN.index("StudyDate")]]
        for known, members in visits:
            if all(not a or not b or a == b for a, b in zip(known, stated, strict=True)):
                known[:] = [a or b for a, b in zip(known, stated, strict=True)]
                members.append(one)
                break
        else:
            visits.append((stated, [one]))
    return [members for _, members in visits]


def _choose(study: list[Series], all_series: bool) -> tuple[list[ScanSource], list[RejectedScan], list[RejectedScan]]:
    """Of one study: scans, rejected, ignored."""
    usable = sort_by_preference([one for one in study if one.problem is None])
    unusable = [one for one in study if one.problem is not None]
    if not usable:
        return [], [one.refusal() for one in unusable], []
    taken = usable if all_series else usable[:1]
    chosen, others = usable[0], [] if all_series else usable[1:]
    counted = {header.path for one in taken for header in one.headers}
    candidates = [one.candidate("chosen", _why(chosen, others)) for one in taken]
    beside = []
    for one in others:
        reason = reason_against(chosen, one, usable)
        beside.append(one.refusal("series_not_chosen", reason, frozenset(counted)))
        candidates.append(one.candidate("not_chosen", reason))
        counted |= {header.path for header in one.headers}
    for one in unusable:
        beside.append(one.refusal(counted=frozenset(counted)))
        status = "set_aside" if beside[-1].code == "set_aside" else "refused"
        candidates.append(one.candidate(status, beside[-1].reason))
        counted |= {header.path for header in one.headers}
    alternatives = tuple(one.source() for one in others[:_ALTERNATIVES])
    scans = [
        replace(one.source(), alternatives=alternatives, candidates=_first(candidates, at))
        for at, one in enumerate(taken)
    ]
    return scans, [], beside


def _why(chosen: Series, others: list[Series]) -> str:
    if not others:
        return "the only usable volume of the study"
    return reason_against(chosen, others[0], [chosen, *others]).replace("the chosen one", "it", 1)


def _first(candidates: list[Candidate], at: int) -> tuple[Candidate, ...]:
    return (candidates[at], *candidates[:at], *candidates[at + 1 :])


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
