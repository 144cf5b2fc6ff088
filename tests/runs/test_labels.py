"""Labels: what a file may look like, and how its lines find their scans."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import RunError
from molre_edge.runs.labels import read_labels
from molre_edge.runs.scan_table import Entry

FINDINGS = ("bleed", "fracture")


def entry(scan: str, path: str, key: str | None = None, fingerprint: str = "f") -> Entry:
    return Entry(scan, path, key or path, fingerprint, "done")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "scans" / "a").mkdir(parents=True)
    return tmp_path / "scans"


def write(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_one_zero_and_unknown_are_read_in_the_order_of_the_model(root: Path) -> None:
    path = write(root, "scan,fracture,age,bleed\na,1,63,0\nb,,,1.0\n")
    labels = read_labels(path, FINDINGS).of([entry("scan-0001", "a"), entry("scan-0002", "b")], root)
    assert labels["scan-0001"].tolist() == [0, 1]
    assert labels["scan-0002"][0] == 1 and np.isnan(labels["scan-0002"][1])


def test_a_finding_without_a_column_and_a_line_that_ends_early_are_unknown(root: Path) -> None:
    [values] = read_labels(write(root, "bleed,scan\n1,a\n"), FINDINGS).of([entry("scan-0001", "a")], root).values()
    assert values[0] == 1 and np.isnan(values[1])
    [values] = read_labels(write(root, "scan,bleed\na\n"), FINDINGS).of([entry("scan-0001", "a")], root).values()
    assert np.isnan(values).all()


@pytest.mark.parametrize("place", ["scans", "elsewhere"])
@pytest.mark.parametrize("form", ["of the scans' folder", "of the file", "absolute", "roundabout", "first file"])
def test_a_scan_is_named_relative_to_the_file_or_to_the_scans_folder(root: Path, place: str, form: str) -> None:
    folder = root.parent / place
    folder.mkdir(exist_ok=True)
    to_root = "." if place == "scans" else "../scans"
    name = {
        "of the scans' folder": "a",
        "of the file": f"{to_root}/a",
        "absolute": str(root / "a"),
        "roundabout": f"{to_root}/../scans/./a/",
        "first file": "a/1.dcm",
    }[form]
    path = write(folder, f"scan,bleed\n{name},1\n")
    assert read_labels(path, FINDINGS).of([entry("scan-0007", "a", "a/1.dcm")], root).keys() == {"scan-0007"}


def test_a_single_file_is_named_by_itself(tmp_path: Path) -> None:
    (tmp_path / "head.nii").touch()
    path = write(tmp_path, "scan,bleed\nhead.nii,1\n")
    assert read_labels(path, FINDINGS).of([entry("scan-0001", "head.nii")], tmp_path / "head.nii")


def test_a_folder_with_two_scans_needs_the_name_of_a_file(root: Path) -> None:
    both = [entry("scan-0001", "a", "a/1.dcm"), entry("scan-0002", "a", "a/9.dcm")]
    with pytest.raises(RunError, match=r"line 2: names a folder with 2 scans .*first file"):
        read_labels(write(root, "scan,bleed\na,1\n"), FINDINGS).of(both, root)
    labels = read_labels(write(root, "scan,bleed\na/9.dcm,1\na/1.dcm,0\n"), FINDINGS).of(both, root)
    assert {scan: values[0] for scan, values in labels.items()} == {"scan-0001": 0, "scan-0002": 1}


def test_the_scans_of_a_stored_run_are_named_by_the_same_rules(root: Path) -> None:
    both = [entry("scan-0001", "a", "a/1.dcm"), entry("scan-0002", "a", "a/9.dcm")]
    ignored = entry("scan-0002", "a", "a/9.dcm", fingerprint="")
    by_folder = read_labels(write(root, "scan,bleed\na,1\n"), FINDINGS)
    assert by_folder.of_stored([both[0], ignored]).keys() == by_folder.of([both[0], ignored], root).keys()
    assert by_folder.of_stored([both[0], ignored]).keys() == {"scan-0001"}
    with pytest.raises(RunError, match=r"line 2: names a folder with 2 scans .*first file"):
        by_folder.of_stored(both)
    table = read_labels(write(root, "scan,bleed\na/9.dcm,1\nscan-0001,0\n"), FINDINGS)
    assert {scan: values[0] for scan, values in table.of_stored(both).items()} == {"scan-0001": 0, "scan-0002": 1}
    with pytest.raises(RunError, match="line 3: a second line for one scan"):
        read_labels(write(root, "scan,bleed\na/1.dcm,1\nscan-0001,0\n"), FINDINGS).of_stored(both)


def test_what_was_left_out_by_its_header_is_no_scan(root: Path) -> None:
    table = read_labels(write(root, "scan,bleed\na,1\n"), FINDINGS)
    with pytest.raises(RunError, match="none of its 1 lines names a scan of this run"):
        table.of([entry("scan-0001", "a", fingerprint="")], root)


def test_two_lines_for_one_scan_are_refused(root: Path) -> None:
    table = read_labels(write(root, "scan,bleed\na,1\n./a,0\n"), FINDINGS)
    with pytest.raises(RunError, match="line 3: a second line for one scan"):
        table.of([entry("scan-0001", "a")], root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file"),
        ("path,bleed\na,1\n", "expected a column 'scan'.*got path, bleed"),
        ("scan,bleeding\na,1\n", "columns named as findings .*got scan, bleeding"),
        ("scan|bleed\na|1\n", r"separated by commas, semicolons or tabs, got scan\|bleed"),
        ("scan,bleed\na,yes\n", "line 2, bleed: expected 1, 0 or nothing, got 'yes'"),
        ("scan,bleed\na,0.5\n", "line 2, bleed: expected 1, 0 or nothing, got '0.5'"),
        ("scan,bleed\na,1\n,1\n", "line 3: names no scan"),
        ("scan,bleed\na,1,0\n", "line 2: has more values"),
        ("scan,bleed,bleed\na,1,0\n", "has the column 'bleed' twice"),
        ("scan,bleed,Bleed \na,1,0\n", "has the columns 'bleed' and 'Bleed', which are both read as 'bleed'"),
    ],
)
def test_a_file_of_another_form_is_refused_and_says_where(text: str, message: str, root: Path) -> None:
    with pytest.raises(RunError, match=message):
        read_labels(write(root, text), FINDINGS)


def test_a_file_that_is_no_text_or_not_there_is_refused(root: Path) -> None:
    (root / "labels.csv").write_bytes(b"scan,bleed\n\xff,1\n")
    with pytest.raises(RunError, match="labels: can't be read"):
        read_labels(root / "labels.csv", FINDINGS)
    with pytest.raises(RunError, match="labels: can't be read"):
        read_labels(root / "none.csv", FINDINGS)


def test_a_byte_order_mark_is_no_part_of_the_first_column(root: Path) -> None:
    (root / "labels.csv").write_text("scan,bleed\na,1\n", encoding="utf-8-sig")
    assert read_labels(root / "labels.csv", FINDINGS).rows[0][1] == "a"


def test_columns_in_another_case_or_with_blanks_are_matched(root: Path) -> None:
    path = write(root, " Scan ,BLEED,Fracture\na,1,0\n")
    assert read_labels(path, FINDINGS).of([entry("scan-0001", "a")], root)["scan-0001"].tolist() == [1, 0]


def test_lines_and_columns_are_counted_and_the_rest_is_shown_without_names(root: Path) -> None:
    told: list[str] = []
    path = write(root, "scan,bleed,age,sex\na,1,63,f\nMüller/head-12.nii,0,,\nc,,,\n")
    read_labels(path, FINDINGS, told.append).of([entry("scan-0001", "a"), entry("scan-0002", "b")], root)
    assert told == [
        "Labels: 1 of 3 lines name a scan of this run, 1 of its 2 scans have labels; 1 of the model's 2 findings have "
        "a column; 2 columns are not used (age, sex); names without a scan look like xxxxxx/xxxx-99.xxx (line 3 and 1 "
        "more)"
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("told", [True, False])
def test_what_spreadsheets_write_is_read(root: Path, delimiter: str, encoding: str, told: bool) -> None:
    text = "scan,bleed,fracture\r\na,1,0\r\n".replace(",", delimiter)
    (root / "labels.csv").write_bytes(((f"sep={delimiter}\r\n" if told else "") + text).encode(encoding))
    labels = read_labels(root / "labels.csv", FINDINGS)
    assert labels.rows[0][:2] == (2 + told, "a") and labels.rows[0][2].tolist() == [1, 0]


def test_a_pipe_is_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "labels.csv")
    with pytest.raises(RunError, match="labels: can't be read: a named pipe, not a regular file"):
        read_labels(root / "labels.csv", FINDINGS)
