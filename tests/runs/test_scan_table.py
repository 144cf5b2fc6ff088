"""scans.csv: one line a row, whatever a path holds, and refused when it is damaged."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest

from molre_edge.errors import RunError
from molre_edge.runs.scan_table import Entry, path_text, read_entries, write_csv, write_entries

ENTRY = Entry("scan-bbbbbbbbbbbbbbbb", "folder", "folder/1.dcm", "f" * 64, "done", files=30, warnings="contrast")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", "plain"),
        ('a b, "c" ;\'', 'a b, "c" ;\''),
        ("Füße", "Füße"),
        ("line\nbreak\rand\x1b[31m", "line\\nbreak\\rand\\x1b[31m"),
        (os.fsdecode(b"latin-\xe9"), "latin-\\udce9"),
    ],
)
def test_any_path_is_a_row_of_one_line_that_reads_back_as_written(name: str, text: str, tmp_path: Path) -> None:
    assert path_text(Path("/scans") / name, Path("/scans")) == text
    entry = Entry("scan-aaaaaaaaaaaaaaaa", text, text, "", "pending")
    write_entries(tmp_path / "scans.csv", [entry, ENTRY])
    assert (tmp_path / "scans.csv").read_text().count("\n") == 3
    assert read_entries(tmp_path / "scans.csv") == [entry, ENTRY]


def test_the_root_itself_is_a_dot() -> None:
    assert path_text(Path("/scans"), Path("/scans")) == "."


def test_no_file_is_an_empty_table(tmp_path: Path) -> None:
    assert read_entries(tmp_path / "scans.csv") == []


def test_the_columns_are_the_documented_ones(tmp_path: Path) -> None:
    write_entries(tmp_path / "scans.csv", [ENTRY])
    [header, _] = csv.reader((tmp_path / "scans.csv").read_text().splitlines())
    assert header == ["row", "scan", "path", "key", "fingerprint", "status", "code", "reason", "files", "warnings"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "scan,path\nscan-aaaaaaaaaaaaaaaa,a\n",
        "row,scan,path,key,fingerprint,status,code,reason,files,warnings\n1,scan-aaaaaaaaaaaaaaaa,a,a,,done,,,many,\n",
        "row,scan,path,key,fingerprint,status,code,reason,files,warnings\n1,../../x,a,a,,done,,,1,\n",
        "row,scan,path,key,fingerprint,status,code,reason,files,warnings\n1,scan-aaaaaaaaaaaaaaaa,a,a,,done,,,1,\n1,scan-aaaaaaaaaaaaaaaa,b,b,,done,,,1,\n",
        "row,scan,path,key,fingerprint,status,code,reason,files,warnings,more\n1,scan-aaaaaaaaaaaaaaaa,a,a,,done,,,1,,\n",
        "row,scan,path,key,fingerprint,status,code,reason,files,warnings\n1,scan-aaaaaaaaaaaaaaaa,a\n",
    ],
    ids=["empty", "nonsense", "columns missing", "no number", "no id", "an id twice", "columns added", "cut"],
)
def test_a_damaged_table_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "scans.csv").write_text(text)
    with pytest.raises(RunError, match=r"damaged .*[Ss]tart a new run"):
        read_entries(tmp_path / "scans.csv")


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scans.csv").write_bytes(b"\xff\xfe\x00scan")
    with pytest.raises(RunError, match="damaged"):
        read_entries(tmp_path / "scans.csv")


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "'=1", "''-1", "'plain", "-", "'", "head-1"])
def test_no_cell_is_a_formula_and_a_name_is_read_back_as_it_was(name: str, tmp_path: Path) -> None:
    entry = replace(ENTRY, path=name, key=name)
    write_entries(tmp_path / "scans.csv", [entry])
    [cells] = csv.DictReader((tmp_path / "scans.csv").read_text().splitlines())
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells.values())
    assert read_entries(tmp_path / "scans.csv") == [entry]
    assert (cells["path"] == name) == (name.lstrip("'")[:1] not in tuple("=+-@"))


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["=a", "b"], [[-1.5, "\tx"]])
    assert (tmp_path / "t.csv").read_text() == "'=a,b\n-1.5,'\tx\n"
