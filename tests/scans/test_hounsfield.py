"""HU are whole numbers where slope, intercept and range allow it, and the same values as in floats everywhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from molre_edge.scans.hounsfield import to_hounsfield

STORED = {
    "signed": np.array([[-32768, -2000, -1024, -1, 0, 75, 3071, 31743]], np.int16),
    "unsigned": np.array([[0, 1, 24, 1024, 4095, 33000, 33791, 2]], np.uint16),
    "bytes": np.array([[0, 1, 2, 100, 250, 255, 7, 9]], np.uint8),
    "wide": np.array([[-70000, 0, 5, 31000, 1, 2, 3, 4]], np.int32),
}


def in_floats(stored: Any, slope: float, intercept: float) -> np.ndarray:
    return np.maximum(stored.astype(np.float64) * slope + intercept, -1024.0).astype(np.float32)


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (1, 24), (2, -8), (-1, 0), (1, -40000), (0.5, 1)])
def test_values_are_those_of_floats(kind: str, slope: float, intercept: float) -> None:
    frame: Any = SimpleNamespace(slope=float(slope), intercept=float(intercept))
    expected = in_floats(STORED[kind], slope, intercept)
    place = np.full(STORED[kind].shape, 99, np.int16)
    for out in (None, place):
        hu = to_hounsfield(STORED[kind].copy(), frame, None, out)
        np.testing.assert_array_equal(hu, expected)
        assert hu.dtype == (np.int16 if slope != 0.5 and expected.max() <= 32767 else np.float32)


def test_padding_becomes_air_in_whole_numbers_too() -> None:
    frame: Any = SimpleNamespace(slope=1.0, intercept=-1000.0)
    stored = np.array([[63, 63, 63, 63], [63, 1000, 63, 1030], [63, 63, 63, 63]], np.int16)
    hu = to_hounsfield(stored, frame, (63, 63))
    assert hu.dtype == np.int16
    np.testing.assert_array_equal(np.unique(hu), [-1024, 0, 30])
