"""Memory for slices that are put in order later: it goes back to the system while they are taken off."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Shelf"]

_BLOCK_BYTES = (1 << 25) + 1
"""The C library gives memory of more than 32 MiB back at once, and of less only when nothing behind it is in use."""


class Shelf:
    """Places for slices, many in a block. A block is freed when none of its slices is in use any more."""

    def __init__(self) -> None:
        """Start without memory."""
        self._blocks: dict[tuple[tuple[int, int], np.dtype[Any]], npt.NDArray[Any]] = {}

    def place(self, shape: tuple[int, int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A place for a slice, with whatever values."""
        key = shape, np.dtype(dtype)
        block = self._blocks.get(key)
        if block is None or not len(block):
            count = 1 + _BLOCK_BYTES // max(shape[0] * shape[1] * key[1].itemsize, 1)
            block = np.empty((count, *shape), dtype)
        self._blocks[key] = block[1:]
        place: npt.NDArray[Any] = block[0]
        return place
