"""Thin slices and large matrices are read; what would take more memory than a reader may is refused before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from molre_edge.errors import ScanError
from molre_edge.scans import find_scans, read_scan
from molre_edge.scans.limits import check_memory, check_size
from molre_edge.scans.shelf import Shelf


def refused(check: Any, *args: Any) -> bool:
    try:
        check(*args)
    except ScanError as error:
        assert error.code == "too_large"
        return True
    return False


@pytest.mark.parametrize("size", [(1025, 512, 512), (2048, 512, 512), (300, 1024, 1024), (512, 1024, 1024)])
def test_thin_slices_and_large_matrices_are_read(size: tuple[int, int, int]) -> None:
    assert not refused(check_size, *size)
    assert not refused(check_memory, size[0] * size[1] * size[2], True)


@pytest.mark.parametrize("size", [(2049, 512, 512), (513, 1024, 1024), (4097, 64, 64), (4, 5000, 64)])
def test_more_is_refused(size: tuple[int, int, int]) -> None:
    assert refused(check_size, *size)


def test_floats_take_twice_as_much_so_half_as_many_are_read() -> None:
    assert not refused(check_memory, 2**28, False)
    assert refused(check_memory, 2**28 + 1, False)


@pytest.mark.parametrize("slope", ["0.75", "1"])
def test_a_series_is_refused_while_it_is_read_when_its_floats_take_too_much(
    slope: str, tmp_path: Path, write_series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "series", RescaleSlope=slope)
    (source,) = find_scans(tmp_path / "series").scans
    monkeypatch.setattr("molre_edge.scans.limits.MAX_VOLUME_BYTES", 35 * 128 * 128 * 2)
    if slope == "1":
        assert read_scan(source).hu.shape == (35, 128, 128)
    else:
        assert refused(read_scan, source)


def test_places_for_slices_do_not_overlap() -> None:
    shelf = Shelf()
    places = [shelf.place((1024, 1024), "i2") for _ in range(40)]
    for number, place in enumerate(places):
        place.fill(number)
    assert [int(place.min()) for place in places] == [int(place.max()) for place in places] == list(range(40))
    assert len({id(place.base) for place in places}) == 3
