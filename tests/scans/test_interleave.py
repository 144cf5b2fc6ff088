"""Two scans in one stack are noticed by their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans.interleave import check_interleaved


def stack(seed: int, slices: int = 24) -> np.ndarray:
    """Smooth along the slices, as a head is."""
    noise = np.random.default_rng(seed).normal(0, 100, (slices + 6, 32, 32))
    return np.stack([noise[at : at + 6].mean(axis=0) for at in range(slices)]).astype(np.float32)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_scans_that_take_turns_are_refused(count: int) -> None:
    with pytest.raises(ScanError, match=f"{count} scans lie within each other") as caught:
        check_interleaved(np.stack([stack(seed) for seed in range(count)], axis=1).reshape(-1, 32, 32))
    assert caught.value.code == "mixed_volumes"


def test_one_scan_is_none_and_neither_is_noise() -> None:
    check_interleaved(stack(1))
    check_interleaved(np.random.default_rng(1).normal(0, 100, (40, 32, 32)).astype(np.float32))
