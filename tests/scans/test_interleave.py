"""Two scans in one stack are noticed by their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans.interleave import check_neighbours


def stack(seed: int, slices: int = 24) -> np.ndarray:
    """Smooth along the slices, as a head is."""
    noise = np.random.default_rng(seed).normal(0, 100, (slices + 6, 32, 32))
    return np.stack([noise[at : at + 6].mean(axis=0) for at in range(slices)]).astype(np.float32)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_scans_that_take_turns_are_refused(count: int) -> None:
    with pytest.raises(ScanError, match=f"{count} scans lie within each other") as caught:
        check_neighbours(np.stack([stack(seed) for seed in range(count)], axis=1).reshape(-1, 32, 32))
    assert caught.value.code == "mixed_volumes"


def test_one_scan_is_none_and_neither_is_noise() -> None:
    check_neighbours(stack(1))
    check_neighbours(np.random.default_rng(1).normal(0, 100, (40, 32, 32)).astype(np.float32))


@pytest.mark.parametrize("noise", [0.0, 100.0])
def test_a_slice_unlike_both_neighbours_is_refused_with_its_number(noise: float) -> None:
    whole = stack(1) * 3 + np.random.default_rng(2).normal(0, noise, (24, 32, 32)).astype(np.float32)
    check_neighbours(whole)
    whole[10] = stack(5)[0] * 8 + 400
    with pytest.raises(ScanError, match="slice 11 of 24 differs by") as caught:
        check_neighbours(whole)
    assert caught.value.code == "slices_damaged"
