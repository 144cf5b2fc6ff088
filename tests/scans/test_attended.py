"""From the slice of the grid with the most attention back to the scan: the nearest slice, by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.scans import (
    Attended,
    GridSlice,
    SliceSource,
    attended_image,
    attended_slice,
    find_scans,
    map_slices,
    read_scan,
    resample,
)
from molre_edge.specs import Grid


def mixed(*parts: tuple[int, float, int, float]) -> tuple[GridSlice, ...]:
    """Slices of a grid: number on it, share, number in the scan, position."""
    return tuple(
        GridSlice(at, share, SliceSource(Path(f"{number}.dcm"), f"1.2.{number}", 1), number, height)
        for at, share, number, height in parts
    )


def test_it_is_the_slice_nearest_to_the_middle_of_what_was_mixed() -> None:
    slices = mixed((1, 1.0, 1, 0.0), (2, 0.35, 2, 5.0), (2, 0.33, 3, 10.0), (2, 0.32, 4, 15.0))
    attended = attended_slice(np.array([0.2, 0.8], np.float32), slices)
    assert attended == Attended(2, pytest.approx(0.8), 3, 10.0)  # not the one with the largest share
    image = attended_image(attended, slices)
    assert image is not None and image.sop_uid == "1.2.3"


def test_between_two_it_is_the_one_with_more_share_then_the_lower() -> None:
    for shares, number in (((0.4, 0.6), 2), ((0.6, 0.4), 1), ((0.5, 0.5), 1)):
        slices = mixed((1, shares[0], 1, 0.0), (1, shares[1], 2, 5.0))
        attended = attended_slice(np.ones(1), slices)
        assert attended is not None and attended.source_slice == number


def test_a_slice_outside_the_scan_or_of_unknown_images_has_no_source() -> None:
    attended = attended_slice(np.array([0.1, 0.9]), mixed((1, 1.0, 1, 0.0)))
    assert attended == Attended(2, 0.9) and attended_image(attended, mixed((1, 1.0, 1, 0.0))) is None


@pytest.mark.parametrize("weights", [None, np.array([0.5, np.nan]), np.array([np.inf, 0.0])])
def test_without_weights_that_are_numbers_there_is_none(weights: Any) -> None:
    assert attended_slice(weights, mixed((1, 1.0, 1, 0.0))) is None and attended_image(None, ()) is None


def test_on_a_grid_that_resamples_a_scan_it_lies_within_half_a_bin(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path)
    volume = read_scan(find_scans(tmp_path).scans[0])
    grid = Grid(slices=8, rows=32, cols=32)
    weights = resample(volume, grid)[1]
    slices = map_slices(volume.sources, weights, volume.positions_mm)
    for at in range(8):
        attended = attended_slice(np.eye(8)[at], slices)
        middle = weights[at] @ (volume.positions_mm - volume.positions_mm[0]) / weights[at].sum()
        distances = np.abs(volume.positions_mm - volume.positions_mm[0] - middle)
        assert attended is not None and attended.source_slice is not None and attended.slice == at + 1
        assert distances[attended.source_slice - 1] <= distances.min() + 0.05  # shares are kept to four digits
