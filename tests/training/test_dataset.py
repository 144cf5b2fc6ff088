"""A synthetic data set: scans by split, and a manifest with their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import ConfigError
from molre_edge.findings import default_findings
from molre_edge.scans import find_scans, read_scan
from molre_edge.training.data_manifest import read_manifest
from molre_edge.training.dataset import make_dataset

FINDINGS = ("intraparenchymal_hemorrhage", "craniotomy_or_craniectomy")

SMALL = {"scans": 5, "shape": (8, 48, 48)}


def test_the_manifest_has_all_75_findings_and_splits_of_60_20_20(data: Path) -> None:
    manifest = read_manifest(data)
    assert manifest.findings == tuple(finding.name for finding in default_findings())
    assert [len(manifest.of(split)) for split in ("train", "val", "test")] == [12, 4, 4]
    assert not np.isnan([case.labels for case in manifest.cases]).any()


def test_every_scan_can_be_read_and_lies_in_the_folder_of_its_split(data: Path) -> None:
    for case in read_manifest(data).cases[:3]:
        assert case.name.split("/")[0] == case.split
        assert read_scan(find_scans(case.path).scans[0]).hu.shape == (8, 48, 48)


def test_findings_asked_for_are_drawn_by_themselves_and_bring_their_parents(data: Path) -> None:
    manifest = read_manifest(data)
    labels = np.array([case.labels for case in manifest.cases])
    share = {name: labels[:, i].mean() for i, name in enumerate(manifest.findings)}
    assert all(0.2 < share[name] < 0.8 for name in FINDINGS)
    assert share["intracranial_hemorrhage_any"] == share["intraparenchymal_hemorrhage"]
    assert share["hydrocephalus"] == 0


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
