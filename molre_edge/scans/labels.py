"""Finds the connected parts of a mask, over the faces of its voxels.

A mask is taken as runs along its lines, of which there are far fewer than voxels; two runs are connected where they
overlap in neighbouring lines. That is several times as fast as a filter that looks at each voxel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Parts", "find_parts"]

_Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected parts of a mask, numbered from 0 in the order of their first voxels.

    Attributes:
        sizes: intp (parts,): voxels of each.
        first: intp (parts,): where its first voxel lies in the mask, flattened.
        shape: of the mask.
    """

    sizes: _Ints
    first: _Ints
    shape: tuple[int, ...]
    _edges: _Ints
    _numbers: _Ints

    def count(self, mask: npt.NDArray[np.bool_]) -> _Ints:
        """How many voxels of each part are in another mask, of the same shape: intp (parts,)."""
        flat = _padded(mask)
        before = np.zeros(len(flat) + 1, np.int32)
        np.cumsum(flat, dtype=np.int32, out=before[1:])
        inside = before[self._edges[1::2]] - before[self._edges[::2]]
        return np.bincount(self._numbers, weights=inside, minlength=len(self.sizes)).astype(np.intp)

    def sizes_by_slice(self) -> _Ints:
        """Voxels of each part in each slice, the first axis: intp (parts, slices)."""
        starts, ends = self._edges[::2], self._edges[1::2]
        slices = starts // (int(np.prod(self.shape[1:-1])) * (self.shape[-1] + 1))
        keys = self._numbers * self.shape[0] + slices
        counts = np.bincount(keys, weights=ends - starts, minlength=len(self.sizes) * self.shape[0])
        return counts.astype(np.intp).reshape(len(self.sizes), self.shape[0])

    def mask(self, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Where some parts are.

        Args:
            wanted: bool (parts,).

        Returns:
            bool, of the mask's shape.
        """
        return self._fill(wanted[self._numbers])

    def labels(self) -> npt.NDArray[np.uint32]:
        """The number of the part at each voxel, from 1 on, and 0 outside: uint32, of the mask's shape."""
        return self._fill((self._numbers + 1).astype(np.uint32))

    def _fill(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A picture of the runs' values, and nothing elsewhere."""
        between = np.zeros(2 * len(values) + 1, values.dtype)
        between[1::2] = values
        padded = (*self.shape[:-1], self.shape[-1] + 1)
        lengths = np.diff(self._edges, prepend=0, append=int(np.prod(padded)))
        return np.repeat(between, lengths).reshape(padded)[..., :-1]


def find_parts(mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> Parts:
    """Find the connected parts of a mask of two or three axes."""
    edges = _edges(mask)
    starts, ends = edges[::2], edges[1::2]
    parents = np.arange(len(starts))
    first, second = map(np.concatenate, zip(*_touching(starts, ends, mask.shape), strict=True))
    while len(first):
        one, other = parents[first], parents[second]
        apart = one != other
        first, second, one, other = first[apart], second[apart], one[apart], other[apart]
        np.minimum.at(parents, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(above := parents[parents], parents):
            parents = above
    is_first = parents == np.arange(len(parents))
    numbers = (np.cumsum(is_first) - 1)[parents]
    sizes = np.bincount(numbers, weights=ends - starts).astype(np.intp)
    first_run = starts[is_first]
    return Parts(sizes, first_run - first_run // (mask.shape[-1] + 1), mask.shape, edges, numbers)


def _edges(mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> _Ints:
    """Where runs start and end, in turn, in a picture with one empty column more."""
    flat = _padded(mask)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return np.concatenate(([0], changes)) if flat[0] else changes


def _padded(mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    padded = np.zeros((*mask.shape[:-1], mask.shape[-1] + 1), bool)
    padded[..., :-1] = mask
    return padded.ravel()


def _touching(starts: _Ints, ends: _Ints, shape: tuple[int, ...]) -> Iterator[tuple[_Ints, _Ints]]:
    """Pairs of runs that overlap: in lines one below the other, then in slices one above the other."""
    step = shape[-1] + 1
    for axis in range(len(shape) - 2, -1, -1):
        within = np.flatnonzero(starts // step % shape[axis] != shape[axis] - 1)  # no line or slice follows the last
        low = np.searchsorted(ends, starts[within] + step, side="right")
        counts = np.searchsorted(starts, ends[within] + step, side="left") - low
        before = np.cumsum(counts) - counts
        yield np.repeat(within, counts), np.arange(counts.sum()) + np.repeat(low - before, counts)
        step *= shape[axis]
