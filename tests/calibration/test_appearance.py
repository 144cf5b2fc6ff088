from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.calibration.appearance import describe, farthest_first


def test_a_head_with_metal_looks_unlike_one_without_and_a_shift_of_a_voxel_hardly_matters() -> None:
    rng = np.random.default_rng(0)
    plain = (rng.normal(35, 5, size=(9, 32, 32))).astype(np.float16)
    metal = plain.copy()
    metal[6:, 8:16, 8:16] = 3000
    shifted = np.roll(plain, 1, axis=-1)
    assert np.linalg.norm(describe(plain) - describe(metal)) > 20 * np.linalg.norm(describe(plain) - describe(shifted))


def test_a_volume_of_one_slice_has_as_many_numbers_as_any() -> None:
    assert describe(np.zeros((1, 16, 16), np.float16)).shape == describe(np.zeros((40, 16, 16), np.float16)).shape


def test_the_first_is_typical_and_the_next_is_the_odd_one() -> None:
    points = [np.array([x, 0.0]) for x in (0.0, 0.1, 0.2, 9.0)]
    order = farthest_first(points)
    assert (order[0], order[1]) == (2, 3)


@given(st.lists(st.integers(0, 5), max_size=12))
def test_every_point_comes_once_equal_ones_too(numbers: list[int]) -> None:
    assert sorted(farthest_first([np.array([float(n)]) for n in numbers])) == list(range(len(numbers)))
