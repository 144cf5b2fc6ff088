"""slices.csv: the images of each slice on the model's grid, kept through cuts and resumed runs."""

from __future__ import annotations

import csv
from pathlib import Path

from molre_edge.runs.slices import SLICES_FILE, add_slices, arrange_slices
from molre_edge.scans import GridSlice, SliceSource


def slices(base: Path, name: str) -> list[GridSlice]:
    return [
        GridSlice(number, 0.5, SliceSource(base / name / "1.dcm", "1.2.3", number), number, 0.0) for number in (1, 2)
    ]


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
    arrange_slices(tmp_path, ["scan-0001"])
    assert [row["slice"] for row in rows(tmp_path)] == ["1", "2"]


def test_nothing_to_name_leaves_no_file(tmp_path: Path) -> None:
    add_slices(tmp_path, "scan-0001", [], tmp_path)
    arrange_slices(tmp_path, [])
    assert not (tmp_path / SLICES_FILE).exists()


def test_scans_are_put_into_an_order_and_a_table_in_order_is_left_alone(tmp_path: Path) -> None:
    for scan in ("scan-0003", "scan-0001", "scan-0002"):
        add_slices(tmp_path, scan, slices(tmp_path, scan), tmp_path)
    order = ["scan-0001", "scan-0002", "scan-0003", "scan-0004"]
    arrange_slices(tmp_path, order)
    assert [row["scan"] for row in rows(tmp_path)][::2] == order[:3]
    assert [row["slice"] for row in rows(tmp_path)] == ["1", "2"] * 3
    before = (tmp_path / SLICES_FILE).stat()
    arrange_slices(tmp_path, order)
    assert (tmp_path / SLICES_FILE).stat().st_ino == before.st_ino


def test_tables_of_several_runs_become_one(tmp_path: Path) -> None:
    for scan in ("scan-0001", "scan-0002", "scan-0003"):
        folder = tmp_path / ("odd" if scan[-1] in "13" else "even")
        folder.mkdir(exist_ok=True)
        add_slices(folder, scan, slices(tmp_path, scan), tmp_path)
        add_slices(tmp_path, scan, slices(tmp_path, scan), tmp_path)
    whole = (tmp_path / SLICES_FILE).read_bytes()
    (tmp_path / SLICES_FILE).unlink()
    order = ["scan-0001", "scan-0002", "scan-0003"]
    arrange_slices(tmp_path, order, [tmp_path / "odd", tmp_path / "even"])
    assert (tmp_path / SLICES_FILE).read_bytes() == whole
