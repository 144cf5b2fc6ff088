"""Resampling keeps values, places and sizes, on any grid."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molre_edge.errors import ScanError
from molre_edge.scans import HeadVolume, to_grid
from molre_edge.scans.grid import to_half
from molre_edge.scans.weights import bin_weights, pixel_weights
from molre_edge.specs import HU_MAX, HU_MIN, Grid


def volume(hu: Any, positions: Any, thickness: Any, pixel: tuple[float, float]) -> HeadVolume:
    positions = np.asarray(positions, float)
    return HeadVolume(
        hu=np.asarray(hu, np.float32),
        positions_mm=positions,
        thickness_mm=np.broadcast_to(np.asarray(thickness, float), positions.shape).copy(),
        pixel_mm=pixel,
        warnings=(),
        facts={},
    )


def ball(centre: tuple[float, float, float], radius: float, positions: Any, pixel: float, side: int) -> HeadVolume:
    """A ball of 100 HU in air; its centre is (z, y, x) in mm from the first pixel."""
    at = np.arange(side) * pixel
    z, y, x = np.asarray(positions, float)[:, None, None], at[:, None], at
    distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    soft = np.clip((radius - distance) / pixel + 0.5, 0, 1)  # an edge of one pixel, as a scanner makes
    return volume(-1000 + 1100 * soft, positions, np.diff(positions).mean(), (pixel, pixel))


@settings(max_examples=15, deadline=None)
@given(
    value=st.integers(-900, 2000).filter(lambda value: value > -250),
    pixel=st.floats(0.6, 2.5),
    step=st.floats(1.5, 10.0),
    slices=st.integers(1, 24),
    side=st.integers(16, 160),
)
def test_a_constant_volume_stays_constant_inside(value: int, pixel: float, step: float, slices: int, side: int) -> None:
    count = max(4, int(60 / step))
    size = int(120 / pixel)
    grid = Grid(slices=slices, rows=side, cols=side, field_mm=80.0)
    hu = np.full((count, size, size), value, np.float32)
    result = to_grid(volume(hu, np.arange(count) * step, step, (pixel, pixel)), grid)
    assert result.dtype == np.float16
    assert result.shape == grid.shape
    margin = int(np.ceil((2 * pixel + grid.pixel_mm) / grid.pixel_mm))
    inner = result[:, margin : side - margin, margin : side - margin]
    np.testing.assert_array_equal(inner, np.float16(value))


@settings(max_examples=20, deadline=None)
@given(
    pixel=st.sampled_from([0.4, 0.5, 0.75, 1.0]),
    step=st.sampled_from([0.8, 1.5, 3.0, 5.0]),
    shift=st.tuples(*[st.floats(-8.0, 8.0)] * 3),
    side=st.sampled_from([64, 96, 160]),
)
def test_a_ball_keeps_its_centre_and_its_size(
    pixel: float, step: float, shift: tuple[float, float, float], side: int
) -> None:
    radius, field = 40.0, 128.0
    positions = np.arange(-70.0, 70.0, step)
    middle = (int(130 / pixel) - 1) * pixel / 2
    source = ball((shift[0], middle + shift[1], middle + shift[2]), radius, positions, pixel, int(130 / pixel))
    grid = Grid(slices=20, rows=side, cols=side, field_mm=field, height_mm=100.0)
    result = (to_grid(source, grid).astype(float) + 1024) / 1124
    inside = np.clip(result - 0.02, 0, None)
    for axis in (1, 2):  # the field is centred on the ball
        profile = inside.sum(axis=tuple(other for other in range(3) if other != axis))
        centre = (profile * (np.arange(side) - (side - 1) / 2)).sum() / profile.sum() * grid.pixel_mm
        assert abs(centre) < 0.75
    area = (result.max(axis=0) > 0.5).sum() * grid.pixel_mm**2
    assert np.sqrt(area / np.pi) == pytest.approx(radius, abs=max(1.0, grid.pixel_mm))


def test_slices_run_from_the_bottom_up_and_end_at_the_top_of_the_head() -> None:
    positions = np.arange(0.0, 200.0, 2.0)
    hu = np.full((100, 64, 64), -1000.0)
    hu[:90, 16:48, 16:48] = positions[:90, None, None]  # each slice shows its height; the top is at 179
    grid = Grid(slices=10, rows=32, cols=32, field_mm=64.0, height_mm=100.0)
    result = to_grid(volume(hu, positions, 2.0, (2.0, 2.0)), grid)
    middle = result[:, 16, 16].astype(float)
    np.testing.assert_allclose(middle[:-1], 79.0 + 10.0 * np.arange(9) + 5.0, atol=0.1)
    assert middle[-1] < middle[-2]  # the last millimetre leads over into air


def test_a_short_scan_is_spread_over_all_slices() -> None:
    hu = np.broadcast_to(np.arange(8.0)[:, None, None] * 10, (8, 32, 32))
    result = to_grid(volume(hu, np.arange(8) * 8.0, 8.0, (4.0, 4.0)), Grid(slices=4, rows=32, cols=32))
    np.testing.assert_allclose(result[:, 16, 16].astype(float), [5.625, 25.0, 45.0, 64.375], atol=0.1)


def test_metal_is_clipped_before_it_spreads() -> None:
    hu = np.zeros((8, 64, 64))
    hu[:, 30:34, 30:34] = 30000
    result = to_grid(volume(hu, np.arange(8) * 5.0, 5.0, (2.0, 2.0)), Grid(slices=4, rows=64, cols=64, field_mm=128.0))
    assert float(result.max()) <= np.float16(HU_MAX)
    assert (result > 10).sum() < 4 * 8 * 8


def test_outside_the_data_is_air() -> None:
    hu = np.full((8, 40, 40), 30.0)
    result = to_grid(volume(hu, np.arange(8) * 5.0, 5.0, (2.0, 2.0)), Grid(slices=4, rows=64, cols=64))
    assert (result[:, :2] == -1024).all() and (result[:, :, -2:] == -1024).all()
    assert float(result[2, 32, 32]) == 30.0


def test_a_head_rest_does_not_move_the_head() -> None:
    positions = np.arange(0.0, 100.0, 5.0)
    plain = ball((50.0, 110.0, 110.0), 70.0, positions, 1.0, 256)
    with_rest = volume(plain.hu.copy(), positions, 5.0, (1.0, 1.0))
    with_rest.hu[:, 190:193, 20:220] = 200.0
    with_rest.hu[:, 170:193, 218:222] = 200.0
    grid = Grid(slices=8, rows=64, cols=64)
    difference = to_grid(plain, grid).astype(float) - to_grid(with_rest, grid).astype(float)
    assert np.abs(difference[:, :44]).max() == 0  # everything in front of the rest


def test_detail_finer_than_the_grid_is_averaged() -> None:
    hu = np.zeros((8, 200, 200))
    hu[:, :, ::2] = 100.0  # stripes of half a millimetre
    result = to_grid(volume(hu, np.arange(8) * 5.0, 5.0, (0.5, 0.5)), Grid(slices=4, rows=32, cols=32, field_mm=80.0))
    np.testing.assert_allclose(result[:, 4:-4, 4:-4].astype(float), 50.0, atol=3.0)


def test_nothing_but_air_is_refused() -> None:
    air = volume(np.full((8, 32, 32), -1000.0), np.arange(8) * 5.0, 5.0, (2.0, 2.0))
    with pytest.raises(ScanError, match="nothing denser than air"):
        to_grid(air, Grid(slices=4, rows=32, cols=32))


def test_the_same_volume_gives_the_same_grid_and_is_not_changed() -> None:
    source = ball((0.0, 60.0, 60.0), 40.0, np.arange(-50.0, 50.0, 2.5), 0.5, 240)
    before = source.hu.copy()
    first, second = (to_grid(source, Grid(slices=16, rows=224, cols=224)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(source.hu, before)


def test_it_takes_less_than_a_second() -> None:
    source = volume(np.full((28, 512, 512), 30.0), np.arange(28) * 5.0, 5.0, (0.49, 0.49))
    to_grid(source, Grid(slices=4, rows=32, cols=32))  # loads the libraries
    start = time.process_time()
    to_grid(source, Grid(slices=16, rows=224, cols=224))
    assert time.process_time() - start < 3.0  # of the processor: a generous bound, 0.1 s is usual


def test_bins_average_the_line_through_the_slices_exactly() -> None:
    positions = np.array([0.0, 1.0, 3.0, 10.0])
    values = np.array([5.0, -2.0, 8.0, 1.0])
    edges = np.array([-0.5, 0.7, 2.2, 6.0, 11.0])
    weights = bin_weights(positions, np.array([1.0, 1.0, 2.0, 2.0]), edges)
    fine = np.linspace(-0.5, 11.0, 2_300_001)
    profile = np.interp(fine, positions, values)
    expected = [profile[(fine >= low) & (fine <= high)].mean() for low, high in pairwise(edges)]
    np.testing.assert_allclose(weights @ values, expected, atol=1e-4)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)


@given(
    count=st.integers(8, 300),
    pixel=st.floats(0.2, 3.0),
    out=st.integers(16, 300),
    out_pixel=st.floats(0.2, 3.0),
)
@settings(max_examples=50, deadline=None)
def test_a_slope_in_the_plane_stays_a_slope(count: int, pixel: float, out: int, out_pixel: float) -> None:
    centre = (count - 1) / 2 * pixel
    weights = pixel_weights(count, pixel, centre, out, out_pixel).astype(float)
    assert (weights >= 0).all() and (weights.sum(axis=1) < 1.00001).all()
    full = weights.sum(axis=1) > 0.99999
    wanted = centre + (np.arange(out) - (out - 1) / 2) * out_pixel
    found = weights @ (np.arange(count) * pixel)
    # exact where linear interpolation is all there is; within a part of a pixel where it averages
    np.testing.assert_allclose(found[full], wanted[full], atol=0.26 * pixel if out_pixel > pixel else 1e-3)


def test_half_floats_hold_whole_hu_up_to_2048_and_brain_to_0_032() -> None:
    whole = np.arange(-1024, 2049).astype(float)
    np.testing.assert_array_equal(to_half(whole), whole)
    for most, error in ((64, 0.016), (128, 0.032)):
        values = np.linspace(-most, most, 100_001)
        assert np.abs(to_half(values).astype(float) - values).max() <= error
    np.testing.assert_array_equal(to_half(np.array([-3000.0, 5000.0])), [HU_MIN, 3072.0])  # 3071 is no half float
