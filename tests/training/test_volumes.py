"""Scans are brought to the grid once, and what can't be used is named."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import ConfigError
from molre_edge.scans import find_scans, read_scan, to_grid
from molre_edge.specs import Grid
from molre_edge.training.data_manifest import Case, Manifest, read_manifest
from molre_edge.training.volumes import prepare_volumes

FINDINGS = ("intraparenchymal_hemorrhage", "craniotomy_or_craniectomy")
GRID = Grid(slices=4, rows=32, cols=32)


@pytest.fixture
def cases(data: Path, tmp_path: Path) -> tuple[Case, ...]:
    """Two scans of the data set, copied, so that they can be spoiled."""
    own = tmp_path / "own"
    lines = (data / "manifest.csv").read_text().splitlines()[:3]
    for line in lines[1:]:
        target = own / line.split(",")[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(data / line.split(",")[0], target)
    (own / "manifest.csv").write_text("\n".join(lines))
    return read_manifest(own, FINDINGS).cases


def test_volumes_are_those_of_the_reader_in_the_manifests_order(cases: tuple[Case, ...], tmp_path: Path) -> None:
    told: list[None] = []
    volumes = prepare_volumes(cases, GRID, tmp_path / "cache", lambda: told.append(None))
    assert len(volumes) == len(told) == 2 and volumes.problems == ()
    expected = [to_grid(read_scan(find_scans(case.path).scans[0]), GRID) for case in cases]
    loaded = volumes.load([1, 0])
    assert loaded.dtype == np.float16
    np.testing.assert_array_equal(loaded, expected[::-1])
    np.testing.assert_array_equal(volumes.labels, [case.labels for case in cases])


def test_a_scan_is_read_once(cases: tuple[Case, ...], tmp_path: Path) -> None:
    first = prepare_volumes(cases, GRID, tmp_path / "cache")
    before = [file.stat().st_mtime_ns for file in first.files]
    again = prepare_volumes(cases, GRID, tmp_path / "cache")
    assert again.files == first.files
    assert [file.stat().st_mtime_ns for file in again.files] == before


def test_another_grid_and_a_changed_scan_are_read_anew(cases: tuple[Case, ...], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = prepare_volumes(cases, GRID, cache).files
    assert set(prepare_volumes(cases, replace(GRID, slices=5), cache).files).isdisjoint(first)
    os.utime(cases[1].path, ns=(1, 1))
    again = prepare_volumes(cases, GRID, cache).files
    assert (again[0], again[1]) == (first[0], again[1]) and again[1] != first[1]


@pytest.mark.parametrize("damage", ["cut", "other", "empty folder", "two scans"])
def test_a_bad_scan_among_good_ones_is_named_and_the_rest_goes_on(
    damage: str, cases: tuple[Case, ...], tmp_path: Path
) -> None:
    bad = cases[0].path
    content = bad.read_bytes()
    if damage in {"cut", "other"}:
        bad.write_bytes(content[:2000] if damage == "cut" else b"text")
    else:
        bad.unlink()
        bad.mkdir()
        if damage == "two scans":
            for name in ("a.nii.gz", "b.nii.gz"):
                (bad / name).write_bytes(content)
    volumes = prepare_volumes(cases, GRID, tmp_path / "cache")
    assert volumes.cases == cases[1:] and len(volumes.labels) == len(volumes) == 1
    [(name, reason)] = volumes.problems
    assert name == cases[0].name and reason
    assert ("holds 2 scans" in reason) == (damage == "two scans")


def test_no_usable_scan_at_all_is_an_error_with_the_first_reason(cases: tuple[Case, ...], tmp_path: Path) -> None:
    for case in cases:
        case.path.write_bytes(b"text")
    words = f"none of the 2 scans can be used; the first is {cases[0].name}: there is no NIfTI header"
    with pytest.raises(ConfigError, match=words):
        prepare_volumes(cases, GRID, tmp_path / "cache")


def test_the_cache_may_be_shared_by_data_sets(manifest: Manifest, shared_cache: Path, cases: tuple[Case, ...]) -> None:
    """A copy that keeps names, sizes and times is the same scan."""
    known = prepare_volumes(manifest.cases, GRID, shared_cache)
    assert set(prepare_volumes(cases, GRID, shared_cache).files) <= set(known.files)
