"""A small copy of a volume, about 2 mm in every direction: enough to find the head and to judge what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.scans.hounsfield import Hounsfield
from molre_edge.scans.labels import find_parts
from molre_edge.scans.scan_records import HeadVolume
from molre_edge.specs import HU_MAX, HU_MIN

__all__ = ["BONE_HU", "BRAIN_HU", "TISSUE_HU", "Coarse", "areas", "enclosed", "find_body", "shrink"]

TISSUE_HU = -300.0
"""Above this is tissue or something as dense; below are air, foam and cloth."""
BONE_HU = 200.0
BRAIN_HU = (-15.0, 90.0)
"""Means over 2 mm: cerebrospinal fluid to fresh blood."""
_TARGET_MM = 2.0
_PAIRWISE = 8
"""From so many values on NumPy sums in pairs."""
_NO_OVERFLOW = 10
"""So many CT numbers can be summed as int16."""


@dataclass(frozen=True, eq=False)
class Coarse:
    """A reduced volume.

    Attributes:
        hu: float32 (slices, rows, cols), HU: means over blocks of pixels.
        body: bool, same shape: the largest connected piece of tissue, without table and head rest.
        positions_mm: float64 (slices,), as in the volume; some slices of thin stacks are left out.
        thickness_mm: float64 (slices,): the height that each slice stands for.
        pixel_mm: (row, col).
        first_mm: where the first (row, col) lies, measured from the centre of the volume's first pixel.
    """

    hu: npt.NDArray[np.float32]
    body: npt.NDArray[np.bool_]
    positions_mm: npt.NDArray[np.float64]
    thickness_mm: npt.NDArray[np.float64]
    pixel_mm: tuple[float, float]
    first_mm: tuple[float, float]

    @cached_property
    def bone(self) -> npt.NDArray[np.bool_]:
        """Where there is bone of the body: bool, same shape."""
        return (self.hu > BONE_HU) & self.body

    @cached_property
    def in_bone(self) -> npt.NDArray[np.bool_]:
        """What has bone on all four sides in its slice, and is none: bool, same shape."""
        return enclosed(self.bone) & ~self.bone

    @cached_property
    def brain(self) -> npt.NDArray[np.bool_]:
        """What of that is the body's and has the values of brain or fluid: bool, same shape."""
        return self.in_bone & self.body & (self.hu > BRAIN_HU[0]) & (self.hu < BRAIN_HU[1])

    @cached_property
    def pixels(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """How many pixels of each slice are the body's, bone, and within bone: int64 (slices,) each."""
        return areas(self.body), areas(self.bone), areas(self.in_bone)


def shrink(volume: HeadVolume) -> Coarse:
    """Reduce a volume and find the body in it. Takes some 0.1 s for 28 slices of 512 x 512."""
    keep = [0]
    for index, position in enumerate(volume.positions_mm):
        if position - volume.positions_mm[keep[-1]] >= _TARGET_MM - 0.01:
            keep.append(index)
    if keep[-1] != len(volume.positions_mm) - 1:
        keep.append(len(volume.positions_mm) - 1)
    block = [max(1, round(_TARGET_MM / side)) for side in volume.pixel_mm]
    rows, cols = (max(1, side // size) for side, size in zip(volume.hu.shape[1:], block, strict=True))
    hu = np.empty((len(keep), rows, cols), np.float32)
    memory = np.empty(volume.hu.shape[1:], np.int16)
    for at, index in enumerate(keep):
        hu[at] = _block_means(volume.hu[index, : rows * block[0], : cols * block[1]], block, memory)
    positions = volume.positions_mm[keep]
    edges = np.concatenate(
        [
            [positions[0] - volume.thickness_mm[0] / 2],
            (positions[:-1] + positions[1:]) / 2,
            [positions[-1] + volume.thickness_mm[-1] / 2],
        ]
    )
    return Coarse(
        hu=hu,
        body=find_body(hu),
        positions_mm=positions,
        thickness_mm=np.diff(edges),
        pixel_mm=(volume.pixel_mm[0] * block[0], volume.pixel_mm[1] * block[1]),
        first_mm=((block[0] - 1) / 2 * volume.pixel_mm[0], (block[1] - 1) / 2 * volume.pixel_mm[1]),
    )


def _block_means(plane: Hounsfield, block: Sequence[int], memory: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """The mean of each block of pixels, clipped to the range of CT numbers first.

    Of int16 the sums are exact. Of floats they are made in the order in which NumPy makes them.

    Args:
        plane: HU (rows, cols), at least -1024, whole blocks.
        block: (rows, cols) of a block.
        memory: int16, as large as the plane: scratch.
    """
    down, across = block
    total: npt.NDArray[Any]
    if plane.dtype != np.int16:
        bounded = np.clip(plane, HU_MIN, HU_MAX)
        if across >= _PAIRWISE:
            rows, cols = plane.shape[0] // down, plane.shape[1] // across
            means: npt.NDArray[np.float32] = bounded.reshape(rows, down, cols, across).mean(axis=(1, 3))
            return means
        total = _sum_of([_sum_of([bounded[row::down, col::across] for col in range(across)]) for row in range(down)])
    else:
        if plane.max() > HU_MAX:
            plane = np.clip(plane, None, np.int16(HU_MAX), out=memory[: plane.shape[0], : plane.shape[1]])
        wide: npt.NDArray[Any] = plane if down <= _NO_OVERFLOW else plane.astype(np.int32)
        total = _sum_across(_sum_of([wide[row::down] for row in range(down)]), across).astype(np.float32)
    result: npt.NDArray[np.float32] = total / np.float32(down * across)
    return result


def _sum_across(lines: npt.NDArray[Any], count: int) -> npt.NDArray[np.int32]:
    """The sums of every `count` integers that follow each other in a line, int32."""
    if lines.dtype == np.int16 and count % 2 == 0:
        both = lines.view(np.int32)  # two that lie side by side, added without picking every second one
        lines, count = ((both << 16) >> 16) + (both >> 16), count // 2
    lines = lines.astype(np.int32, copy=False)
    total: npt.NDArray[np.int32] = _sum_of([lines[:, at::count] for at in range(count)])
    return total


def _sum_of(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    total: npt.NDArray[Any] = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def find_body(hu: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """The largest connected piece of tissue.

    In each slice the tissue is first eroded by one pixel, so that a head rest which touches the skin comes off.

    Args:
        hu: float32 (slices, rows, cols).

    Returns:
        bool, same shape; all False where there is no tissue.
    """
    tissue = hu > TISSUE_HU
    eroded = _neighbours(tissue, all_of_them=True)
    if not eroded.any():
        return np.zeros_like(tissue)
    rows, cols = (np.flatnonzero(np.any(np.any(eroded, axis=0), axis=across)) for across in (1, 0))
    box = slice(None), slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    parts = find_parts(eroded[box])
    largest = np.zeros_like(tissue)
    largest[box] = parts.mask(np.arange(len(parts.sizes)) == np.argmax(parts.sizes))
    return _neighbours(largest, all_of_them=False) & tissue


def areas(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many pixels of each slice are in a mask, int64 (slices,)."""
    return np.array([np.count_nonzero(plane) for plane in mask], np.int64)


def enclosed(bone: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels with bone on all four sides in their slice, or bone themselves.

    Args:
        bone: bool (slices, rows, cols).
    """
    rows, cols = bone.shape[1:]
    top, bottom = _ends(np.ascontiguousarray(bone.transpose(0, 2, 1)))
    left, right = _ends(bone)
    down, across = np.arange(rows, dtype=np.int16)[:, None], np.arange(cols, dtype=np.int16)
    inside: npt.NDArray[np.bool_] = down >= top[:, None, :]
    inside &= down <= bottom[:, None, :]
    inside &= across >= left[:, :, None]
    inside &= across <= right[:, :, None]
    return inside


def _ends(bone: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Where the first and the last bone of each line lies; first behind last where there is none."""
    length = bone.shape[2]
    first = bone.argmax(axis=2)
    last = length - 1 - np.ascontiguousarray(bone[:, :, ::-1]).argmax(axis=2)
    none = ~np.take_along_axis(bone, first[:, :, None], axis=2)[:, :, 0]
    first[none] = length
    return first.astype(np.int16), last.astype(np.int16)


def _neighbours(mask: npt.NDArray[np.bool_], *, all_of_them: bool) -> npt.NDArray[np.bool_]:
    """Erode (all) or dilate (any) by one pixel to four sides of each slice, within the picture."""
    result: npt.NDArray[np.bool_] = mask.copy()
    meet = np.logical_and if all_of_them else np.logical_or
    for here, there in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[:, :, 1:], np.s_[:, :, :-1])):
        meet(result[here], mask[there], out=result[here])
        meet(result[there], mask[here], out=result[there])
    return result
