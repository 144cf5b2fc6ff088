"""A head that is too large, too small or too tall to be one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans.coarse import shrink
from molre_edge.scans.head_size import check_head_size
from molre_edge.scans.scan_records import HeadVolume
from molre_edge.synthetic import make_head


@pytest.fixture(scope="module")
def volume() -> HeadVolume:
    head = make_head(3, shape=(20, 96, 96))
    step, row, col = head.spacing_mm
    positions = np.arange(len(head.hu)) * step
    return HeadVolume(head.hu.astype(np.float32), positions, np.full(len(positions), step), (row, col), (), {})


def scaled(volume: HeadVolume, along: float, plane: float) -> HeadVolume:
    rows, cols = volume.pixel_mm
    return replace(
        volume,
        positions_mm=volume.positions_mm * along,
        thickness_mm=volume.thickness_mm * along,
        pixel_mm=(rows * plane, cols * plane),
    )


@pytest.mark.parametrize(("along", "plane"), [(1.0, 1.0), (0.7, 0.7), (1.15, 1.15)])
def test_heads_of_all_sizes_pass(volume: HeadVolume, along: float, plane: float) -> None:
    assert check_head_size(shrink(scaled(volume, along, plane))) == ()


@pytest.mark.parametrize(("along", "plane"), [(1.0, 2.0), (1.0, 0.25), (2.5, 1.0)])
def test_sizes_that_nobody_has_are_refused_with_what_was_measured(
    volume: HeadVolume, along: float, plane: float
) -> None:
    with pytest.raises(ScanError, match=r"measures \d+ mm by \d+ mm and is \d+ mm high") as caught:
        check_head_size(shrink(scaled(volume, along, plane)))
    assert caught.value.code == "impossible_size"


def test_a_size_that_hardly_anybody_has_is_warned_of(volume: HeadVolume) -> None:
    [warning] = check_head_size(shrink(scaled(volume, 1.0, 0.5)))
    assert warning.code == "unusual_head_size"
