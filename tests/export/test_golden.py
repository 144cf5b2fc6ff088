"""Golden volumes: seeded synthetic heads with the extremes of HU, or scans of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import ConfigError
from molre_edge.export.golden import extreme_volume, head_shape, scan_volumes, synthetic_volumes
from molre_edge.specs import HU_MAX, HU_MIN, Grid
from molre_edge.synthetic import make_head, write_nifti

GRID = Grid(slices=2, rows=32, cols=32)


def test_synthetic_volumes_lie_on_the_grid_and_differ_from_each_other() -> None:
    volumes = synthetic_volumes(GRID, 3)
    assert volumes.shape == (3, 2, 32, 32)
    assert volumes.dtype == np.float16
    assert volumes.min() >= HU_MIN
    assert volumes.max() <= np.float16(HU_MAX)
    assert len({volume.tobytes() for volume in volumes}) == 3


@pytest.mark.parametrize(
    ("grid", "shape"),
    [((2, 32, 32), (12, 96, 96)), ((8, 112, 96), (16, 168, 168)), ((32, 224, 224), (32, 256, 256))],
)
def test_heads_are_finer_than_the_grid_and_no_finer_than_a_scanner_s(
    grid: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    assert head_shape(Grid(*grid)) == shape


def test_a_seed_gives_the_same_volumes_again() -> None:
    assert np.array_equal(synthetic_volumes(GRID, 2, seed=7), synthetic_volumes(GRID, 2, seed=7))
    assert not np.array_equal(extreme_volume(GRID, 7), extreme_volume(GRID, 8))


def test_the_first_volume_goes_from_the_lowest_to_the_highest_hu() -> None:
    volume = extreme_volume(Grid(slices=8, rows=64, cols=60), 0)
    assert volume.shape == (8, 64, 60)
    assert (float(volume.min()), float(volume.max())) == (HU_MIN, float(np.float16(HU_MAX)))


def test_one_volume_is_not_enough() -> None:
    with pytest.raises(ConfigError, match="golden volumes: 1; expected at least 2"):
        synthetic_volumes(GRID, 1)


def test_scans_of_the_user_are_read_and_others_are_named_without_their_path(tmp_path: Path) -> None:
    for seed in range(3):
        write_nifti(make_head(seed, shape=(12, 96, 96)), tmp_path / f"head-{seed}.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    volumes, problems = scan_volumes(tmp_path, GRID)
    assert volumes.shape == (3, 2, 32, 32)
    assert volumes.dtype == np.float16
    assert [problem.partition(":")[0] for problem in problems] == ["broken.nii.gz"]
    assert not any(str(tmp_path) in problem for problem in problems)
    assert np.array_equal(scan_volumes(tmp_path, GRID, count=2)[0], volumes[:2])


def test_a_folder_without_scans_gives_no_volumes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    volumes, _ = scan_volumes(tmp_path, GRID)
    assert volumes.shape == (0, 2, 32, 32)
