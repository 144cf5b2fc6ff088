"""Tables of labels as people have them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from molre_edge.tables import label_value, masked, match_columns, read_table


def put(folder: Path, content: bytes) -> Path:
    (folder / "t.csv").write_bytes(content)
    return folder / "t.csv"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_separators_and_encodings_are_told_from_the_file(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = f"name{delimiter}scan\r\nJosé{delimiter}a b\r\n"
    table = read_table(put(tmp_path, text.encode(encoding)), "scan")
    assert table.columns == ("name", "scan")
    assert table.rows == ((2, ("José", "a b")),)


def test_the_separator_is_the_one_that_gives_the_key_its_column(tmp_path: Path) -> None:
    assert read_table(put(tmp_path, b"scan;a,b,c,d\nx;1\n"), "scan").columns == ("scan", "a,b,c,d")


@pytest.mark.parametrize("line", [b"sep=|\n", b'"sep=|"\r\n', b"SEP=|\r\n"])
def test_a_line_that_names_the_separator_is_followed_and_counted(tmp_path: Path, line: bytes) -> None:
    table = read_table(put(tmp_path, line + b"scan|a\nx|1\n"), "scan")
    assert (table.columns, table.rows) == (("scan", "a"), ((3, ("x", "1")),))


def test_lines_and_columns_without_any_value_are_left_out(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, b"scan,a,,\nx,1,,\n\n,,,\ny\n"), "scan")
    assert table.rows == ((2, ("x", "1", "", "")), (5, ("y", "", "", "")))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"scan,a\nx,1,2\n", "line 2: has more values than the first line has columns"),
        (b"scan,,a\nx,1,2\n", "line 2: has a value in column 2, which has no name"),
        (b"scan,a\nx,\xff\n", "not UTF-8 at byte 9; save it as 'CSV UTF-8'"),
        ("scan,a\nx,1\n".encode("utf-16-le"), "zero bytes, as UTF-16 without its mark"),
        (b'scan,a\nx,"' + b"1" * 200_000, "can't be read as CSV"),
    ],
)
def test_what_can_not_be_read_is_refused_with_its_place(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_table(put(tmp_path, content), "scan")


def test_columns_are_matched_without_case_and_blanks_unless_only_these_tell_two_apart() -> None:
    assert match_columns(("Midline  Shift", "x"), ("midline_shift", "y")) == {"midline_shift": 0}
    assert match_columns(("a", "A"), ("A", "a")) == {"A": 1, "a": 0}
    with pytest.raises(ValueError, match="has the columns 'a' and 'A', which are both read as 'a'"):
        match_columns(("a", "A"), ("a",))
    with pytest.raises(ValueError, match="has the column 'a' twice"):
        match_columns(("a", "a"), ("a",))


def test_values_and_what_is_none() -> None:
    assert [label_value(text) for text in ("0", "1", "1.0", "0,0")] == [0, 1, 1, 0]
    assert math.isnan(label_value("") or 0)
    assert [label_value(text) for text in ("yes", "2", "nan", "-0")] == [None] * 4


def test_a_name_is_shown_by_its_shape_alone() -> None:
    assert masked("Müller/CT-12 a.nii") == "xxxxxx/xx-99 x.xxx"
    assert len(masked("a" * 500)) == 60
