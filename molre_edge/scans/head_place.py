"""Finds the head in a volume by its skull: the one large space that bone closes on all sides, slice by slice.

The top of the body is the top of the head only where nothing lies above: not with raised arms or hands on the head. So
the skull is looked for, and what is taken for the head lies over it. A rib cage, a pelvis and a spinal canal are not
closed by bone over such an area in axial slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans.coarse import BONE_HU, BRAIN_HU, Coarse, areas
from molre_edge.scans.labels import Parts, find_parts
from molre_edge.scans.scan_records import ScanWarning

__all__ = ["HeadPlace", "find_head"]

_SEARCH_MM = 4.0
"""Grid of the search: bone is the densest value in each field, so that sutures and thin bone are closed."""
_SKULL_CM2 = (25.0, 300.0)
"""Of a slice through the space; a spinal canal has 3 to 6, an adult's rib cage 350 and more, large heads 250."""
_OPEN_CM2 = 15.0
"""Of a slice through it that is not closed, since a part of the skull was removed."""
_MAX_CLOSING = 3
"""In pixels of the search to each side: openings up to 24 mm are closed once a tightly closed slice was found."""
_MIN_BRAIN_PART = 0.5
"""Of such a space: sinuses hold air, marrow and orbits hold fat, a phantom's shell holds neither brain nor fluid."""
_MIN_SKULL_ML = 150.0
"""As for a head at all (anatomy.py)."""
_AROUND_MM = 16.0
"""Skull, scalp and ears around the space."""
_ABOVE_MM = 45.0
"""The most that skull, scalp and hair reach above the highest slice through the space."""
_NECK_MM = 60.0
"""Tissue that goes on so far beyond an end of the space is face and neck, or the body."""
_NECK_MM2 = 6000.0
"""Of a slice of a face or a neck over the skull."""
_VERTEX_MM2 = 3000.0
"""Of a slice near the top of a head; no base of a skull has less."""
_TOP_AREA_MM2 = 500.0
"""The first slice from above with so much tissue holds the top of the head; less is a cable or noise."""
_SAME_TOP_MM = 6.0
_MAX_ELSEWHERE = 0.05
"""Of the tissue in the field's height: more beside the head is arms or shoulders, which would move the field."""


@dataclass(frozen=True, eq=False)
class HeadPlace:
    """Where the head is.

    Attributes:
        top: index of the highest slice of the coarse copy that shows it.
        body: bool, as the coarse copy: the tissue by which the field is centred and the content judged.
        warnings: what its user should know about the place.
    """

    top: int
    body: npt.NDArray[np.bool_]
    warnings: tuple[ScanWarning, ...] = ()


@dataclass(frozen=True, eq=False)
class _Skull:
    """Slices through the skull: their indices in the coarse copy; over which (rows, cols) the space within it lies."""

    slices: npt.NDArray[np.intp]
    footprint: npt.NDArray[np.bool_]
    others: int


def find_head(coarse: Coarse, height_mm: float | None = None) -> HeadPlace:
    """Find the head by its skull.

    Where the head is the top of the body and little lies beside it, the whole body is returned. The place is then
    what it would be without a look at the skull.

    Args:
        coarse: from :func:`molre_edge.scans.coarse.shrink`.
        height_mm: of the field, for what lies beside the head in it; the whole stack by default.

    Raises:
        ScanError: ``no_tissue``; ``upside_down``.
    """
    area = areas(coarse.body) * coarse.pixel_mm[0] * coarse.pixel_mm[1]
    full = np.flatnonzero(area >= _TOP_AREA_MM2)
    if not len(full):
        raise ScanError("no_tissue", "the volume shows nothing denser than air: give a head CT")
    highest = int(full[-1])
    skull = _find_skull(coarse)
    if skull is None:
        return HeadPlace(highest, coarse.body)
    over = coarse.body & _grow(skull.footprint, _pixels(coarse, _AROUND_MM))
    top, reaches_on = _top_of_head(coarse, over, int(skull.slices[-1]))
    _check_upright(coarse, over, skull)
    warnings = []
    if skull.others:
        warnings.append(
            ScanWarning("head_place_uncertain", "two or more heads are in the picture: the field is on the larger one")
        )
    above_mm = float(coarse.positions_mm[highest] - coarse.positions_mm[top])
    if above_mm <= _SAME_TOP_MM:
        top = highest
    elif reaches_on and _touches_edge(over[skull.slices]):  # bone can't close a skull that the picture cuts
        top = highest
        warnings.append(
            ScanWarning(
                "head_place_uncertain",
                "the edge of the picture cuts the skull, so the skull does not show where the head ends: the field "
                "begins at the highest tissue",
            )
        )
    elif reaches_on:
        warnings.append(
            ScanWarning(
                "head_place_uncertain",
                f"tissue reaches {above_mm:.0f} mm beyond where the skull should end, such as hands on the head: where "
                "the head ends was estimated from the skull",
            )
        )
    else:
        warnings.append(
            ScanWarning(
                "head_not_on_top",
                f"other parts of the body, such as raised arms, reach {above_mm:.0f} mm above the head: the field was "
                "placed by the skull",
            )
        )
    body = over if top != highest or _elsewhere(coarse, over, top, height_mm) > _MAX_ELSEWHERE else coarse.body
    return HeadPlace(top, body, tuple(warnings))


def _top_of_head(coarse: Coarse, over: npt.NDArray[np.bool_], start: int) -> tuple[int, bool]:
    """The highest slice of unbroken tissue over the skull, and whether it reaches farther than a skull can."""
    area = areas(over) * coarse.pixel_mm[0] * coarse.pixel_mm[1]
    top = start
    while top + 1 < len(area) and area[top + 1] >= _TOP_AREA_MM2:
        top += 1
    allowed = coarse.positions_mm[start] + _ABOVE_MM
    if coarse.positions_mm[top] <= allowed:
        return top, False
    return int(np.flatnonzero(coarse.positions_mm <= coarse.positions_mm[start] + _ABOVE_MM / 2)[-1]), True


def _touches_edge(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether a mask (slices, rows, cols) reaches an edge of the picture in any slice."""
    return bool(mask[:, [0, -1], :].any() or mask[:, :, [0, -1]].any())


def _check_upright(coarse: Coarse, over: npt.NDArray[np.bool_], skull: _Skull) -> None:
    """Refuse a head whose neck is above it: the header has taken feet for head, and so left for right.

    Below a skull comes a face or a neck, or the end of the scan in the midst of them; above it comes air. Where both
    are the other way round, the head is.
    """
    area = areas(over) * coarse.pixel_mm[0] * coarse.pixel_mm[1]
    low, high = int(skull.slices[0]), int(skull.slices[-1])
    above, below = high, low
    while above + 1 < len(area) and area[above + 1] >= _TOP_AREA_MM2:
        above += 1
    while below > 0 and area[below - 1] >= _TOP_AREA_MM2:
        below -= 1
    beyond_top = float(coarse.positions_mm[above] - coarse.positions_mm[high])
    beyond_base = float(coarse.positions_mm[low] - coarse.positions_mm[below])
    ends_below = beyond_base < _ABOVE_MM and (below > 0 or area[below] < _VERTEX_MM2)
    goes_on_above = beyond_top > _NECK_MM or (above == len(area) - 1 and area[above] > _NECK_MM2)
    if ends_below and goes_on_above:
        raise ScanError(
            "upside_down",
            f"the skull's lower end has air {beyond_base:.0f} mm below it and tissue goes on above its upper end: the "
            "header takes feet for head, and so left for right; export the series again with its true orientation",
        )


def _elsewhere(coarse: Coarse, over: npt.NDArray[np.bool_], top: int, height_mm: float | None) -> float:
    """The part of the tissue in the field's height that does not lie over the skull or within reach of a face."""
    end = coarse.positions_mm[top]
    inside = coarse.positions_mm <= end + coarse.thickness_mm[top] / 2
    if height_mm is not None:
        inside &= coarse.positions_mm >= end - height_mm
    face = _grow(np.asarray(over.any(axis=0)), _pixels(coarse, 2 * _AROUND_MM))
    total, near = (int(areas(body)[inside].sum()) for body in (coarse.body, coarse.body & face))
    return (total - near) / total if total else 0.0


def _pixels(coarse: Coarse, reach_mm: float) -> tuple[int, int]:
    return max(1, round(reach_mm / coarse.pixel_mm[0])), max(1, round(reach_mm / coarse.pixel_mm[1]))


def _grow(mask: npt.NDArray[np.bool_], steps: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """A mask (..., rows, cols) grown by so many pixels to all sides, as a rectangle."""
    result = mask
    for axis, count in zip((-2, -1), steps, strict=True):
        for shift in _shifts(count):
            moved = np.zeros_like(result)
            ahead, behind = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            moved[tuple(ahead)] |= result[tuple(behind)]
            moved[tuple(behind)] |= result[tuple(ahead)]
            result = result | moved
    return result


def _shifts(count: int) -> list[int]:
    """Shifts that together reach `count` pixels, each no farther than what is reached before it."""
    shifts, reached = [], 0
    while reached < count:
        shifts.append(min(reached + 1, count - reached))
        reached += shifts[-1]
    return shifts


def _find_skull(coarse: Coarse) -> _Skull | None:
    """The slices through the skull: one that bone closes tightly, and its neighbours, which may have gaps."""
    keep = [0]
    for index, position in enumerate(coarse.positions_mm):
        if position - coarse.positions_mm[keep[-1]] >= _SEARCH_MM - 0.01:
            keep.append(index)
    block = [max(1, round(_SEARCH_MM / side)) for side in coarse.pixel_mm]
    cm2 = coarse.pixel_mm[0] * coarse.pixel_mm[1] * block[0] * block[1] / 100.0
    around, bone, brain = _blocks(coarse.hu if len(keep) == len(coarse.hu) else coarse.hu[keep], block)
    levels = _Levels(bone, brain, cm2)
    thickness = np.diff(np.append(coarse.positions_mm[keep], coarse.positions_mm[-1] + coarse.thickness_mm[-1] / 2))
    ml = thickness * cm2 / 10.0  # of a pixel in each slice
    for tight in range(_MAX_CLOSING + 1):
        heads = find_parts(levels.whole(tight))
        volumes = _volumes(heads, ml)
        if volumes:
            break
    else:
        return None
    spaces = heads.mask(np.arange(len(volumes)) == np.argmax(volumes))
    _extend(spaces, levels)
    if float((areas(spaces) * ml).sum()) < _MIN_SKULL_ML:
        return None
    others = _other_heads(heads if tight == 0 else find_parts(levels.whole(0)), spaces, ml)
    beside = areas(levels.whole(1) & ~spaces) * ml
    if beside.sum() > 0.99 * _MIN_SKULL_ML:  # else no part of it is large enough
        others += _other_heads(find_parts(levels.whole(1)), spaces, ml)
    _extend_upwards(spaces, bone, brain, cm2)
    through = np.flatnonzero(spaces.any(axis=(1, 2)))
    footprint = np.zeros(coarse.hu.shape[1:], bool)
    grown = spaces.any(axis=0).repeat(block[0], axis=0).repeat(block[1], axis=1)
    top, left = (part.start * side for part, side in zip(around, block, strict=True))
    footprint[top : top + grown.shape[0], left : left + grown.shape[1]] = grown
    return _Skull(np.array(keep)[through], footprint, others)


def _around(bone: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The part of the picture that holds all bone: nothing beyond is closed, so it need not be searched."""
    parts, anywhere, margin = [], bone.any(axis=0), _MAX_CLOSING + 1
    for across in (1, 0):
        found = np.flatnonzero(np.any(anywhere, axis=across))
        parts.append(slice(max(found[0] - margin, 0), found[-1] + 1 + margin) if len(found) else slice(0, 1))
    return parts[0], parts[1]


def _other_heads(heads: Parts, mine: npt.NDArray[np.bool_], ml: npt.NDArray[np.float64]) -> int:
    """How many spaces of a head's volume lie elsewhere; `ml` is the volume of a pixel in each slice."""
    volumes = zip(_volumes(heads, ml), heads.count(mine), strict=True)
    return sum(volume >= _MIN_SKULL_ML and not common for volume, common in volumes)


def _volumes(heads: Parts, ml: npt.NDArray[np.float64]) -> list[float]:
    """The volume of each part, in mL; `ml` is that of a pixel in each slice."""
    return [float((pixels * ml).sum()) for pixels in heads.sizes_by_slice()]


def _blocks(
    hu: npt.NDArray[np.float32], block: list[int]
) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Where the densest value of a block is bone, and where its mean is brain or fluid.

    Returns:
        The part of the picture, in blocks, that holds all bone; and of that part bool (slices, rows, cols), twice.
    """
    rows, cols = hu.shape[1] // block[0], hu.shape[2] // block[1]
    dense, bone = hu > BONE_HU, np.zeros((len(hu), rows, cols), bool)
    places = [(row, col) for row in range(block[0]) for col in range(block[1])]
    for row, col in places:
        bone |= dense[:, row : rows * block[0] : block[0], col : cols * block[1] : block[1]]
    around = _around(bone)
    bone = bone[:, around[0], around[1]]
    mean = np.zeros(bone.shape, np.float32)
    ends = [(part.start + length) * side for part, length, side in zip(around, bone.shape[1:], block, strict=True)]
    starts = [part.start * side for part, side in zip(around, block, strict=True)]
    for row, col in places:
        mean += hu[:, starts[0] + row : ends[0] : block[0], starts[1] + col : ends[1] : block[1]]
    mean /= block[0] * block[1]
    return around, bone, (mean > BRAIN_HU[0]) & (mean < BRAIN_HU[1])


def _closed_spaces(
    bone: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_], cm2: float, closings: Sequence[int]
) -> list[npt.NDArray[np.bool_]]:
    """Spaces of a skull's size, with brain, that bone closes in its slice but for gaps up to 2 `closing` pixels.

    Returns:
        For each closing, bool (slices, rows, cols).
    """
    count, rows, cols = bone.shape
    free = np.ones((len(closings), count, rows + 3, cols + 2), bool)
    free[:, :, -1] = False  # a line between the slices, which lie one below the other in one picture
    filled = np.zeros_like(free)
    filled[:, :, 1:-2, 1:-1] = brain
    for number, closing in enumerate(closings):
        free[number, :, 1:-2, 1:-1] = ~_grow(bone, (closing, closing))
    parts = find_parts(free.reshape(-1, cols + 2))
    # what closing took away all around a disc of the same area is added
    wider = np.asarray(closings)[parts.first // free[0].size]
    radius = np.sqrt(parts.sizes * cm2 / np.pi) + wider * np.sqrt(cm2)
    area = np.pi * radius**2
    good = (area >= _SKULL_CM2[0]) & (area <= _SKULL_CM2[1])
    good &= (parts.count(filled.reshape(-1, cols + 2)) >= _MIN_BRAIN_PART * parts.sizes) & (parts.sizes * cm2 > 10.0)
    good &= parts.first % free[0, 0].size != 0  # the outside of a slice begins with its first pixel
    closed = parts.mask(good).reshape(free.shape)[:, :, 1:-2, 1:-1]
    return [_grow(each, (closing, closing)) & ~bone for each, closing in zip(closed, closings, strict=True)]


class _Levels:
    """The spaces that bone closes but for openings of each size: of all slices, or only of those that are asked for."""

    def __init__(self, bone: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_], cm2: float) -> None:
        self._bone, self._brain, self._cm2 = bone, brain, cm2
        self._wide: dict[int, list[npt.NDArray[np.bool_]]] = {}
        self._whole = dict(enumerate(_closed_spaces(bone, brain, cm2, (0, 1))))

    def whole(self, closing: int) -> npt.NDArray[np.bool_]:
        """Of all slices: bool (slices, rows, cols)."""
        if closing not in self._whole:
            (self._whole[closing],) = _closed_spaces(self._bone, self._brain, self._cm2, (closing,))
        return self._whole[closing]

    def look_at(self, indices: Iterable[int]) -> None:
        """Find the less tightly closed spaces of some slices at once: one call costs hardly more than for one slice."""
        new = sorted({index for index in indices if 0 <= index < len(self._bone)} - self._wide.keys())
        if new:
            wide = _closed_spaces(self._bone[new], self._brain[new], self._cm2, range(2, _MAX_CLOSING + 1))
            for number, each in enumerate(new):
                self._wide[each] = [spaces[number] for spaces in wide]

    def at(self, index: int, way: int) -> Iterator[npt.NDArray[np.bool_]]:
        """Of one slice, from tightly closed to less so: bool (rows, cols). Next comes the one `way` further."""
        for closing in (0, 1):
            yield self._whole[closing][index]
        if index not in self._wide:
            self.look_at((index, index + way))
        yield from self._wide[index]


def _extend(spaces: npt.NDArray[np.bool_], levels: _Levels) -> None:
    """Go on from slice to slice, up and down, over spaces that are closed less tightly but lie over one another."""
    through = np.flatnonzero(spaces.any(axis=(1, 2)))
    ends = (int(through[-1]), 1), (int(through[0]), -1)
    levels.look_at(end + way * step for end, way in ends for step in (1, 2))  # at least two are asked for at each
    for start, way in ends:
        last, at = start, start + way
        while 0 <= at < len(spaces) and abs(at - last) <= 2:  # one slice may fail
            for closed in levels.at(at, way):
                common = int((closed & spaces[last]).sum())
                if common >= 0.5 * min(int(closed.sum()), int(spaces[last].sum())) and common:
                    spaces[at] |= closed
                    last = at
                    break
            at += way


def _extend_upwards(
    spaces: npt.NDArray[np.bool_], bone: npt.NDArray[np.bool_], brain: npt.NDArray[np.bool_], cm2: float
) -> None:
    """Go on upwards over brain with bone on three of four sides: where a part of the skull was removed."""
    footprint = spaces.any(axis=0)
    at = int(np.flatnonzero(spaces.any(axis=(1, 2)))[-1]) + 1
    while at < len(spaces):
        space = (_sides(bone[at]) >= 3) & ~bone[at] & brain[at] & footprint
        if space.sum() * cm2 < _OPEN_CM2:
            return
        spaces[at] |= space
        at += 1


def _sides(bone: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """On how many sides of each pixel of a slice there is bone."""
    seen = np.logical_or.accumulate
    sides: npt.NDArray[np.uint8] = (
        seen(bone, axis=0).astype(np.uint8) + seen(bone[::-1], axis=0)[::-1]
        + seen(bone, axis=1) + seen(bone[:, ::-1], axis=1)[:, ::-1]
    )  # fmt: skip
    return sides
