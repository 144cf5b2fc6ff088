"""A synthetic data set: scans by split, and a manifest with their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import ConfigError
from molre_edge.scans import find_scans, read_scan
from molre_edge.training.data_manifest import read_manifest
from molre_edge.training.dataset import _draw, make_dataset

FINDINGS = ("intraparenchymal_hemorrhage", "craniotomy_or_craniectomy")

SMALL = {"scans": 5, "shape": (8, 48, 48)}


def test_the_manifest_has_the_findings_asked_for_and_splits_of_60_20_20(data: Path) -> None:
    manifest = read_manifest(data)
    assert manifest.findings == FINDINGS
    assert [len(manifest.of(split)) for split in ("train", "val", "test")] == [12, 4, 4]
    assert not np.isnan([case.labels for case in manifest.cases]).any()


def test_every_scan_can_be_read_and_lies_in_the_folder_of_its_split(data: Path) -> None:
    for case in read_manifest(data).cases[:3]:
        assert case.name.split("/")[0] == case.split
        assert read_scan(find_scans(case.path).scans[0]).hu.shape == (8, 48, 48)


def test_each_split_has_the_same_share_of_each_finding(data: Path) -> None:
    manifest = read_manifest(data)
    for split in ("train", "val", "test"):
        labels = np.array([case.labels for case in manifest.of(split)])
        assert labels.mean(0).tolist() == [0.5, 0.5]
    labels = np.array([case.labels for case in manifest.cases])
    assert 0 < labels.prod(1).mean() < 0.5  # drawn by themselves: together in some scans, not in all


@pytest.mark.parametrize(("prevalence", "positives"), [(0.01, (1, 1, 1)), (0.3, (7, 2, 2)), (0.99, (23, 7, 7))])
def test_a_rare_and_a_frequent_finding_have_both_kinds_of_scans_in_every_split(
    prevalence: float, positives: tuple[int, ...]
) -> None:
    plans = _draw(40, 3, (0.2, 0.2), ("hydrocephalus",), prevalence)
    counts = [sum(bool(plan.findings) for plan in plans if plan.split == split) for split in ("train", "val", "test")]
    assert tuple(counts) == positives


def test_a_parent_that_is_asked_for_comes_with_its_children_too(tmp_path: Path) -> None:
    names = ("intracranial_hemorrhage_any", "intraparenchymal_hemorrhage")
    make_dataset(tmp_path / "new", findings=names[::-1], prevalence=0.5, **SMALL)  # type: ignore[arg-type]
    manifest = read_manifest(tmp_path / "new")
    assert manifest.findings == names  # in the order of the 75
    assert all(parent >= child for parent, child in (case.labels for case in manifest.cases))


def test_the_same_seed_makes_the_same_scans_and_another_seed_shares_none(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_dataset(tmp_path / name, seed=seed, findings=(), **SMALL)  # type: ignore[arg-type]
    texts = {name: (tmp_path / name / "manifest.csv").read_text() for name in "abc"}
    assert texts["a"] == texts["b"] != texts["c"]  # the splits are drawn too
    scans = {
        name: {read_scan(find_scans(path).scans[0]).hu.tobytes() for path in (tmp_path / name).rglob("*.nii.gz")}
        for name in "abc"
    }
    assert scans["a"] == scans["b"] and scans["a"].isdisjoint(scans["c"]) and len(scans["c"]) == 5


def test_two_processes_make_the_same_as_one(tmp_path: Path) -> None:
    told: list[None] = []
    for name, processes in (("one", 1), ("two", 2)):
        make_dataset(tmp_path / name, processes=processes, on_scan=lambda: told.append(None), **SMALL)  # type: ignore[arg-type]
    assert len(told) == 10
    assert (tmp_path / "one/manifest.csv").read_text() == (tmp_path / "two/manifest.csv").read_text()


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="already exists and is not empty; name a new folder"):
        make_dataset(tmp_path, **SMALL)  # type: ignore[arg-type]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_unknown_finding_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'hydrocephalos' can't be shown .* Did you mean 'hydrocephalus'"):
        make_dataset(tmp_path / "new", findings=["hydrocephalos"], **SMALL)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
