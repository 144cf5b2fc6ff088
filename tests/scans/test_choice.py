"""Which volume of a study is chosen, and the reason that is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.scans import find_scans, read_scan


def axial(low: float, high: float, step: float) -> list[tuple[float, float, float]]:
    return [(-63.0, -63.0, float(z)) for z in np.arange(low, high + 1e-6, step)]


def write(write_series: Any, folder: Path, positions: Any, **attributes: Any) -> None:
    """Small empty pictures: the choice looks at headers only."""
    stack = np.full((len(positions), 16, 16), -1000.0)
    write_series(folder, positions, stack=stack, study="1.2.3", pixel=(8.0, 8.0), **attributes)


def chosen(folder: Path) -> tuple[str, str]:
    [scan] = find_scans(folder).scans
    return scan.path.name, scan.candidates[0].reason


def test_coverage_counts_the_thickness_of_the_slices(tmp_path: Path, write_series: Any) -> None:
    write(write_series, tmp_path / "soft", axial(2.5, 137.5, 5), thickness=5.0, SeriesNumber=5)  # 140 mm
    write(
        write_series, tmp_path / "bone", axial(0.5, 140.5, 1), thickness=1.0, SeriesNumber=2, ConvolutionKernel="H70h"
    )  # 141 mm
    assert chosen(tmp_path) == ("soft", "it has a smooth kernel, not a sharp one")


def test_a_volume_that_covers_20_mm_more_is_preferred(tmp_path: Path, write_series: Any) -> None:
    write(write_series, tmp_path / "soft", axial(2.5, 112.5, 5), thickness=5.0)
    write(write_series, tmp_path / "bone", axial(2.5, 137.5, 5), thickness=5.0, ConvolutionKernel="H70h")
    assert chosen(tmp_path) == ("bone", "it covers more of the head")


@pytest.mark.parametrize("first", ["ORIGINAL", "DERIVED"])
@pytest.mark.parametrize("word", ["VMI", "MAT_REMOVED", "MAT_MODIFIED"])
def test_a_multi_energy_image_is_never_preferred(tmp_path: Path, write_series: Any, first: str, word: str) -> None:
    positions = axial(2.5, 137.5, 5)
    write(write_series, tmp_path / "special", positions, ImageType=[first, "PRIMARY", "AXIAL", word], SeriesNumber=1)
    write(
        write_series, tmp_path / "standard", positions[:20], ImageType=["DERIVED", "SECONDARY", "AXIAL"],
        ConvolutionKernel="H70h", ContrastBolusAgent="X", SeriesNumber=9,
    )  # fmt: skip
    assert chosen(tmp_path) == ("standard", "it is a standard CT, not a multi-energy image")


def test_a_multi_energy_image_alone_is_read_with_a_warning_and_only_in_hounsfield_units(
    tmp_path: Path, write_series: Any
) -> None:
    kind = ["DERIVED", "PRIMARY", "AXIAL", "VMI"]
    write_series(tmp_path / "a", ImageType=kind)
    [scan] = find_scans(tmp_path / "a").scans
    assert {warning.code for warning in read_scan(scan).warnings} == {"derived_series", "multi_energy"}
    write(write_series, tmp_path / "b", axial(2.5, 137.5, 5), ImageType=kind, RescaleType="HU_MOD")
    [entry] = find_scans(tmp_path / "b").rejected
    assert entry.code == "not_hounsfield" and "RescaleType (0028,1054) is HU_MOD" in entry.reason


def test_hounsfield_in_words_is_the_unit(tmp_path: Path, write_series: Any) -> None:
    write(write_series, tmp_path, axial(2.5, 137.5, 5), RescaleType="HOUNSFIELD")
    assert len(find_scans(tmp_path).scans) == 1


def test_the_only_volume_says_so(tmp_path: Path, write_series: Any) -> None:
    write(write_series, tmp_path, axial(2.5, 137.5, 5))
    assert chosen(tmp_path)[1] == "the only usable volume of the study"


RULES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("is a standard CT, not a multi-energy image", {}, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "VMI"]}),
    ("has one image at each position", {}, {"positions": [p for p in axial(2.5, 137.5, 5) for _ in range(2)]}),
    ("has original, not derived slices", {}, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}),
    ("has a field of view of a head", {}, {"pixel": (9.0, 9.0)}),  # 40 x 9 = 360 mm
    ("names the head as the body part", {}, {"BodyPartExamined": ""}),
    ("covers more of the head", {}, {"positions": axial(2.5, 112.5, 5)}),
    ("has slices at most 6 mm apart", {}, {"positions": axial(4.0, 136.0, 8), "thickness": 8.0}),
    ("has a smooth kernel, not a sharp one", {}, {"ConvolutionKernel": "H70h"}),
    ("is without contrast agent", {}, {"ContrastBolusAgent": "IOHEXOL"}),
    ("has finer slices", {}, {"positions": axial(3.0, 135.0, 6), "thickness": 6.0}),
    ("has the lower series number", {"SeriesNumber": 1}, {"SeriesNumber": 2}),
]
"""Every rule of docs/concepts/scans.md in its order: in words, what the better volume has, and the other."""


@pytest.mark.parametrize("at", range(len(RULES)), ids=[words for words, _, _ in RULES])
def test_each_rule_comes_before_all_that_follow_it(tmp_path: Path, write_series: Any, at: int) -> None:
    """The better volume by one rule is the worse by every later one that its slices can break too."""
    words, better, worse = RULES[at]
    for _, good, bad in RULES[at + 1 :]:
        better = {**bad, **better}
        worse = {**good, **worse}
    plain = {"positions": axial(2.5, 137.5, 5), "pixel": (6.0, 6.0), "thickness": 5.0}
    for name, attributes in (("better", {**plain, **better}), ("worse", {**plain, **worse})):
        stack = np.full((len(attributes["positions"]), 40, 40), -1000.0)
        write_series(tmp_path / name, stack=stack, study="1.2.3", **attributes)
    [scan] = find_scans(tmp_path).scans
    assert (scan.path.name, scan.candidates[0].reason) == ("better", f"it {words}")
    assert scan.candidates[1].reason == f"the chosen one {words}"


def test_among_equals_the_choice_is_by_uid_and_the_same_everywhere(tmp_path: Path, write_series: Any) -> None:
    for name, uid in (("a", "1.2.9"), ("b", "1.2.5")):
        write(write_series, tmp_path / name, axial(2.5, 137.5, 5), SeriesInstanceUID=uid)
    [scan] = find_scans(tmp_path).scans
    assert scan.path.name == "b"
    assert (
        scan.candidates[1].reason == "the chosen one is equal in all that counts and comes first by UID, path or name"
    )


@pytest.mark.parametrize(
    ("better", "worse", "words"),
    [
        ({"pixel": (8.75, 8.75)}, {"pixel": (8.8, 8.8)}, "has a field of view of a head"),  # 350 and 352 mm
        (
            {"positions": axial(3.0, 135.0, 6.0)},
            {"positions": axial(3.0, 135.2, 6.01)},
            "has slices at most 6 mm apart",
        ),
    ],
)
def test_the_field_of_view_is_large_beyond_350_mm_and_slices_thick_beyond_6_mm(
    tmp_path: Path, write_series: Any, better: dict[str, Any], worse: dict[str, Any], words: str
) -> None:
    plain = {"positions": axial(2.5, 137.5, 5), "pixel": (6.0, 6.0), "thickness": 6.0, "study": "1.2.3"}
    for name, attributes in (("better", {**plain, **better}), ("worse", {**plain, **worse})):
        stack = np.full((len(attributes["positions"]), 40, 40), -1000.0)
        write_series(tmp_path / name, stack=stack, SeriesNumber=int(name == "better"), **attributes)
    assert chosen(tmp_path) == ("better", f"it {words}")
