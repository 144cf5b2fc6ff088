"""Precisions, tensor specifications, the grid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.errors import ConfigError
from molre_edge.specs import HU_MAX, HU_MIN, Grid, Precision, TensorSpec

GOOD: dict[str, Any] = {"slices": 8, "rows": 224, "cols": 192}


def test_a_precision_is_the_word_in_file_names() -> None:
    assert [f"{precision}" for precision in Precision] == ["fp32", "fp16", "int8", "fp8"]
    assert Precision("fp16") is Precision.FP16
    assert json.dumps(Precision.INT8) == '"int8"'


@given(
    st.text(min_size=1),
    st.sampled_from(["float16", "float32"]),
    st.lists(st.none() | st.integers(1, 4096), max_size=5),
)
def test_a_spec_comes_back_equal_from_json(name: str, dtype: str, shape: list[int | None]) -> None:
    spec = TensorSpec(name, dtype, tuple(shape))
    assert TensorSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_reads_as_in_a_message() -> None:
    assert str(TensorSpec("volume", "float32", (None, 8, 224, 224))) == "volume: float32 [batch, 8, 224, 224]"


def test_a_grid_knows_its_shape_and_pixels() -> None:
    grid = Grid(**GOOD, field_mm=224.0)
    assert grid.shape == (8, 224, 192)
    assert grid.pixel_mm == 1.0


def test_hounsfield_units_are_those_of_twelve_bits() -> None:
    assert HU_MAX - HU_MIN == 2**12 - 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("slices", 0, r"grid\.slices: expected a whole number from 1 to 512, got 0"),
        ("slices", True, r"grid\.slices: expected a whole number from 1 to 512, got True"),
        ("rows", 15, r"grid\.rows: expected a whole number from 16 to 2048, got 15"),
        ("cols", 2049, r"grid\.cols: expected a whole number from 16 to 2048, got 2049"),
        ("cols", 224.0, r"grid\.cols: expected a whole number from 16 to 2048, got 224\.0"),
        ("cols", "224", r"grid\.cols: expected a whole number from 16 to 2048, got '224'"),
        ("field_mm", 49, r"grid\.field_mm: expected 50 to 1000 millimetres, got 49"),
        ("field_mm", float("nan"), r"grid\.field_mm: expected 50 to 1000 millimetres, got nan"),
        ("height_mm", 1001.0, r"grid\.height_mm: expected 20 to 1000 millimetres, got 1001\.0"),
        ("height_mm", None, r"grid\.height_mm: expected 20 to 1000 millimetres, got None"),
        (
            "interpolation",
            "lanczos",
            r"grid\.interpolation: .*linear, cubic, area, got 'lanczos'; nothing else",
        ),
        ("plane", "tumour", r"grid\.plane: expected one of head, centre, whole, got 'tumour'"),
        ("stack", ["every"], r"grid\.stack: expected one of head, centre, whole, spread, every, got \['every'\]"),
        ("between", None, r"grid\.between: expected one of mean, nearest, linear, cubic, area, got None"),
        ("antialias", 1, r"grid\.antialias: expected true or false, got 1"),
        ("slice_step", 2, r"grid\.slice_step: only for grid\.stack every, and the stack is head"),
        ("outside_hu", -3000, r"grid\.outside_hu: expected -1024 to 3071 HU, got -3000"),
        ("crop_above_hu", "air", r"grid\.crop_above_hu: expected -1024 to 3071 HU, got 'air'"),
        ("axes", "LPS", r"grid\.axes: .*S or I, then P or A and L or R .*got 'LPS'\. Slices are axial"),
        ("axes", "SPA", r"grid\.axes: .*got 'SPA'"),
        ("axes", "spl", r"grid\.axes: .*got 'spl'"),
        ("axes", 3, r"grid\.axes: .*got 3"),
    ],
)
def test_a_grid_that_no_head_fits_on_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Grid(**{**GOOD, name: value})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"interpolation": "area", "antialias": False}, r"grid\.antialias: false contradicts grid\.interpolation area"),
        ({"crop_above_hu": 0, "plane": "whole"}, r"grid\.crop_above_hu: only where the head .*stack is head"),
        ({"stack": "spread", "between": "linear"}, r"grid\.between: linear contradicts grid\.stack spread"),
    ],
)
def test_settings_of_a_grid_that_contradict_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Grid(**{**GOOD, **settings})
