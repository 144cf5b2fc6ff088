"""The field lies on the head, wherever it is in the body, and what is uncertain is said."""

from __future__ import annotations

import numpy as np
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans import HeadVolume
from molre_edge.scans.anatomy import check_head
from molre_edge.scans.coarse import shrink
from molre_edge.scans.grid import head_centre_mm, head_range_mm
from molre_edge.scans.head_place import find_head
from molre_edge.specs import Grid
from molre_edge.synthetic import make_head

GRID = Grid(slices=16, rows=96, cols=96)
PIXEL, STEP = 4.0, 5.0
WIDE = 140
"""Columns of the field of view: 560 mm."""


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    """HU (slices, rows, cols); air above and the neck below."""
    made = make_head(3, shape=(34, 60, 60), spacing_mm=(STEP, PIXEL, PIXEL))
    return np.asarray(made.hu, np.float32)


def as_volume(hu: np.ndarray) -> HeadVolume:
    positions = np.arange(len(hu)) * STEP
    return HeadVolume(np.asarray(hu, np.float32), positions, np.full(len(hu), STEP), (PIXEL, PIXEL), (), {})


def in_field(head: np.ndarray, below: int, above: int, col: int = 40) -> np.ndarray:
    """The head in a wide field of air, with so many slices added below and above it."""
    hu = np.full((len(head) + below + above, 80, WIDE), -1000.0, np.float32)
    hu[below : below + len(head), 10:70, col : col + 60] = head
    return hu


def cylinder(hu: np.ndarray, slices: slice, row: float, col: float, radius_mm: float, value: float) -> None:
    rows, cols = np.mgrid[: hu.shape[1], : hu.shape[2]]
    disc = ((rows - row) ** 2 + (cols - col) ** 2) * PIXEL**2 < radius_mm**2
    part = hu[slices]
    part[:, disc] = np.where(value > part[:, disc], value, part[:, disc])


def add_arm(hu: np.ndarray, slices: slice, col: float, row: float = 40.0) -> None:
    cylinder(hu, slices, row, col, 42.0, 45.0)
    cylinder(hu, slices, row, col, 14.0, 900.0)


def add_body(hu: np.ndarray, slices: slice) -> None:
    """A chest: soft tissue, lungs, a spine and ribs that are not closed in a slice."""
    rows, cols = np.mgrid[: hu.shape[1], : hu.shape[2]]
    y, x = (rows - 42) * PIXEL, (cols - 70) * PIXEL
    part = hu[slices]
    part[:, (x / 190) ** 2 + (y / 110) ** 2 < 1] = 40.0
    for side in (-1, 1):
        part[:, ((x - side * 85) / 60) ** 2 + (y / 75) ** 2 < 1] = -850.0
    part[:, x**2 + (y - 70) ** 2 < 22**2] = 500.0
    part[:, x**2 + (y - 70) ** 2 < 9**2] = 30.0
    for angle in np.arange(0, 360, 30):
        a = np.radians(angle + 8)
        part[:, (x - 165 * np.cos(a)) ** 2 + (y - 92 * np.sin(a)) ** 2 < 9**2] = 600.0


def add_shoulders(hu: np.ndarray, below: int) -> None:
    hu[:below, 25:55, 5 : WIDE - 5] = 40.0


def look(hu: np.ndarray) -> tuple[float, tuple[float, float], tuple[str, ...]]:
    """Upper end of the field; its centre (row, col) in mm; codes of all warnings."""
    volume = as_volume(hu)
    coarse = shrink(volume)
    warnings = check_head(coarse)
    bottom, top = head_range_mm(volume, coarse, GRID.height_mm)
    centre = head_centre_mm(coarse, find_head(coarse, GRID.height_mm), bottom, top)
    return top, centre, tuple(warning.code for warning in warnings)


_alone: dict[int, tuple[float, tuple[float, float]]] = {}


def alone(head: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Upper end and centre of the field over nothing but the head."""
    if id(head) not in _alone:
        _alone[id(head)] = look(in_field(head, 0, 0))[:2]
    return _alone[id(head)]


def check_place(hu: np.ndarray, head: np.ndarray, below: int, col: int = 40, codes: tuple[str, ...] = ()) -> None:
    """The field must lie as it does over the head alone, and say what it should."""
    top, centre, said = look(hu)
    own_top, own_centre = alone(head)
    own_centre = own_centre[0], own_centre[1] + (col - 40) * PIXEL
    assert abs(top - below * STEP - own_top) <= STEP
    assert np.abs(np.subtract(centre, own_centre)).max() <= 8.0
    assert said == codes


@pytest.mark.parametrize("above_mm", [-20, 15, 60, 250])
@pytest.mark.parametrize("arms", [(20, 118), (20,), (34, 104)], ids=["both", "one", "both at the ears"])
def test_raised_arms_do_not_move_the_field(head: np.ndarray, above_mm: int, arms: tuple[int, ...]) -> None:
    hu = in_field(head, 4, 60)
    add_shoulders(hu, 4)
    end = alone(head)[0] + 4 * STEP + above_mm
    for col in arms:
        add_arm(hu, slice(0, int(end / STEP)), col)
    check_place(hu, head, 4, codes=("head_not_on_top",) if above_mm > 0 else ())


def test_hands_on_the_head_are_told_of(head: np.ndarray) -> None:
    hu = in_field(head, 0, 40)
    top = int(alone(head)[0] / STEP)
    for col in (58, 82):
        add_arm(hu, slice(top - 4, top + 24), col)
    found, _, codes = look(hu)
    assert codes == ("head_place_uncertain",)
    assert abs(found - top * STEP) <= 45.0


def test_a_whole_body_is_read_at_its_head(head: np.ndarray) -> None:
    hu = in_field(head, 100, 60)
    add_body(hu, slice(0, 100))
    check_place(hu, head, 100)
    for col in (20, 118):
        add_arm(hu, slice(60, 190), col)
    check_place(hu, head, 100, codes=("head_not_on_top",))


def test_a_head_beside_wide_shoulders_is_in_the_middle_of_the_field(head: np.ndarray) -> None:
    hu = in_field(head, 8, 0, col=5)
    hu[:8] = 40.0
    check_place(hu, head, 8, col=5)


def test_of_two_heads_the_larger_is_taken_and_that_is_said(head: np.ndarray) -> None:
    hu = in_field(head, 0, 0, col=0)
    hu[10:, 10:70, 75:135] = head[10:]  # its base is not there
    top, centre, codes = look(hu)
    own_top, own_centre, _ = look(in_field(head, 0, 0, col=0))
    assert top == own_top and abs(centre[1] - own_centre[1]) <= 8.0
    assert codes == ("head_place_uncertain",)


@pytest.mark.parametrize("body", [False, True])
@pytest.mark.parametrize("air", [0, 6])
def test_a_head_that_hangs_down_is_refused(head: np.ndarray, body: bool, air: int) -> None:
    hu = in_field(head, 100 if body else 0, air)
    if body:
        add_body(hu, slice(0, 100))
    with pytest.raises(ScanError, match="takes feet for head") as caught:
        look(hu[::-1])
    assert caught.value.code == "upside_down"


def test_a_chest_without_a_head_is_no_head() -> None:
    hu = np.full((60, 80, WIDE), -1000.0, np.float32)
    add_body(hu, slice(0, 60))
    with pytest.raises(ScanError) as caught:
        look(hu)
    assert caught.value.code in ("not_head", "no_brain_tissue")


def test_an_opening_in_the_skull_does_not_lower_the_top(head: np.ndarray) -> None:
    hu = in_field(head, 0, 0)
    plain = look(hu)
    opened = hu.copy()
    part = opened[12:26, :30, 40:66]  # front right, 14 slices of bone without its flap
    part[part > 90.0] = 30.0
    assert look(opened)[0] == plain[0]
    assert look(opened)[2] == ()


@pytest.mark.parametrize(
    ("seed", "finding"),
    [
        (1, None),
        (2, None),
        (5, "craniotomy_or_craniectomy"),
        (6, "displaced_skull_fracture"),
        (7, "hydrocephalus"),
        (8, "pneumocephalus"),
    ],
)
def test_heads_on_top_keep_the_place_that_the_body_alone_gives(seed: int, finding: str | None) -> None:
    made = make_head(seed, [finding] if finding else [], shape=(32, 64, 64), spacing_mm=(5.0, 3.6, 3.6))
    volume = HeadVolume(
        made.hu, np.arange(32) * 5.0, np.full(32, 5.0), (3.6, 3.6), (), {}
    )  # fmt: skip
    coarse = shrink(volume)
    found = find_head(coarse, GRID.height_mm)
    area = coarse.body.sum(axis=(1, 2)) * coarse.pixel_mm[0] * coarse.pixel_mm[1]
    assert found.body is coarse.body and found.warnings == ()
    assert found.top == np.flatnonzero(area >= 500.0)[-1]
