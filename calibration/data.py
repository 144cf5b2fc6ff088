"""The scans of a calibration: looked at one by one, chosen by how they look, and split in two that share nothing."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.calibration.appearance import describe, farthest_first
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.errors import CalibrationError, ScanError
from molre_edge.files import sha256_of
from molre_edge.scans import FoundScans, ScanSource, read_scan, to_grid
from molre_edge.specs import Grid

__all__ = [
    "MOST_KEPT",
    "MOST_LOOKED_AT",
    "VALIDATION_SLICES",
    "LabelsOf",
    "Problem",
    "Sample",
    "Split",
    "VolumeReader",
    "candidates",
    "choose",
    "content_of",
    "look",
]

LabelsOf = Callable[[ScanSource], "npt.NDArray[np.float64] | None"]
"""Labels of a scan, float64 [findings] with NaN where unknown; None where it has none."""
VALIDATION_SLICES = 32
"""The search judges on so many slices' worth of the scans that are kept for judging."""
MOST_LOOKED_AT = 256
"""Scans that are read to choose from, at most; of more, labelled ones first, spread evenly by the order of paths."""
MOST_KEPT = 256 * 2**20
"""Bytes of volumes that are kept in memory, at most; others are read again whenever they are asked for."""


@dataclass(frozen=True)
class Problem:
    """A scan that can't be used.

    Attributes:
        path: only its last part is shown, since folders carry names of people; it is in no file that is written.
        code: a stable word, listed in docs/scans.md.
        reason: a sentence.
    """

    path: Path
    code: str
    reason: str


@dataclass(frozen=True, eq=False)
class Sample:
    """A scan that can be used.

    Attributes:
        source: on disk.
        content: SHA-256 of its files' bytes.
        look: see :func:`molre_edge.calibration.appearance.describe`.
        labels: float64 [findings], NaN where unknown; None for a scan without labels.
        copies: how many scans of the folder have this content.
    """

    source: ScanSource
    content: str
    look: npt.NDArray[np.float64]
    labels: npt.NDArray[np.float64] | None = None
    copies: int = 1


@dataclass(frozen=True)
class Split:
    """Which scans the ranges come from, and which the search judges on. No scan is in both.

    Attributes:
        calibration: in the order in which they are read.
        validation: the same.
        unused: the scans in neither.
    """

    calibration: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    unused: tuple[Sample, ...]


def candidates(found: FoundScans, labels: LabelsOf = lambda source: None) -> tuple[ScanSource, ...]:
    """The scans to look at: all of them, or :data:`MOST_LOOKED_AT` of a larger folder, spread evenly.

    Scans with labels come first, since only these can say what happens to AUC. Of a larger folder, names have a say: to
    choose by content, all of it would have to be hashed.
    """
    if len(found.scans) <= MOST_LOOKED_AT:
        return found.scans
    labelled = [source for source in found.scans if _together([labels(source)]) is not None]
    chosen = set(_spread(labelled, MOST_LOOKED_AT))
    rest = [source for source in found.scans if source not in chosen]
    chosen |= set(_spread(rest, MOST_LOOKED_AT - len(chosen)))
    return tuple(source for source in found.scans if source in chosen)


def _spread(sources: Sequence[ScanSource], count: int) -> list[ScanSource]:
    if len(sources) <= count:
        return list(sources)
    return [sources[i] for i in np.linspace(0, len(sources) - 1, count).round().astype(int)]


def content_of(source: ScanSource) -> str:
    """SHA-256 over the bytes of a scan's files, wherever they lie, whatever they are called and in whatever order.

    Those of the study's other series count too: one of them is read where the chosen one fails on its content.

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


def look(
    sources: Sequence[ScanSource],
    contents: Sequence[str],
    grid: Grid,
    *,
    labels: LabelsOf = lambda source: None,
    on_scan: Callable[[], None] = lambda: None,
) -> tuple[list[Sample], list[Problem]]:
    """Read each scan once and keep a few numbers of it, so that memory does not grow with the number of scans.

    A scan that is there several times, by its content, is one sample: else it could be in both parts of the split. Its
    labels are those of its copies together; a finding on which they contradict each other is unknown.
    """
    samples: dict[str, Sample] = {}
    rows: dict[str, list[npt.NDArray[np.float64] | None]] = {}
    problems = []
    for source, content in zip(sources, contents, strict=True):
        if content not in samples:
            try:
                samples[content] = Sample(source, content, describe(_read(source, grid)))
            except ScanError as error:
                problems.append(Problem(source.path, error.code, str(error)))
        rows.setdefault(content, []).append(labels(source))
        on_scan()
    return [
        replace(samples[content], labels=_together(rows[content]), copies=len(rows[content]))
        for content in sorted(samples)
    ], problems


def _together(rows: Sequence[npt.NDArray[np.float64] | None]) -> npt.NDArray[np.float64] | None:
    """The labels of a scan's copies, float64 [findings]; None where they say nothing."""
    there = [row for row in rows if row is not None]
    if not there:
        return None
    low, high = np.fmin.reduce(there), np.fmax.reduce(there)  # these pass over NaN
    labels = np.where(low == high, low, np.nan)
    return None if np.isnan(labels).all() else labels


def choose(samples: Sequence[Sample], settings: CalibrationSettings, slices: int) -> Split:
    """Split by appearance: from a typical scan on, each next is that which looks least like those before.

    They go to judging and to the ranges in turn, the typical one to judging: a search that has room for one scan should
    not judge on the oddest.

    Args:
        samples: in an order that depends on their content alone.
        settings: how many of each.
        slices: of a volume.

    Raises:
        CalibrationError: fewer than two scans.
    """
    if len(samples) < 2:
        raise CalibrationError(
            f"{len(samples)} scan{'s' if len(samples) != 1 else ''} can be used; calibration needs two at least, one "
            f"for the ranges and another to judge on, and 500 slices' worth to be trusted"
        )
    labelled = [sample for sample in samples if sample.labels is not None]
    wanted = settings.validation or max(2, VALIDATION_SLICES // slices)
    if labelled and settings.validation is None:
        wanted = len(samples)  # an AUC needs many: half of all, below
    count = min(wanted, max(1, len(samples) // (2 if labelled or settings.validation else 3)))
    # labelled scans first: those can also say what happens to AUC
    ranked = [samples[i] for i in farthest_first([sample.look for sample in samples])]
    judging = [sample for sample in ranked if sample.labels is not None]
    order = [*judging[::2], *judging, *ranked[::2], *ranked]
    validation = list(dict.fromkeys(order))[:count]
    taken = {sample.content for sample in validation}
    rest = [sample for sample in ranked if sample.content not in taken]
    calibration = rest[: math.ceil(settings.slices / slices)]
    return Split(tuple(calibration), tuple(validation), tuple(rest[len(calibration) :]))


class VolumeReader:
    """Scans on the model's grid, read as they are asked for.

    A calibration asks for the same scans ten times or so, and reading a scan often takes longer than answering it. So
    the first ones are kept in memory, up to a limit.
    """

    def __init__(self, grid: Grid, *, most_bytes: int = MOST_KEPT) -> None:
        """Read onto this grid, and keep so many bytes of volumes at most."""
        self._grid = grid
        self._most = most_bytes // (grid.slices * grid.rows * grid.cols * np.dtype(np.float16).itemsize)
        self._kept: dict[str, npt.NDArray[np.float16]] = {}

    def read(self, samples: Sequence[Sample]) -> Iterator[npt.NDArray[np.float16]]:
        """The scans, one at a time; float16 HU [1, slices, rows, cols], read-only.

        Raises:
            CalibrationError: a scan was altered or removed since it was looked at.
        """
        for sample in samples:
            volume = self._kept.get(sample.content)
            if volume is None:
                volume = self._of(sample)
                if len(self._kept) < self._most:
                    self._kept[sample.content] = volume
            yield volume

    def passes(self, scans: int, times: int) -> int:
        """How many scans are read from disk when so many are asked for so often."""
        kept = min(scans, self._most)
        return kept + (scans - kept) * times

    def _of(self, sample: Sample) -> npt.NDArray[np.float16]:
        try:
            if content_of(sample.source) != sample.content:
                raise ScanError("altered", "its files have changed")
            volume = _read(sample.source, self._grid)[None]
        except ScanError as error:
            raise CalibrationError(
                f"{sample.source.path.name}: was there when the scans were chosen and can't be used now ({error}); "
                f"calibrate again"
            ) from error
        volume.flags.writeable = False
        return volume


def _read(source: ScanSource, grid: Grid) -> npt.NDArray[np.float16]:
    return to_grid(read_scan(source), grid)
