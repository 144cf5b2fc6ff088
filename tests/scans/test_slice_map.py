"""From each slice of the grid back to the images that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from molre_edge.scans import SliceSource, find_scans, map_slices, read_scan, resample, to_grid
from molre_edge.specs import Grid

GRID = Grid(slices=8, rows=32, cols=32)


def test_the_images_of_each_slice_are_named_the_largest_share_first(tmp_path: Path, write_series: Any) -> None:
    paths = write_series(tmp_path, names=lambda index: f"{(index * 17) % 35:02}")
    [source] = find_scans(tmp_path).scans
    volume = read_scan(source)
    uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]
    assert volume.sources == tuple(SliceSource(path, uid, 1) for path, uid in zip(paths, uids, strict=True))
    values, weights = resample(volume, GRID)
    np.testing.assert_array_equal(values, to_grid(volume, GRID))
    mapped = map_slices(volume.sources, weights, volume.positions_mm)
    for number in range(1, 9):
        mine = [each for each in mapped if each.slice == number]
        assert sum(each.share for each in mine) == pytest.approx(1.0, abs=0.03)
        assert mine[0].share == max(each.share for each in mine)
        assert mine[0].source == volume.sources[int(weights[number - 1].argmax())]
        for each in mine:
            assert each.source == volume.sources[each.number - 1]
            assert each.position_mm == pytest.approx(volume.positions_mm[each.number - 1] - volume.positions_mm[0])
    assert mapped[0].source.path == paths[0] or mapped[0].source in volume.sources[:6]  # the lowest slice comes first


def test_copies_are_named_once(head_folder: Path) -> None:
    data = (head_folder / "003.dcm").read_bytes()
    (head_folder / "zz.dcm").write_bytes(data)
    volume = read_scan(find_scans(head_folder).scans[0])
    assert len(volume.sources) == 35 and volume.sources[3].path.name == "003.dcm"


@pytest.mark.parametrize(("directions", "first"), [("RAS", 1), ("LPI", 35)])
def test_slices_of_nifti_are_named_by_their_number_in_the_file(
    tmp_path: Path, write_nifti: Any, directions: str, first: int
) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", directions)
    volume = read_scan(find_scans(path).scans[0])
    assert volume.sources[0] == SliceSource(path, "", first)
    assert len({source.frame for source in volume.sources}) == len(volume.hu) == 35


def test_a_volume_without_sources_has_no_map() -> None:
    assert map_slices((), np.ones((2, 3)) / 3, np.arange(3.0)) == ()
