"""Reads the files of one scan: each is opened once, and its header is checked before its pixels count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_frames import Frame
from molre_edge.scans.dicom_header import DicomHeader, read_image_header, read_plain_image_header
from molre_edge.scans.dicom_kind import check_kind, check_storage
from molre_edge.scans.dicom_open import open_dicom, open_pixels
from molre_edge.scans.dicom_pixels import MAX_NEAR_HU, decode_frames
from molre_edge.scans.dicom_raw import RawSlice, RawSlices
from molre_edge.scans.hounsfield import Hounsfield, to_hounsfield
from molre_edge.scans.limits import MAX_VOXELS, check_memory
from molre_edge.scans.scan_records import FoundFile, ScanSource
from molre_edge.scans.shelf import Shelf
from molre_edge.scans.unchanged import changed

__all__ = ["Slices", "read_slices"]

_Key = tuple[Path, int]


@dataclass
class Slices:
    """The slices of a scan, as stored.

    Attributes:
        headers: of its files, each with the frames that belong to the scan.
        slab: int16 (files, rows, cols), HU, in the order of `headers`, when every file is an ordinary slice; else None.
    """

    headers: list[DicomHeader] = field(default_factory=list)
    slab: npt.NDArray[np.int16] | None = None
    _planes: dict[_Key, Hounsfield] = field(default_factory=dict)
    _worst: float = 0.0
    _shelf: Shelf = field(default_factory=Shelf)
    _voxels: int = 0
    _floats: int = 0
    _problem: ScanError | None = None

    def check(self) -> float:
        """The largest error in HU that compression made.

        Raises:
            ScanError: why a slice can't be decoded; ``lossy``.
        """
        if self._problem is not None:
            raise self._problem
        if self._worst > MAX_NEAR_HU:
            raise ScanError(
                "lossy",
                f"compression changed values by up to {self._worst:g} HU; at most {MAX_NEAR_HU:g} are accepted: give "
                "originals",
            )
        return self._worst

    def get(self, frame: Frame) -> Hounsfield:
        """A slice, HU (rows, cols)."""
        return self._planes[frame.path, frame.index]

    def pop(self, frame: Frame) -> Hounsfield:
        """A slice that is not needed again."""
        return self._planes.pop((frame.path, frame.index))

    @property
    def whole(self) -> bool:
        """Whether all values are int16."""
        return all(plane.dtype == np.int16 for plane in self._planes.values())

    def _add_raw(self, read: RawSlice) -> None:
        self.headers.append(read.header)
        self._voxels += read.header.rows * read.header.cols
        if read.plane is None:
            self._problem = read.problem
            return
        self._worst = max(self._worst, read.error * abs(read.header.frames[0].slope))
        self._keep(read.header.path, 0, read.plane)

    def _keep(self, path: Path, index: int, plane: Hounsfield) -> None:
        if plane.dtype != np.int16:
            kept = self._shelf.place((plane.shape[0], plane.shape[1]), np.float32)
            kept[...] = plane
            plane = kept
        self._planes[path, index] = plane
        self._floats += plane.size if plane.dtype != np.int16 else 0
        try:
            check_memory(self._floats, False)
        except ScanError as too_large:
            self._problem = self._problem or too_large

    def _add(self, path: Path, found: FoundFile | None) -> None:
        """Read a file with pydicom. What is wrong with its pixels is told later, after all headers."""
        problem, dataset, header = None, None, None
        try:
            dataset, plain = open_pixels(path)
            if plain is not None and (header := read_plain_image_header(path, plain)) is None:
                dataset = open_dicom(path, pixels=True)  # the other holds only what decoding needs
        except ScanError as unread:
            problem, dataset = unread, None
        if header is None:
            header = read_image_header(path, dataset)
        check_kind(header)
        check_storage(header)
        if found is not None and found.digest and found.digest != header.digest():
            raise changed()
        if found is not None and found.frames:
            chosen = set(found.frames)
            header = replace(header, frames=tuple(frame for frame in header.frames if frame.index in chosen))
        self.headers.append(header)
        self._problem = self._problem or problem
        self._voxels += len(header.frames) * header.rows * header.cols
        if self._problem is not None or dataset is None or self._voxels > MAX_VOXELS:  # refused for its size later
            return
        wanted = {frame.index: frame for frame in header.frames}
        try:
            for index, (stored, error) in enumerate(decode_frames(dataset, header)):
                if (frame := wanted.get(index)) is not None:
                    place = self._shelf.place((header.rows, header.cols), np.int16)
                    self._keep(path, index, to_hounsfield(stored, frame, header.padding, place))
                    self._worst = max(self._worst, error * abs(frame.slope))
                if self._problem is not None:
                    return
        except ScanError as undecoded:
            self._problem = undecoded


def read_slices(source: ScanSource) -> Slices:
    """Read the files of a scan.

    Args:
        source: files of one series, with what was found in them where that was noted.

    Raises:
        ScanError: the first reason against a header; ``changed`` when one is not the one that was found. Reasons
            against pixels come with :meth:`Slices.check`, since what headers tell comes first.
    """
    slices = Slices()
    raw = RawSlices(len(source.files), slices._shelf)
    notes: Sequence[FoundFile | None] = source.found or (None,) * len(source.files)
    for path, found in zip(source.files, notes, strict=True):
        if slices._problem is None and slices._voxels <= MAX_VOXELS and (read := raw.read(path, found)) is not None:
            slices._add_raw(read)
        else:
            slices._add(path, found)
    slices.slab = raw.slab
    slices._shelf = Shelf()
    return slices
