"""What happens just inside and just beyond each limit of docs/concepts/scans.md by which a head is found and judged.

Every skull here is a box: a rectangle of brain in a rectangle of bone in a rectangle of skin, so that its areas,
widths and volumes are exact.
"""

from __future__ import annotations

import numpy as np
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans.anatomy import check_head
from molre_edge.scans.coarse import Coarse, shrink
from molre_edge.scans.grid import head_range_mm
from molre_edge.scans.head_place import HeadPlace, find_head
from molre_edge.scans.head_size import check_head_size
from molre_edge.scans.scan_records import HeadVolume

PIXEL, STEP = 4.0, 5.0
BRAIN, BONE, SKIN, AIR = 35.0, 900.0, 40.0, -1000.0
SIDE = 64
"""Pixels of a side of the picture: 256 mm."""


def box(rows: int, cols: int, side: int = SIDE) -> tuple[slice, slice]:
    """The place of a rectangle of so many pixels in the middle of the picture."""
    top, left = (side - rows) // 2, (side - cols) // 2
    return slice(top, top + rows), slice(left, left + cols)


def slice_of(
    rows: int, cols: int, *, bone: int = 2, body: tuple[int, int] | None = None, brain: float = BRAIN, side: int = SIDE
) -> np.ndarray:
    """One slice of a skull around so many pixels of brain; without `body` it has 2 pixels of skin."""
    plane = np.full((side, side), AIR, np.float32)
    plane[box(*(body or (rows + 2 * bone + 4, cols + 2 * bone + 4)), side)] = SKIN
    plane[box(rows + 2 * bone, cols + 2 * bone, side)] = BONE
    plane[box(rows, cols, side)] = brain
    return plane


def coarse_of(*slices: np.ndarray) -> Coarse:
    """A volume of slices, from the lowest to the highest, as it is looked at."""
    return shrink(volume_of(*slices))


def volume_of(*slices: np.ndarray) -> HeadVolume:
    positions = np.arange(len(slices)) * STEP
    return HeadVolume(np.stack(slices), positions, np.full(len(slices), STEP), (PIXEL, PIXEL), (), {})


def skin(rows: int, cols: int) -> np.ndarray:
    plane = np.full((SIDE, SIDE), AIR, np.float32)
    plane[box(rows, cols)] = SKIN
    return plane


def lid(rows: int, cols: int) -> list[np.ndarray]:
    """The top of a skull, then skin."""
    closed = slice_of(rows, cols)
    closed[closed == BRAIN] = BONE
    return [closed, skin(rows + 8, cols + 8)]


def codes(place: HeadPlace) -> tuple[str, ...]:
    return tuple(warning.code for warning in place.warnings)


# ------------------------------------------------------------------------------------------------- where the head lies


def with_arm(slices: list[np.ndarray]) -> tuple[Coarse, int]:
    """A head on shoulders, with an arm that reaches 100 mm above it; and the number of the head's highest slice."""
    shoulders = [skin(30, SIDE)] * 2
    above = [np.full((SIDE, SIDE), AIR, np.float32) for _ in range(20)]
    whole = [plane.copy() for plane in (*shoulders, *slices, *above)]
    for plane in whole:
        plane[20:30, :8] = SKIN
    return coarse_of(*whole), len(shoulders) + len(slices) - 1


def is_found(slices: list[np.ndarray]) -> bool:
    """Whether the field starts at the head below the arm; the arm's end is its top where no skull is found."""
    coarse, top = with_arm(slices)
    place = find_head(coarse)
    if place.top == top:
        assert codes(place) == ("head_not_on_top",)
        return True
    assert place.top == len(coarse.hu) - 1 and place.warnings == () and place.body is coarse.body
    return False


@pytest.mark.parametrize(
    ("rows", "cols", "found"),
    [(12, 13, False), (16, 10, True), (55, 34, True), (48, 43, False)],
    ids=["25.0 cm2", "25.6 cm2", "299 cm2", "330 cm2"],  # closing openings rounds the corners of a box
)
def test_a_skull_s_space_has_25_to_300_cm2(rows: int, cols: int, found: bool) -> None:
    body = (min(rows + 8, SIDE), cols + 8)
    head = [slice_of(rows, cols, body=body)] * 14
    assert is_found([*head, *lid(rows, cols)]) is found


@pytest.mark.parametrize(("count", "found"), [(9, False), (10, True)], ids=["144 mL", "160 mL"])
def test_a_skull_s_space_has_150_ml(count: int, found: bool) -> None:
    assert is_found([*[slice_of(20, 10)] * count, *lid(20, 10)]) is found  # 16 mL a slice


@pytest.mark.parametrize(("pixels", "found"), [(6, True), (7, False)], ids=["24 mm", "28 mm"])
def test_an_opening_of_24_mm_is_closed(pixels: int, found: bool) -> None:
    plane = slice_of(40, 30)
    front = box(40, 30)[0].start
    plane[front - 4 : front, SIDE // 2 : SIDE // 2 + pixels] = SKIN
    assert is_found([*[plane] * 14, *lid(40, 30)]) is found


@pytest.mark.parametrize("part", [0.4, 0.6])
def test_half_of_the_space_is_brain(part: float) -> None:
    """Sinuses hold air, orbits and marrow fat."""
    plane = slice_of(40, 30)
    rows, cols = box(40, 30)
    plane[rows.start + round(40 * part) : rows.stop, cols] = -80.0
    assert is_found([*[plane] * 14, *lid(40, 30)]) is (part > 0.5)


@pytest.mark.parametrize(
    ("sides", "said"), [(1, ()), (2, ("head_place_uncertain",))], ids=["front removed", "front and back removed"]
)
def test_where_skull_was_removed_three_sides_show_its_place(sides: int, said: tuple[str, ...]) -> None:
    """70 mm above the last closed slice: more than skin and hair reach."""
    whole = slice_of(40, 30)
    rows, cols = box(40, 30)
    opened = whole.copy()
    opened[rows.start - 4 : rows.start, cols] = SKIN
    if sides == 2:
        opened[rows.stop : rows.stop + 4, cols] = SKIN
    slices = [*[whole] * 10, *[opened] * 14]
    place = find_head(coarse_of(*slices, skin(48, 38)))
    assert codes(place) == said
    assert place.top == (len(slices) if not said else 13)


@pytest.mark.parametrize(("count", "top"), [(9, 22), (10, 17)], ids=["45 mm", "50 mm"])
def test_tissue_reaches_45_mm_above_the_space(count: int, top: int) -> None:
    """Of what goes on farther, half of that is taken, and it is said."""
    place = find_head(coarse_of(*[slice_of(40, 30)] * 14, *[skin(40, 30)] * count))
    assert place.top == top
    assert codes(place) == (() if count == 9 else ("head_place_uncertain",))


@pytest.mark.parametrize(("gap", "said"), [(1, ()), (2, ("head_not_on_top",))])
def test_what_lies_6_mm_above_the_head_is_part_of_it(gap: int, said: tuple[str, ...]) -> None:
    head = [*[slice_of(40, 30)] * 14, *lid(40, 30)]
    coarse, top = with_arm(head)
    hu = coarse.hu[: top + 1 + gap]
    place = find_head(coarse_of(*hu))
    assert codes(place) == said
    assert place.top == (top if said else top + gap)


def test_only_tissue_over_the_skull_and_16_mm_around_counts_beside_an_arm() -> None:
    head = [slice_of(30, 20, body=(60, 50))] * 14
    coarse, _ = with_arm([*head, *lid(30, 20)])
    occupied = find_head(coarse).body.any(axis=0)
    rows, cols = (np.flatnonzero(occupied.any(axis=axis)) for axis in (1, 0))
    assert (len(rows) - 30) * PIXEL == (len(cols) - 20) * PIXEL == 2 * 16.0


@pytest.mark.parametrize("part", [0.045, 0.055])
def test_less_than_5_percent_of_the_tissue_beside_the_head_does_not_count(part: float) -> None:
    rows, cols = 24, 20
    head = [slice_of(rows, cols)] * 14
    lower = [plane.copy() for plane in head]
    _, right = box(rows, cols)
    face = right.stop + 4 + 8  # 16 mm of skull and skin, 32 mm more for a face
    own = sum(np.count_nonzero(plane > AIR) for plane in (*head, *lid(rows, cols)))
    total = own + (face - right.stop - 4) * 8 * 12
    wanted = round(part * total / (1 - part) / (8 * 12))  # columns of a shoulder of 8 rows, 12 slices
    for plane in lower[:12]:
        plane[28:36, right.stop + 4 : face + wanted] = SKIN
    coarse = coarse_of(*lower, *lid(rows, cols))
    assert (find_head(coarse).body is coarse.body) is (part < 0.05)


def test_a_head_and_neck_is_read_from_the_top_of_the_head_down() -> None:
    neck = skin(30, 30)
    neck[30:34, 30:34] = BONE
    volume = volume_of(*[skin(40, SIDE)] * 10, *[neck] * 30, *[slice_of(40, 30)] * 24, *lid(40, 30))
    coarse = shrink(volume)
    assert find_head(coarse).warnings == ()
    assert head_range_mm(volume, coarse, 180.0) == (65 * STEP + STEP / 2 - 180.0, 65 * STEP + STEP / 2)


@pytest.mark.parametrize(("count", "refused"), [(12, False), (13, True)], ids=["60 mm", "65 mm"])
def test_a_neck_above_a_skull_that_ends_in_air_is_upside_down(count: int, refused: bool) -> None:
    air = np.full((SIDE, SIDE), AIR, np.float32)
    coarse = coarse_of(air, *reversed(lid(40, 30)), *[slice_of(40, 30)] * 20, *[skin(20, 20)] * count, air)
    if not refused:
        assert codes(find_head(coarse)) == ("head_place_uncertain",)
        return
    with pytest.raises(ScanError) as caught:
        find_head(coarse)
    assert caught.value.code == "upside_down"


# -------------------------------------------------------------------------------------------------- what the head shows


def judged(*slices: np.ndarray) -> str:
    """The code of a refusal, or of all warnings."""
    try:
        return " ".join(warning.code for warning in check_head(coarse_of(*slices)))
    except ScanError as error:
        return error.code


def closed_head(*middle: np.ndarray) -> list[np.ndarray]:
    """Slices between a base and a top that need no warning."""
    return [skin(30, 30), *middle, *lid(40, 30)]


@pytest.mark.parametrize(
    ("rows", "cols", "said"), [(12, 13, "no_brain_tissue"), (16, 10, "")], ids=["149.8 mL", "153.6 mL"]
)
def test_150_ml_of_brain_lie_within_bone(rows: int, cols: int, said: str) -> None:
    assert judged(*closed_head(*[slice_of(rows, cols)] * 12)) == said


@pytest.mark.parametrize(
    ("value", "counts"), [(-16.0, False), (-14.0, True), (89.0, True), (91.0, False)], ids="{} HU".format
)
def test_brain_has_minus_15_to_90_hu(value: float, counts: bool) -> None:
    said = judged(*closed_head(*[slice_of(40, 30, brain=value)] * 14))
    assert said == ("unusual_brain_values" if counts else "no_brain_tissue")


@pytest.mark.parametrize(("value", "said"), [(5.0, ""), (4.0, "u"), (65.0, ""), (66.0, "u")])
def test_the_median_within_the_skull_is_5_to_65_hu(value: float, said: str) -> None:
    assert judged(*closed_head(*[slice_of(40, 30, brain=value)] * 14)) == ("unusual_brain_values" if said else "")


@pytest.mark.parametrize(("cols", "said"), [(41, ""), (43, "no_brain_tissue")], ids=["5.1 %", "4.9 %"])
def test_bone_is_more_than_5_percent_of_a_head_s_slice(cols: int, said: str) -> None:
    plane = slice_of(20, 20, bone=1, body=(40, cols))  # 84 pixels of bone
    assert judged(*[plane] * 14, skin(20, 20)) == said


@pytest.mark.parametrize(("air", "said"), [(24, "not_hounsfield"), (26, "head_cut_off")], ids=["0.96 %", "1.04 %"])
def test_a_hundredth_of_the_picture_is_air(air: int, said: str) -> None:
    """Also where the field of view ends within the head: nothing else shows that the values are Hounsfield units."""
    plane = slice_of(30, 30, body=(50, 50), side=50)
    plane[0, :air] = AIR
    found = judged(*[plane] * 16)
    assert said in found.split()


@pytest.mark.parametrize(("rows", "said"), [(18, ""), (19, "vertex_missing")], ids=["28.8 cm2", "30.4 cm2"])
def test_a_top_slice_with_30_cm2_of_brain_is_not_the_top(rows: int, said: str) -> None:
    assert judged(skin(30, 30), *[slice_of(40, 30)] * 14, slice_of(rows, 10)) == said


@pytest.mark.parametrize(("rows", "said"), [(28, ""), (29, "base_missing")], ids=["89.6 cm2", "92.8 cm2"])
def test_a_lowest_slice_with_90_cm2_of_brain_is_not_the_base(rows: int, said: str) -> None:
    assert judged(slice_of(rows, 20), *[slice_of(40, 30)] * 14, *lid(40, 30)) == said


@pytest.mark.parametrize(
    ("free", "length", "said"),
    [(1, 30, ""), (0, 7, ""), (0, 8, "head_cut_off")],
    ids=["a pixel of air", "28 mm", "32 mm"],
)
def test_a_head_that_lies_at_the_edge_of_the_picture_for_30_mm_is_cut_off(free: int, length: int, said: str) -> None:
    plane = slice_of(40, 30)
    right = box(40, 38)[1].stop
    plane[32 : 32 + length, right : SIDE - free] = SKIN
    assert judged(*closed_head(*[plane] * 14)) == said


@pytest.mark.parametrize(("slices", "said"), [(1, ""), (2, "head_cut_off")], ids=["1 of 15", "2 of 15"])
def test_a_tenth_of_the_slices_with_brain_make_a_head_cut_off(slices: int, said: str) -> None:
    plane = slice_of(40, 30)
    cut = plane.copy()
    cut[20:40, box(40, 38)[1].stop :] = SKIN
    assert judged(*closed_head(*[cut] * slices, *[plane] * (15 - slices))) == said


# ------------------------------------------------------------------------------------------------ how large the head is


def size(rows: int, cols: int, count: int) -> str:
    side = rows + 12
    try:
        found = check_head_size(coarse_of(*[slice_of(rows, cols, side=side)] * count))
    except ScanError as error:
        return error.code
    return " ".join(warning.code for warning in found)


@pytest.mark.parametrize(
    ("rows", "count", "said"),
    [
        (14, 8, "impossible_size"),  # 56 mm
        (15, 8, "unusual_head_size"),  # 60 mm
        (22, 12, "unusual_head_size"),  # 88 mm
        (23, 12, ""),  # 92 mm
        (52, 12, ""),  # 208 mm
        (53, 12, "unusual_head_size"),  # 212 mm
        (60, 12, "unusual_head_size"),  # 240 mm
        (61, 12, "impossible_size"),  # 244 mm
        (50, 38, ""),  # 190 mm high, 200 mm wide
        (50, 39, "unusual_head_size"),
        (50, 45, "unusual_head_size"),  # 225 mm high
        (50, 47, "impossible_size"),  # 235 mm high
    ],
)
def test_the_inside_of_a_skull_has_60_to_240_mm_and_is_at_most_1_15_times_as_high(
    rows: int, count: int, said: str
) -> None:
    assert size(rows, min(rows, 40), count) == said
