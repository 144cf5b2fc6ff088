"""The parts of a mask are those that SimpleITK finds, numbered alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from molre_edge.scans.labels import find_parts

Mask = npt.NDArray[np.bool_]


def random(*shape: int, share: float) -> Mask:
    return np.random.default_rng(sum(shape)).random(shape) < share


def comb() -> Mask:
    """Many parts that the last line makes one."""
    mask = np.zeros((40, 41), bool)
    mask[:, ::2] = mask[-1] = True
    return mask


def snake() -> Mask:
    """One part, from end to end along every second line."""
    mask = np.zeros((41, 40), bool)
    mask[::2] = mask[1::4, 0] = mask[3::4, -1] = True
    return mask


MASKS = {
    "nothing": np.zeros((3, 4, 5), bool),
    "everything": np.ones((3, 4, 5), bool),
    "one voxel": np.ones((1, 1), bool),
    "sparse": random(7, 20, 30, share=0.2),
    "dense": random(7, 20, 30, share=0.6),
    "flat": random(50, 60, share=0.5),
    "comb": comb(),
    "comb upside down": comb()[::-1],
    "snake": snake(),
    "snake on its side": snake().T,
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_parts_are_those_of_simpleitk(mask: Mask) -> None:
    connect: Any = sitk.ConnectedComponent
    expected = sitk.GetArrayFromImage(connect(sitk.GetImageFromArray(mask.astype(np.uint8))))
    parts = find_parts(mask)
    assert np.array_equal(find_parts(mask).labels(), expected)
    assert np.array_equal(parts.sizes, np.bincount(expected.ravel())[1:])
    assert np.array_equal(parts.first, [np.flatnonzero(expected == each + 1)[0] for each in range(len(parts.sizes))])


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_what_is_counted_and_filled_is_what_the_labels_say(mask: Mask) -> None:
    parts, labels = find_parts(mask), find_parts(mask).labels()
    numbers = range(1, len(parts.sizes) + 1)
    other = random(*mask.shape, share=0.4)
    assert np.array_equal(parts.count(other), [np.count_nonzero(other & (labels == each)) for each in numbers])
    by_slice = [[np.count_nonzero(plane == each) for plane in labels] for each in numbers]
    assert np.array_equal(parts.sizes_by_slice(), np.reshape(by_slice, (len(numbers), len(mask))))
    wanted = np.arange(len(parts.sizes)) % 2 == 0
    assert np.array_equal(parts.mask(wanted), (labels > 0) & (labels % 2 == 1))
