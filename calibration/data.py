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
    "Problem",
    "Sample",
    "Split",
    "VolumeReader",
    "candidates",
    "choose",
    "content_of",
    "look",
]

VALIDATION_SLICES = 32
"""The search judges on so many slices' worth of scans, unless asked otherwise."""
MOST_LOOKED_AT = 256
"""Scans that are read to choose from, at most; of more, these are spread evenly over the order of their paths."""
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
    """

    source: ScanSource
    content: str
    look: npt.NDArray[np.float64]
    labels: npt.NDArray[np.float64] | None = None


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


def candidates(found: FoundScans) -> tuple[ScanSource, ...]:
    """The scans to look at: all of them, or :data:`MOST_LOOKED_AT` spread evenly over a larger folder.

    Of a larger folder, names have a say: to choose by content, all of it would have to be hashed.
    """
    scans = found.scans
    if len(scans) <= MOST_LOOKED_AT:
        return scans
    places = np.linspace(0, len(scans) - 1, MOST_LOOKED_AT).round().astype(int)
    return tuple(scans[i] for i in places)


def content_of(source: ScanSource) -> str:
    """SHA-256 over the bytes of a scan's files, wherever they lie, whatever they are called and in whatever order.

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
    return digest.hexdigest()


def look(
    sources: Sequence[ScanSource],
    contents: Sequence[str],
    grid: Grid,
    *,
    labels: Callable[[ScanSource], npt.NDArray[np.float64] | None] = lambda source: None,
    on_scan: Callable[[], None] = lambda: None,
) -> tuple[list[Sample], list[Problem]]:
    """Read each scan once and keep a few numbers of it, so that memory does not grow with the number of scans.

    A scan that is there twice, by its content, is taken once: else it could be in both parts of the split.
    It has labels when any copy has.
    """
    samples: dict[str, Sample] = {}
    problems = []
    for source, content in zip(sources, contents, strict=True):
        known = samples.get(content)
        if known is None:
            try:
                samples[content] = Sample(source, content, describe(_read(source, grid)), labels(source))
            except ScanError as error:
                problems.append(Problem(source.path, error.code, str(error)))
        elif known.labels is None:
            samples[content] = replace(known, labels=labels(source))
        on_scan()
    return [samples[content] for content in sorted(samples)], problems


def choose(samples: Sequence[Sample], settings: CalibrationSettings, slices: int) -> Split:
    """Split by appearance: both parts begin with a typical scan and go on with what looks least like those before.

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
    order = [*judging[1::2], *judging, *ranked[1::2], *ranked]
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
                f"{sample.source.path}: was there when the scans were chosen and can't be used now ({error}); "
                f"calibrate again"
            ) from error
        volume.flags.writeable = False
        return volume


def _read(source: ScanSource, grid: Grid) -> npt.NDArray[np.float16]:
    return to_grid(read_scan(source), grid)
