"""slices.csv: the images of each slice on the model's grid, kept through cuts and resumed runs."""

from __future__ import annotations

import csv
from pathlib import Path

from molre_edge.runs.slices import SLICES_FILE, add_slices, keep_slices
from molre_edge.scans import GridSlice, SliceSource


def slices(base: Path, name: str) -> list[GridSlice]:
    return [GridSlice(number, 0.5, SliceSource(base / name / "1.dcm", "1.2.3", number)) for number in (1, 2)]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / SLICES_FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_appended_with_one_header(tmp_path: Path) -> None:
    for scan in ("scan-0001", "scan-0002"):
        add_slices(tmp_path, scan, slices(tmp_path, scan), tmp_path)
    assert [row["scan"] for row in rows(tmp_path)] == ["scan-0001"] * 2 + ["scan-0002"] * 2
    assert rows(tmp_path)[0] == {
        "scan": "scan-0001",
        "slice": "1",
        "share": "0.5",
        "file": "scan-0001/1.dcm",
        "sop_instance_uid": "1.2.3",
        "frame": "1",
    }


def test_rows_of_other_scans_and_half_written_ones_are_taken_out(tmp_path: Path) -> None:
    for scan in ("scan-0001", "scan-0002"):
        add_slices(tmp_path, scan, slices(tmp_path, scan), tmp_path)
    with (tmp_path / SLICES_FILE).open("a") as file:
        file.write("scan-0001,3,0.5")
    keep_slices(tmp_path, {"scan-0001"})
    assert [row["slice"] for row in rows(tmp_path)] == ["1", "2"]


def test_nothing_to_name_leaves_no_file(tmp_path: Path) -> None:
    add_slices(tmp_path, "scan-0001", [], tmp_path)
    keep_slices(tmp_path, set())
    assert not (tmp_path / SLICES_FILE).exists()
