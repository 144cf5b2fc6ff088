"""The scans of a calibration: described one by one, chosen by appearance, and split into two disjoint parts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from molre_edge.calibration.appearance import describe, farthest_first
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.errors import CalibrationError, ScanError
from molre_edge.files import sha256_of
from molre_edge.scans import FoundScans, RejectedScan, ScanSource, read_scan, to_grid
from molre_edge.specs import Grid

__all__ = [
    "MAX_CACHE_BYTES",
    "MAX_SCANS",
    "VALIDATION_SLICES",
    "LabelsOf",
    "Sample",
    "Split",
    "VolumeReader",
    "content_of",
    "describe_scans",
    "select_scans",
    "split_scans",
]

LabelsOf = Callable[[ScanSource], "npt.NDArray[np.float64] | None"]
"""Labels of a scan, float64 [findings] with NaN if unknown; None for a scan without labels."""
VALIDATION_SLICES = 32
"""The search judges on this many slices' worth of the scans that are kept for judging."""
MAX_SCANS = 256
"""Scans that are read to choose from, at most. Of a larger folder: labelled ones first, spread evenly by path."""
MAX_CACHE_BYTES = 256 * 2**20
"""Bytes of volumes that stay in memory, at most; other volumes are read again at each use."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A scan that can be used.

    Attributes:
        source: the scan on disk.
        content: SHA-256 of its files' bytes.
        appearance: see :func:`molre_edge.calibration.appearance.describe`.
        labels: float64 [findings], NaN if unknown; None for a scan without labels.
        copies: number of scans in the folder with this content.
    """

    source: ScanSource
    content: str
    appearance: npt.NDArray[np.float64]
    labels: npt.NDArray[np.float64] | None = None
    copies: int = 1


@dataclass(frozen=True)
class Split:
    """The scans that give the ranges, and those that the search judges on. No scan is in both.

    Attributes:
        calibration: scans for the ranges, in the order in which they are read.
        validation: scans for judging, in that order too.
        unused: the scans in neither part.
    """

    calibration: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    unused: tuple[Sample, ...]


def select_scans(scans: FoundScans, labels: LabelsOf = lambda source: None) -> tuple[ScanSource, ...]:
    """The scans to read: all of them or, of a larger folder, :data:`MAX_SCANS` spread evenly by path.

    Scans with labels come first, because only they can show a loss of AUC. In a larger folder the names of files
    decide: a choice by content would have to hash all of it.
    """
    if len(scans.scans) <= MAX_SCANS:
        return scans.scans
    labelled = [source for source in scans.scans if _merge_labels([labels(source)]) is not None]
    chosen = set(_spread(labelled, MAX_SCANS))
    rest = [source for source in scans.scans if source not in chosen]
    chosen |= set(_spread(rest, MAX_SCANS - len(chosen)))
    return tuple(source for source in scans.scans if source in chosen)


def _spread(sources: Sequence[ScanSource], count: int) -> list[ScanSource]:
    if len(sources) <= count:
        return list(sources)
    return [sources[i] for i in np.linspace(0, len(sources) - 1, count).round().astype(int)]


def content_of(source: ScanSource) -> str:
    """SHA-256 over the bytes of a scan's files, independent of their folder, names and order.

    The study's other series count too: the reader takes one of them if the chosen series fails on its content.

    Raises:
        ScanError: a file can't be read.
    """
    try:
        files = sorted(sha256_of(file) for file in source.files)
    except OSError as error:
        raise ScanError("unreadable", f"can't be read: {error.strerror or error}") from error
    digest = hashlib.sha256(source.kind.encode())
    for file in files:
        digest.update(bytes.fromhex(file))
    for other in source.alternatives:
        digest.update(b"or" + bytes.fromhex(content_of(other)))
    return digest.hexdigest()


def describe_scans(
    sources: Sequence[ScanSource],
    contents: Sequence[str],
    grid: Grid,
    *,
    labels: LabelsOf = lambda source: None,
    on_scan: Callable[[], None] = lambda: None,
) -> tuple[list[Sample], list[RejectedScan]]:
    """Read each scan once and keep a few numbers of it, so that memory does not grow with the number of scans.

    Copies of a scan, by content, are one sample; otherwise the same scan could be in both parts of the split. The
    labels of the copies are merged; a finding on which they contradict each other is unknown.
    """
    samples: dict[str, Sample] = {}
    rows: dict[str, list[npt.NDArray[np.float64] | None]] = {}
    rejected = []
    for source, content in zip(sources, contents, strict=True):
        if content not in samples:
            try:
                samples[content] = Sample(source, content, describe(_read(source, grid)))
            except ScanError as error:
                rejected.append(RejectedScan(source.path, error.code, str(error)))
        rows.setdefault(content, []).append(labels(source))
        on_scan()
    return [
        replace(samples[content], labels=_merge_labels(rows[content]), copies=len(rows[content]))
        for content in sorted(samples)
    ], rejected


def _merge_labels(rows: Sequence[npt.NDArray[np.float64] | None]) -> npt.NDArray[np.float64] | None:
    """The labels of a scan's copies, float64 [findings]; None if nothing is known."""
    known = [row for row in rows if row is not None]
    if not known:
        return None
    low, high = np.fmin.reduce(known), np.fmax.reduce(known)  # these ignore NaN
    labels = np.where(low == high, low, np.nan)
    return None if np.isnan(labels).all() else labels


def split_scans(samples: Sequence[Sample], settings: CalibrationSettings, slices: int) -> Split:
    """Split by appearance: start from a typical scan; each next one is the scan least like those before it.

    The scans go to judging and to the ranges in turn, the typical one to judging: a search with room for one scan
    should not judge on the oddest.

    Args:
        samples: in an order that depends only on their content.
        settings: how many scans go to each part.
        slices: of a volume.

    Raises:
        CalibrationError: fewer than two scans.
    """
    if len(samples) < 2:
        raise CalibrationError(
            f"{len(samples)} scan{'' if len(samples) == 1 else 's'} can be used; calibration needs at least two, one "
            f"for the ranges and one to judge on. Give more scans: 500 slices or more make a trustworthy result"
        )
    labelled = [sample for sample in samples if sample.labels is not None]
    wanted = settings.validation_scans or max(2, VALIDATION_SLICES // slices)
    if labelled and settings.validation_scans is None:
        wanted = len(samples)  # an AUC needs many; the next line takes half of all
    count = min(wanted, max(1, len(samples) // (2 if labelled or settings.validation_scans else 3)))
    # labelled scans first: only they can show a loss of AUC
    ranked = [samples[i] for i in farthest_first([sample.appearance for sample in samples])]
    judging = [sample for sample in ranked if sample.labels is not None]
    order = [*judging[::2], *judging, *ranked[::2], *ranked]
    validation = list(dict.fromkeys(order))[:count]
    taken = {sample.content for sample in validation}
    rest = [sample for sample in ranked if sample.content not in taken]
    calibration = rest[: math.ceil(settings.slices / slices)]
    return Split(tuple(calibration), tuple(validation), tuple(rest[len(calibration) :]))


class VolumeReader:
    """Reads scans onto the model's grid on demand.

    A calibration needs each scan about ten times, and reading often takes longer than answering. So the first
    volumes stay in memory, up to a limit.
    """

    def __init__(self, grid: Grid, *, max_bytes: int = MAX_CACHE_BYTES) -> None:
        """Read onto this grid, and keep at most `max_bytes` bytes of volumes."""
        self._grid = grid
        self._room = max_bytes // (grid.slices * grid.rows * grid.cols * np.dtype(np.float16).itemsize)
        self._cache: dict[str, npt.NDArray[np.float16]] = {}

    def read(self, samples: Sequence[Sample]) -> Iterator[npt.NDArray[np.float16]]:
        """The scans, one at a time; float16 HU [1, slices, rows, cols], read-only.

        Raises:
            CalibrationError: a scan changed or disappeared since it was described.
        """
        for sample in samples:
            volume = self._cache.get(sample.content)
            if volume is None:
                volume = self._load(sample)
                if len(self._cache) < self._room:
                    self._cache[sample.content] = volume
            yield volume

    def reads(self, scans: int, times: int) -> int:
        """The number of reads from disk if this many scans are used this many times."""
        cached = min(scans, self._room)
        return cached + (scans - cached) * times

    def _load(self, sample: Sample) -> npt.NDArray[np.float16]:
        try:
            if content_of(sample.source) != sample.content:
                raise ScanError("altered", "its files have changed")
            volume = _read(sample.source, self._grid)[None]
        except ScanError as error:
            raise CalibrationError(
                f"{sample.source.path.name}: this scan changed while the calibration ran ({error}). Make sure that "
                f"nothing writes to the folder of the scans, and calibrate again"
            ) from error
        volume.flags.writeable = False
        return volume


def _read(source: ScanSource, grid: Grid) -> npt.NDArray[np.float16]:
    return to_grid(read_scan(source), grid)
