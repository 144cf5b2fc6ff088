"""A manifest says which scan belongs to which split; what is wrong with one is told with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import ConfigError
from molre_edge.training.data_manifest import read_manifest

GOOD = "scan,split,midline_shift,_note,hydrocephalus\na.nii.gz,train,1,old,\nb.nii.gz,val,0,,1.0\nc,test, 0.0 ,,0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with three scans by name and one beside it."""
    place = tmp_path / "data"
    (place / "c").mkdir(parents=True)
    for name in ("a.nii.gz", "b.nii.gz", "../outside.nii.gz"):
        (place / name).write_bytes(b"")
    return place


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "manifest.csv").write_text(text, encoding=encoding)
    return folder


def test_columns_are_findings_but_scan_split_and_those_with_an_underscore(folder: Path) -> None:
    manifest = read_manifest(write(folder, GOOD))
    assert manifest.findings == ("midline_shift", "hydrocephalus")
    assert [case.name for case in manifest.cases] == ["a.nii.gz", "b.nii.gz", "c"]
    assert [case.path for case in manifest.of("val")] == [(folder / "b.nii.gz").resolve()]
    np.testing.assert_array_equal([case.labels for case in manifest.cases], [[1, np.nan], [0, 1], [0, 0]])


def test_the_csv_itself_can_be_named_and_may_come_from_a_spreadsheet(folder: Path) -> None:
    write(folder, GOOD.replace("\n", "\r\n"), "utf-8-sig")
    assert len(read_manifest(folder / "manifest.csv").cases) == 3


def test_columns_are_read_in_the_order_asked_for(folder: Path) -> None:
    manifest = read_manifest(write(folder, GOOD), ("hydrocephalus", "midline_shift"))
    np.testing.assert_array_equal(manifest.cases[1].labels, [1, 0])


def test_a_part_of_the_findings_is_enough_where_a_part_is_asked_for(folder: Path) -> None:
    write(folder, GOOD)
    manifest = read_manifest(folder, ("midline_shift", "burr_hole"), partial=True)
    np.testing.assert_array_equal(manifest.cases[0].labels, [1, np.nan])
    with pytest.raises(ConfigError, match="no column burr_hole"):
        read_manifest(folder, ("midline_shift", "burr_hole"))
    with pytest.raises(ConfigError, match="no column burr_hole"):
        read_manifest(folder, ("burr_hole",), partial=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("split,", "part,", "no column split; .* got scan, part"),
        ("scan,split,midline_shift,_note,hydrocephalus", "scan,split,_a,_b,_c", "no column of a finding"),
        (",", "|", r"separated by commas, semicolons or tabs, got scan\|split"),
        ("_note", "SPLIT", "has the columns 'split' and 'SPLIT', which are both read as 'split'"),
        ("_note", "", "line 2: has a value in column 4, which has no name"),
        ("hydrocephalus", "midline_shift", "has the column 'midline_shift' twice"),
        ("b.nii.gz,val", "b.nii.gz,valid", "line 3: split is 'valid', expected train, val, test"),
        ("b.nii.gz", "d.nii.gz", "line 3: d.nii.gz does not exist"),
        ("b.nii.gz", "", "line 3: expected the path of a scan inside the folder, got ''"),
        ("b.nii.gz", ".", "line 3: expected the path of a scan inside the folder"),
        ("b.nii.gz", "../outside.nii.gz", "line 3: expected the path of a scan inside the folder"),
        ("b.nii.gz", "c/../a.nii.gz", "line 3: .* is already named in line 2"),
        ("val,0", "val,2", "line 3, midline_shift: expected 1, 0 or nothing, got '2'"),
        ("val,0", "val,nan", "line 3, midline_shift: expected 1, 0 or nothing"),
        (",,1.0", ",,1.0,7", "line 3: has more values than the first line has columns"),
        (GOOD[GOOD.index("\n") :], "\n", "has no rows"),
        (GOOD, "", "got an empty file"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(folder: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_manifest(write(folder, GOOD.replace(old, new)))


def test_an_absolute_path_and_a_link_that_leads_out_are_refused(folder: Path) -> None:
    outside = (folder / "../outside.nii.gz").resolve()
    (folder / "link.nii.gz").symlink_to(outside)
    for name in (str(outside), "link.nii.gz"):
        with pytest.raises(ConfigError, match="inside the folder"):
            read_manifest(write(folder, GOOD.replace("b.nii.gz", name)))


def test_lines_are_counted_as_an_editor_does(folder: Path) -> None:
    text = GOOD.replace("old", '"two\nlines"').replace("b.nii.gz", "d.nii.gz")
    with pytest.raises(ConfigError, match=r"line 4: d\.nii\.gz does not exist"):
        read_manifest(write(folder, text))


def test_a_folder_without_a_manifest_or_one_in_another_encoding_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no manifest.csv"):
        read_manifest(folder)
    with pytest.raises(ConfigError, match="can't be read"):
        read_manifest(write(folder, GOOD.replace("old", "né"), "latin-1"))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GOOD.replace(",", ";"), "utf-8"),
        (GOOD.replace(",", "\t"), "utf-16"),
        ("sep=;\r\n" + GOOD.replace(",", ";"), "utf-8-sig"),
        (GOOD.replace("scan,split", " Scan,SPLIT"), "utf-8"),
        (GOOD.replace("\n", ",,\n"), "utf-8"),
        (GOOD + ",,,,\n\n", "utf-8"),
    ],
)
def test_what_spreadsheets_write_is_read(folder: Path, text: str, encoding: str) -> None:
    manifest = read_manifest(write(folder, text, encoding))
    assert manifest.findings == ("midline_shift", "hydrocephalus")
    np.testing.assert_array_equal([case.labels for case in manifest.cases], [[1, np.nan], [0, 1], [0, 0]])


def test_columns_asked_for_are_matched_in_any_case_and_the_rest_is_kept_for_the_report(folder: Path) -> None:
    text = GOOD.replace("midline_shift", "Midline Shift").replace("hydrocephalus", "age").replace("1.0", "1")
    manifest = read_manifest(write(folder, text), ("midline_shift", "hydrocephalus"), partial=True)
    assert (manifest.unused, manifest.unknown) == (("age",), ("hydrocephalus",))
    np.testing.assert_array_equal([case.labels[0] for case in manifest.cases], [1, 0, 0])
