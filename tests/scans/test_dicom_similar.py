"""Slices of a series share what their headers have in common, and each is still read as pydicom reads it alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from molre_edge.scans import find_scans, read_scan
from molre_edge.scans.series import examine, examine_plain

POSITIONS = [(-15.0, -15.0, 5.0 * number) for number in range(6)]


def edit(dataset: Dataset, index: int) -> None:
    """What differs within a series, and forms of one value that are equal as numbers but not as they are written."""
    dataset.SliceLocation = [None, "-12.5", "1", "1.0", "2\\3", "-0"][index]
    dataset.InstanceNumber = [1, None, 3, 3, 5, 6][index]
    dataset.ImageOrientationPatient = ["1", "0" if index % 2 else "-0.0", "0", "0", "1", "0"]
    dataset.KVP = "120" if index < 4 else "120.0"
    dataset.ConvolutionKernel = "H31s" if index != 3 else "H60s"
    if index == 5:
        dataset.ImagePositionPatient = ["0", "0"]


def test_every_slice_is_read_as_alone_whatever_came_before(tmp_path: Path, write_series: Any) -> None:
    files = write_series(tmp_path / "a", POSITIONS, shape=(16, 16), edit=edit)
    read = 0
    for path in (*files, *reversed(files)):
        plain, alone = examine_plain(path), examine(path)
        if plain is None:
            continue
        read += 1
        assert repr(plain.frames) == repr(alone.frames)
        assert plain.digest() == alone.digest()
        assert (plain.path, plain.sop_uid, str(plain.problem)) == (alone.path, alone.sop_uid, str(alone.problem))
        assert plain.on_disk == alone.on_disk
    assert read >= 10


def test_a_file_that_ends_too_early_is_found_among_good_ones(tmp_path: Path, write_series: Any) -> None:
    files = write_series(tmp_path / "a", POSITIONS, shape=(64, 64))
    files[3].write_bytes(files[3].read_bytes()[:-4000])
    headers = [examine_plain(path) for path in files]
    codes = [header.problem.code if header is not None and header.problem else "" for header in headers]
    assert codes == ["", "", "", "corrupt_pixels", "", ""]


@pytest.mark.parametrize("syntax", ["", "1.2.840.10008.1.2.4.80"], ids=["uncompressed", "JPEG-LS"])
def test_each_file_is_opened_once_to_find_and_once_to_read(
    tmp_path: Path, write_series: Any, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    def compress(dataset: Dataset, _: int) -> None:
        if syntax:
            dataset.compress(syntax, encoding_plugin="pyjpegls")

    write_series(tmp_path / "a", edit=compress)
    opened, plain_open = [], os.open

    def noted(path: Any, *args: Any, **kwargs: Any) -> int:
        opened.append(str(path))
        return plain_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", noted)
    [scan] = find_scans(tmp_path / "a").scans
    assert sum(name.endswith(".dcm") for name in opened) == 35
    read_scan(scan)
    assert sum(name.endswith(".dcm") for name in opened) == 2 * 35
