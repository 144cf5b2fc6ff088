"""Numbers are shown with the digits that matter, and never on the wrong side of a limit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.parity.text import (
    area,
    auc_difference,
    cosine,
    digits_beside,
    milliseconds,
    number,
    percent,
    plain,
    probability,
    rounded,
    typeset,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (0.0, "0"),
        (-0.0, "0"),
        (3, "3"),
        (1800.0, "1800"),
        (-7.0, "−7"),
        (0.01, "0.01"),
        (0.012345, "0.0123"),
        (0.00099999, "0.001"),
        (0.000324, "0.000324"),
        (0.0000324, "3.24e−5"),
        (-1e-5, "−1e−5"),
        (12.54, "12.5"),
        (1234.5, "1234"),
        (999.96, "1000"),
        (2.5e7, "2.5e7"),
    ],
)
def test_a_number_keeps_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_number_may_show_its_sign_or_line_up_with_others() -> None:
    assert number(0.012, signed=True) == "+0.012"
    assert number(-0.012, signed=True) == "−0.012"
    assert number(0.0, signed=True) == "0"
    assert number(0.01, aligned=True) == "0.0100"
    assert number(2e-5, aligned=True) == "2.00e−5"


@given(st.floats(-1e300, 1e300), st.integers(3, 17))
def test_a_number_can_be_read_back_within_its_digits(value: float, digits: int) -> None:
    assert float(number(value, digits).replace("−", "-")) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits))


@given(st.floats(0, 2), st.floats(0, 2))
def test_a_rounded_value_stays_on_its_side_of_the_limit(measured: float, limit: float) -> None:
    assert (float(rounded(measured, limit)) <= limit) == (measured <= limit)
    assert digits_beside(measured, limit) >= 3


def test_a_value_just_above_its_limit_does_not_look_like_it() -> None:
    assert rounded(0.0100004, 0.01) == "0.0100004"
    assert rounded(0.0099996, 0.01) == "0.01"  # at most 0.01: true of both
    assert rounded(0.0100004, None) == "0.01"


@pytest.mark.parametrize("value", [0.0, 1e-4, 9.9999e-5, 3.24e-7, 0.000324, 0.0123, 12.5, -1.984])
def test_a_number_is_written_alike_in_a_sentence_and_in_a_table(value: float) -> None:
    assert typeset(plain(value)) == number(value)


def test_a_sentence_is_typeset_without_its_hyphens() -> None:
    sentence = "a-b L1-norm scan-0003: -1.984, -2e-5 and +0.0272 (-0.1 to -0.05), 95 % -"
    assert typeset(sentence) == "a-b L1-norm scan-0003: −1.984, −2e−5 and +0.0272 (−0.1 to −0.05), 95 % -"


@given(st.floats(-1, 1))
def test_a_cosine_is_never_rounded_up(value: float) -> None:
    shown = float(cosine(value).replace("−", "-"))
    assert value - 2e-6 < shown <= value


def test_other_numbers_as_people_read_them() -> None:
    assert cosine(1.0) == "1.000000"
    assert cosine(0.99999999) == "0.999999"
    assert cosine(-1.0) == "−1.000000"
    assert probability(0.12345) == "0.123"
    assert (probability(0.0), probability(1.0)) == ("0.000", "1.000")
    assert (probability(0.00045), probability(1e-6)) == ("0.00045", "1e−6")
    assert (probability(1 - 0.00045), probability(0.991)) == ("1 − 0.00045", "1 − 0.009")
    assert (area(0.12345), area(0.99995), area(None)) == ("0.123", "1.000", "–")
    assert auc_difference(-0.01234) == "−0.0123"
    assert auc_difference(0.2) == "+0.2000"
    assert auc_difference(-0.00001) == "0"
    assert percent(0.005) == "0.5 %"
    assert percent(0.0) == "0 %"
    assert milliseconds(12345.6) == "12\u202f346"
    assert milliseconds(3.456) == "3.46"
    assert {show(None) for show in (cosine, probability, auc_difference, percent, milliseconds)} == {"–"}
    assert {show(math.nan) for show in (cosine, probability, auc_difference, percent, milliseconds)} == {"–"}
