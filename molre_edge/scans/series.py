"""Groups DICOM files into series, and splits each series into volumes of one patient, scan and reconstruction."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from molre_edge.errors import ScanError
from molre_edge.scans.archive_path import status
from molre_edge.scans.content import content_bytes
from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.dicom_header import (
    DicomHeader,
    read_header,
    read_image_header,
    read_plain_header,
)
from molre_edge.scans.dicom_kind import check_kind, check_native_size, check_storage
from molre_edge.scans.dicom_open import open_dicom, open_plain
from molre_edge.scans.dicom_similar import read_slice_header
from molre_edge.scans.dicom_volume import check_volume
from molre_edge.scans.scan_records import Candidate, FoundFile, RejectedScan, ScanSource, ScanWarning
from molre_edge.scans.split import Part, Pile, apart, normal_of, overlap, split_frames
from molre_edge.scans.stack import MIN_SLICES, Stack
from molre_edge.scans.traits import ORIGIN, PATIENT

__all__ = ["Series", "examine", "examine_plain", "group_series"]

_OWN_KINDS = ("not_ct", "localizer", "dose_page", "secondary_capture", "derived_map", "not_head")
"""Reasons that make files another kind of thing, even within one series; other reasons spoil the series they are in."""
_ODD_FILES = ("no_geometry", "not_hounsfield")
"""Reasons for which single files of a series are set aside when the others are whole without them."""
_GEOMETRY = {
    "sizes": "mixed_pixel_spacing",
    "pixel spacings": "mixed_pixel_spacing",
    "orientations": "mixed_orientations",
}


def examine(path: Path) -> DicomHeader:
    """Read a header, and note in its `problem` why the file can't be part of a head volume.

    Raises:
        ScanError: when it is not even known what the file is.
    """
    try:
        on_disk = FoundFile.of(status(path))
    except OSError as error:
        raise ScanError("unreadable", f"the file can't be read: {error.strerror or 'input/output error'}") from error
    dataset = open_dicom(path)
    header = replace(read_header(path, dataset), on_disk=on_disk)
    try:
        check_kind(header)
        check_storage(header)
        header = read_image_header(path, dataset, header)
        check_native_size(header, content_bytes(path))  # None where only unpacking would tell
    except ScanError as problem:
        return replace(header, problem=problem)
    return header


def examine_plain(path: Path) -> DicomHeader | None:
    """As :func:`examine`, of an ordinary CT slice in a file of its own; None for anything else, and nothing is said."""
    found = open_plain(path)
    if found is None:
        return None
    plain, on_disk = found
    header = None
    try:
        if (header := read_slice_header(path, plain, on_disk)) is None:
            return None
        check_native_size(header, on_disk.size)
    except ScanError as problem:
        header = header or read_plain_header(path, plain, on_disk)
        return None if header is None or problem.code == "corrupt_header" else replace(header, problem=problem)
    except (ValueError, TypeError, OverflowError):
        return None
    return header


@dataclass(frozen=True, eq=False)
class Series:
    """Slices that are one volume, or files that can't be one.

    Attributes:
        study: key of the study.
        headers: of the files that hold the slices, sorted by path.
        frames: the slices.
        names: what sets the volume apart from others of its series.
        stack: where the slices lie, or None with a problem.
        problem: why it can't be used, or None.
        warnings: about how it was put together.
    """

    study: str
    headers: tuple[DicomHeader, ...]
    frames: tuple[Frame, ...] = ()
    names: tuple[str, ...] = ()
    stack: Stack | None = None
    problem: ScanError | None = None
    warnings: tuple[ScanWarning, ...] = field(default=())

    @property
    def path(self) -> Path:
        """The file, or the folder of all files."""
        files = [header.path for header in self.headers]
        return files[0] if len(files) == 1 else Path(os.path.commonpath([file.parent for file in files]))

    @property
    def name(self) -> str:
        """For people: the series and what sets the volume apart in it."""
        number = self.headers[0].series_number
        return ", ".join((f"series {number}" if number < 2**31 else "a series without number", *self.names))

    def source(self) -> ScanSource:
        """The volume as a scan."""
        indices: dict[Path, list[int]] = {}
        for frame in self.frames:
            indices.setdefault(frame.path, []).append(frame.index)
        found = []
        for header in self.headers:
            assert header.on_disk is not None
            mine = tuple(sorted(indices[header.path]))
            some = mine if len(mine) < header.frame_count else ()
            found.append(replace(header.on_disk, digest=header.digest(), frames=some))
        files = tuple(header.path for header in self.headers)
        return ScanSource(self.path, files, "dicom", found=tuple(found), warnings=self.warnings)

    def refusal(
        self, code: str | None = None, reason: str | None = None, counted: frozenset[Path] = frozenset()
    ) -> RejectedScan:
        """The volume as something left out, with its own reason or another; `counted` files are in another entry."""
        if code is None or reason is None:
            assert self.problem is not None
            code, reason = self.problem.code, str(self.problem)
        return RejectedScan(self.path, code, reason, sum(header.path not in counted for header in self.headers))

    def candidate(self, status: str, reason: str) -> Candidate:
        """The volume as one of those to choose from."""
        return Candidate(self.name, len(self.frames) or len(self.headers), len(self.headers), status, reason)


def group_series(headers: Iterable[DicomHeader]) -> tuple[list[Series], list[RejectedScan]]:
    """Group files by study, series and kind, split each series into volumes, and check each.

    Returns:
        The volumes; and damaged second copies of files that are there in good order.
    """
    groups: dict[tuple[str, str], list[DicomHeader]] = {}
    others: dict[tuple[str, str, str], list[DicomHeader]] = {}
    aside: dict[tuple[str, str], Counter[str]] = {}
    for header in sorted(headers, key=lambda one: one.path):
        folder = f"folder {header.path.parent}"
        key = header.study or folder, header.series or f"{folder} {header.series_number}"
        code = header.problem.code if header.problem and header.problem.code in _OWN_KINDS else ""
        if code:
            others.setdefault((_study_key(header), f"{folder} {key[1]}", code), []).append(header)
            aside.setdefault(key, Counter())[code] += 1
        else:
            groups.setdefault(key, []).append(header)
    found, copies = [], []
    for key, members in groups.items():
        good = _places(header for header in members if header.problem is None)
        spoiled = [header for header in members if header.problem and _is_copy(header, good)]
        copies += [
            RejectedScan(header.path, "duplicate_file", "a damaged copy of a slice that is there in good order")
            for header in spoiled
        ]
        left = [
            ScanWarning("slices_set_aside", f"files of the series that are no slices of it were set aside: {n} {code}")
            for code, n in sorted(aside.get(key, Counter()).items())
        ]
        found += _by_patient([header for header in members if header not in spoiled], tuple(left))
    found += [Series(study, tuple(members), problem=members[0].problem) for (study, _, _), members in others.items()]
    return found, copies


_Places = frozenset[tuple[float, ...]]


def _place(header: DicomHeader) -> _Places:
    return frozenset(tuple(round(value, 2) for value in frame.position) for frame in header.frames)


def _places(headers: Iterable[DicomHeader]) -> dict[str, set[_Places]]:
    """Where the slices of each SOP Instance UID lie."""
    found: dict[str, set[_Places]] = {}
    for header in headers:
        found.setdefault(header.sop_uid, set()).add(_place(header))
    return found


def _is_copy(damaged: DicomHeader, good: Mapping[str, set[_Places]]) -> bool:
    """Whether the same instance is there in good order. A UID of several places, as some anonymisers write, is none."""
    places = good.get(damaged.sop_uid, set()) if damaged.sop_uid else set()
    return len(places) == 1 and (not damaged.frames or _place(damaged) in places)


def _study_key(header: DicomHeader) -> str:
    return repr((header.study or f"folder {header.path.parent}", header.patient[:3]))


def _slices(headers: Sequence[DicomHeader]) -> int:
    return sum(max(len(header.frames), 1) for header in headers)


def _by_patient(headers: Sequence[DicomHeader], left: tuple[ScanWarning, ...]) -> list[Series]:
    """Split the files of one series UID into patients and visits: each is a study of its own."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[DicomHeader]] = {}
    for header in headers:
        groups.setdefault((header.patient, header.origin), []).append(header)
    if len(groups) == 1:
        return _by_folder(_study_key(headers[0]), headers, left)
    names = (*PATIENT, *ORIGIN)
    values = [{(*who, *where)[at] for who, where in groups} for at in range(len(names))]
    differing = [at for at, different in enumerate(values) if len(different) > 1]
    element = _element(names[differing[0]])
    if max(map(_slices, groups.values())) < MIN_SLICES <= _slices(headers):
        count = len(values[differing[0]])
        if differing[0] >= len(PATIENT):
            text = f"{element} has {count} values in the {len(headers)} files of the series; it is not used"
            return _by_folder(_study_key(headers[0]), headers, (*left, ScanWarning("header_differs", text)))
        text = (
            f"{element} has {count} different values in the {len(headers)} files of one series, so it is unknown whose "
            "head each shows: give each patient's files the same value again, or export the series anew"
        )
        return [Series(_study_key(headers[0]), tuple(headers), problem=ScanError("mixed_patients", text))]
    large = [members for members in groups.values() if _slices(members) >= MIN_SLICES]
    small = [members for members in groups.values() if _slices(members) < MIN_SLICES]
    odd = sum(map(len, small))
    if odd and large:
        text = f"{odd} files of the series were set aside: they differ from the others in {element}"
        left = (*left, ScanWarning("slices_set_aside", text))
    found: list[Series] = []
    for number, members in enumerate(large):
        key = _study_key(members[0]) + (f" part {number}" if len(large) > 1 else "")
        found += _by_folder(key, members, left)
    for members in small:
        text = (
            f"{len(members)} of {len(headers)} files of the series differ from the others in {element}: they are of "
            "another patient or visit; give each a series of its own"
        )
        found.append(Series(_study_key(members[0]) + " odd", tuple(members), problem=ScanError("mixed_patients", text)))
    return found


def _element(name: str) -> str:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(name) or 0
    return f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _by_folder(study: str, headers: Sequence[DicomHeader], left: tuple[ScanWarning, ...]) -> list[Series]:
    """Take folders apart whose files have the same UIDs and yet are different scans, as some anonymisers leave them."""
    folders: dict[Path, list[DicomHeader]] = {}
    for header in headers:
        folders.setdefault(header.path.parent, []).append(header)
    scans: list[list[DicomHeader]] = []
    for members in folders.values():
        home = next((one for one in scans if not _different_scans(one, members)), None)
        if home is None:
            scans.append(list(members))
        else:
            home += members
    if len(scans) == 1:
        return _volumes(study, headers, left)
    return [one for number, members in enumerate(scans) for one in _volumes(f"{study} scan {number}", members, left)]


def _different_scans(first: Sequence[DicomHeader], second: Sequence[DicomHeader]) -> bool:
    """Whether two folders with one series UID hold two scans: the numbers of their slices repeat at other places."""
    one, two = ([frame for header in headers for frame in header.frames] for headers in (first, second))
    if min(len(one), len(two)) < MIN_SLICES:
        return False
    places = [{(f.sop_uid, f.index, tuple(round(x, 2) for x in f.position)) for f in frames} for frames in (one, two)]
    if len(places[0] & places[1]) >= min(map(len, places)) / 2:
        return False  # copies
    numbers = [{(f.traits.instance, f.index) for f in frames if f.traits.instance is not None} for frames in (one, two)]
    if all(len(known) >= len(frames) / 2 for known, frames in zip(numbers, (one, two), strict=True)):
        return len(numbers[0] & numbers[1]) >= max(MIN_SLICES, min(map(len, numbers)) / 2)
    normal = normal_of(one[0])
    piles = Pile.of(one, normal), Pile.of(two, normal)
    return not apart(*piles) and overlap(*piles) > 0.5


def _volumes(study: str, headers: Sequence[DicomHeader], left: tuple[ScanWarning, ...]) -> list[Series]:
    """Split the files of one scan into volumes, and check each."""
    files = {header.path: header for header in headers}
    bad = [header for header in headers if header.problem and not header.frames]
    frames = [frame for header in headers for frame in header.frames]
    parts = split_frames(frames) if frames else []
    spoiling = [header for header in bad if header.problem and header.problem.code not in _ODD_FILES]
    checked = [_check(study, part, files, spoiling, left) for part in parts]
    usable = [series for series in checked if series.problem is None]
    if not usable:
        return [_whole(study, headers, bad, parts, checked)]
    rest = [series for series in checked if series.problem is not None]
    small = [series for series in rest if len(series.frames) < MIN_SLICES]
    warnings = []
    for series, part in zip(checked, parts, strict=True):
        if series in small:
            text = f"{len(series.frames)} of {len(frames)} slices of the series differ in {part.axes[-1].element}"
            warnings.append(f"{text}; they were set aside")
            rest[rest.index(series)] = replace(series, problem=ScanError("set_aside", text))
    if bad:
        codes = ", ".join(sorted({header.problem.code for header in bad if header.problem}))
        warnings.append(f"{len(bad)} files of the series were set aside: {codes}")
    notes = [ScanWarning("slices_set_aside", text) for text in warnings]
    if len(checked) - len(small) > 1:
        names = [f"{_names(series)}: {len(series.frames)} slices" for series in checked if series not in small]
        notes.append(ScanWarning("series_split", f"the series holds {len(names)} volumes ({'; '.join(names[:6])})"))
    found = [replace(series, warnings=(*series.warnings, *notes)) for series in usable] + rest
    if bad:
        found.append(Series(study, tuple(bad), problem=bad[0].problem))
    return found


def _names(series: Series) -> str:
    return ", ".join(series.names) or "one"


def _check(
    study: str,
    part: Part,
    files: dict[Path, DicomHeader],
    spoiling: Sequence[DicomHeader],
    left: tuple[ScanWarning, ...],
) -> Series:
    headers = tuple(files[path] for path in sorted({frame.path for frame in part.frames}))
    series = Series(study, headers, part.frames, part.names, warnings=(*left, *part.warnings))
    broken = [header for header in headers if header.problem] or list(spoiling)
    if broken and (problem := broken[0].problem) is not None:
        return replace(series, problem=_of_some(problem, len(broken), len({*headers, *broken})))
    try:
        stack, _ = check_volume(part.frames)  # its warnings come again when the volume is read
        _check_numbers(stack)
    except ScanError as problem:
        return replace(series, problem=problem)
    return replace(series, stack=stack)


def _check_numbers(stack: Stack) -> None:
    """Refuse two stacks that lie within each other and that nothing tells apart: their Instance Numbers repeat."""
    turns: dict[tuple[int | None, int], int] = {}
    piles: dict[int, list[float]] = {}
    before: dict[tuple[int | None, int], float] = {}
    for frame, place in zip(stack.frames, stack.positions_mm, strict=True):
        key = frame.traits.instance, frame.index
        if key[0] is None or (key in before and place - before[key] < 0.01):
            continue
        before[key] = float(place)
        turns[key] = turns.get(key, 0) + 1
        piles.setdefault(turns[key], []).append(float(place))
    if len(piles) < 2 or len(piles[2]) < max(MIN_SLICES, len(piles[1]) / 2):
        return
    if any(max(piles[turn]) > min(piles[turn + 1]) for turn in range(1, len(piles))):
        raise ScanError(
            "mixed_volumes",
            f"InstanceNumber (0020,0013) repeats for {len(piles[2])} slices, and the {len(piles)} stacks lie within "
            "each other: they are of several scans that nothing tells apart; give each scan a folder of its own",
        )


def _of_some(problem: ScanError, count: int, total: int) -> ScanError:
    return problem if count == total else ScanError(problem.code, f"{count} of {total} files: {problem}")


def _whole(
    study: str,
    headers: Sequence[DicomHeader],
    bad: Sequence[DicomHeader],
    parts: Sequence[Part],
    checked: Sequence[Series],
) -> Series:
    """The series as one refusal, when none of its volumes can be used."""
    frames = tuple(frame for header in headers for frame in header.frames)
    whole = Series(study, tuple(headers), frames)
    problems = [header for header in headers if header.problem]
    if problems and (first := problems[0].problem) is not None:
        return replace(whole, problem=_of_some(first, len(problems), len(headers)))
    largest = max(checked, key=lambda series: len(series.frames))
    problem = largest.problem
    assert problem is not None
    if len(parts) > 1:
        axes = {axis.what: axis for part in parts for axis in part.axes}
        counts = ", ".join(f"{len(part.frames)}" for part in parts[:6])
        elements = " and ".join(axis.element for axis in list(axes.values())[:2])
        code = next((_GEOMETRY[what] for what in axes if what in _GEOMETRY), problem.code)
        text = f"the slices of the series differ in {elements} ({counts} slices), and no part can be used: {problem}"
        return replace(whole, problem=ScanError(code, text))
    return replace(whole, problem=problem)
