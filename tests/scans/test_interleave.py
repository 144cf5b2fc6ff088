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
    assert "look at that slice, and copy the series again if it is damaged" in str(caught.value)


@pytest.mark.parametrize(("moved", "refused"), [(6, False), (30, True)])
def test_a_patient_who_moved_for_one_slice_is_warned_of_and_one_who_left_is_refused(moved: int, refused: bool) -> None:
    down, across = np.mgrid[-1:1:64j, -1:1:64j]
    head = np.where(down**2 / 0.5 + across**2 / 0.3 < 1, 40.0, -1000.0)
    whole = head + np.random.default_rng(3).normal(0, 5, (24, 64, 64))
    assert check_neighbours(whole.astype(np.float32)) == ()
    whole[10] = np.roll(whole[10], moved, axis=1)
    if refused:
        with pytest.raises(ScanError, match="slice 11 of 24 differs by"):
            check_neighbours(whole.astype(np.float32))
        return
    [warning] = check_neighbours(whole.astype(np.float32))
    assert warning.code == "slice_moved" and warning.text.endswith("the patient moved, look at slice 11")
