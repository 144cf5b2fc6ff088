from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration import samples as module
from molre_edge.calibration.result_files import result_key
from molre_edge.calibration.samples import (
    Sample,
    VolumeReader,
    content_of,
    describe_scans,
    select_scans,
    split_scans,
)
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.errors import CalibrationError, ConfigError
from molre_edge.parity import DEFAULT_LIMITS
from molre_edge.scans import FoundScans, ScanSource, find_scans, read_scan
from molre_edge.specs import Grid, Precision

GRID = Grid(slices=4, rows=32, cols=32)
SETTINGS = CalibrationSettings()


def sample(number: int, labelled: bool = False) -> Sample:
    source = ScanSource(Path(f"{number}"), (Path(f"{number}"),), "dicom")
    return Sample(source, f"{number:064x}", np.array([float(number)]), np.zeros(3) if labelled else None)


def test_no_scan_is_in_both_parts_and_the_odd_one_is_in_one() -> None:
    samples = [sample(number) for number in (*range(20), 1000)]
    split = split_scans(samples, CalibrationSettings(slices=40, validation_scans=5), slices=4)
    ranges, judging = ({each.content for each in part} for part in (split.calibration, split.validation))
    assert not ranges & judging
    assert (len(ranges), len(judging), len(split.unused)) == (10, 5, 6)
    assert samples[-1].content in ranges | judging


@pytest.mark.parametrize(("there", "expected"), [(2, (1, 1)), (3, (2, 1)), (9, (6, 3)), (100, (92, 8))])
def test_a_third_is_kept_for_judging_up_to_32_slices_worth(there: int, expected: tuple[int, int]) -> None:
    split = split_scans([sample(number) for number in range(there)], SETTINGS, slices=4)
    assert (len(split.calibration), len(split.validation)) == expected


def test_labelled_scans_are_judged_on_half_of_all_at_most() -> None:
    samples = [sample(number, labelled=number % 2 == 0) for number in range(20)]
    split = split_scans(samples, SETTINGS, slices=4)
    assert len(split.validation) == 10
    assert all(each.labels is not None for each in split.validation)


@pytest.mark.parametrize(("validation", "expected"), [(None, 10), (4, 4)])
def test_one_labelled_scan_is_judged_and_unlabelled_ones_fill_up(validation: int | None, expected: int) -> None:
    samples = [sample(number, labelled=number == 7) for number in range(20)]
    split = split_scans(samples, CalibrationSettings(validation_scans=validation), slices=4)
    assert len({each.content for each in split.validation}) == len(split.validation) == expected
    assert samples[7] in split.validation
    assert not set(split.validation) & set(split.calibration)


def test_the_most_typical_scan_is_judged_on() -> None:
    split = split_scans([sample(number) for number in (*range(9), 1000)], SETTINGS, slices=32)
    assert split.validation[0].appearance[0] not in (0, 1000)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_scans_are_refused(count: int) -> None:
    with pytest.raises(CalibrationError, match="needs at least two"):
        split_scans([sample(number) for number in range(count)], SETTINGS, slices=4)


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"slices": 0}, {"validation_scans": 0}, {"search_share": 0.0}, {"confirm_share": 1.1}):
        with pytest.raises(ConfigError, match="calibration"):
            CalibrationSettings(**wrong)  # type: ignore[arg-type]


def test_of_a_large_folder_some_are_looked_at_from_end_to_end() -> None:
    scans = tuple(sample(number).source for number in range(1000))
    chosen = select_scans(FoundScans(scans, (), ()))
    assert len(chosen) == len(set(chosen)) == 256
    assert (chosen[0], chosen[-1]) == (scans[0], scans[-1])


def test_a_copy_of_a_scan_is_the_same_scan_and_is_taken_once(tiny_scans: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_scans / "head-1", tmp_path / "a")
    shutil.copytree(tiny_scans / "head-1", tmp_path / "b" / "renamed")
    sources = [source for folder in ("a", "b") for source in find_scans(tmp_path / folder).scans]
    contents = [content_of(source) for source in sources]
    assert contents[0] == contents[1]
    samples, problems = describe_scans(sources, contents, GRID)
    assert (len(samples), problems) == (1, [])


@pytest.mark.parametrize("labelled", ["a", "b"])
def test_of_two_copies_the_labelled_one_counts_and_the_key_can_be_made(
    tiny_scans: Path, tiny_bundle: Path, tmp_path: Path, labelled: str
) -> None:
    for name in ("a", "b"):
        shutil.copytree(tiny_scans / "head-1", tmp_path / name)
    sources = [source for name in ("a", "b") for source in find_scans(tmp_path / name).scans]
    contents = [content_of(source) for source in sources]
    labels = {source: np.zeros(3) for source in sources if labelled in source.path.parts[-2:]}
    assert len(labels) == 1
    [kept], _ = describe_scans(sources, contents, GRID, labels=labels.get)
    assert kept.labels is not None
    result_key(
        Bundle.open(tiny_bundle),
        contents,
        [labels.get(source) for source in sources],
        SETTINGS,
        DEFAULT_LIMITS[Precision.INT8],
    )


def test_slices_renamed_into_another_order_are_the_same_scan(tiny_scans: Path, tmp_path: Path) -> None:
    files = sorted((tiny_scans / "head-1").iterdir())
    (tmp_path / "turned").mkdir()
    for number, file in enumerate(reversed(files)):
        shutil.copy(file, tmp_path / "turned" / f"{number:03d}.dcm")
    [one], [other] = find_scans(tiny_scans / "head-1").scans, find_scans(tmp_path / "turned").scans
    assert content_of(one) == content_of(other)


def test_a_scan_that_changes_meanwhile_stops_the_calibration(tiny_scans: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_scans / "head-4.nii.gz", tmp_path / "head.nii.gz"))
    sources = find_scans(path).scans
    samples, _ = describe_scans(sources, [content_of(source) for source in sources], GRID)
    reader = VolumeReader(GRID, max_bytes=0)
    [volume] = reader.read(samples)
    assert (volume.shape, volume.dtype) == ((1, 4, 32, 32), np.float16)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CalibrationError, match="its files have changed"):
        list(reader.read(samples))


def test_the_first_volumes_are_kept_and_the_others_read_again(
    tiny_scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = find_scans(tiny_scans).scans
    samples, _ = describe_scans(sources, [content_of(source) for source in sources], GRID)
    read: list[Path] = []
    monkeypatch.setattr(module, "read_scan", lambda source: [read.append(source.path), read_scan(source)][1])
    reader = VolumeReader(GRID, max_bytes=2 * GRID.slices * GRID.rows * GRID.cols * 2 + 1)
    first, again = list(reader.read(samples)), list(reader.read(samples))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert read == [sample.source.path for sample in (*samples, *samples[2:])]
    assert len(read) == reader.reads(len(samples), 2)
    assert not first[0].flags.writeable


def test_of_a_large_folder_scans_with_labels_come_first() -> None:
    sources = [ScanSource(Path(f"{number:04d}"), (), "dicom") for number in range(1000)]
    chosen = select_scans(
        FoundScans(tuple(sources), (), ()),
        lambda source: np.array([1.0, np.nan]) if source.path.name.endswith("33") else np.array([np.nan, np.nan]),
    )
    assert len(chosen) == 256 and sorted(chosen, key=lambda source: source.path) == list(chosen)
    assert {source for source in sources if source.path.name.endswith("33")} <= set(chosen)


def test_other_series_of_the_study_are_content_since_one_of_them_may_be_read(tiny_scans: Path, tmp_path: Path) -> None:
    [source] = find_scans(tiny_scans / "head-1").scans
    other = Path(shutil.copy(tiny_scans / "head-4.nii.gz", tmp_path / "other.nii.gz"))
    study = replace(source, alternatives=find_scans(other).scans)
    before = content_of(study)
    assert before != content_of(source)
    other.write_bytes(other.read_bytes() + b"\0")
    assert content_of(study) != before


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([None, None], None),
        ([[np.nan, np.nan], None], None),
        ([[1.0, np.nan], [np.nan, 0.0]], [1.0, 0.0]),
        ([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], [np.nan, 0.0]),
        ([[1.0, np.nan], [0.0, np.nan]], None),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_copies_of_a_scan_pool_their_labels_and_what_they_contradict_is_unknown(
    rows: list[list[float] | None], expected: list[float] | None, turned: bool, tiny_scans: Path, tmp_path: Path
) -> None:
    table = {}
    for number, row in enumerate(reversed(rows) if turned else rows):
        path = Path(shutil.copy(tiny_scans / "head-4.nii.gz", tmp_path / f"{number}.nii.gz"))
        table[path.name] = None if row is None else np.array(row)
    sources = find_scans(tmp_path).scans
    contents = [content_of(source) for source in sources]
    [one], _ = describe_scans(sources, contents, GRID, labels=lambda source: table[source.path.name])
    assert one.copies == len(rows)
    assert (one.labels is None) == (expected is None)
    np.testing.assert_equal(one.labels, None if expected is None else np.array(expected))
