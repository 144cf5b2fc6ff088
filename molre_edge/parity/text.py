"""Numbers as people read them: a few digits that matter, never rounded across a limit. Standard library only."""

from __future__ import annotations

import math
import re

__all__ = [
    "area",
    "auc_difference",
    "cosine",
    "digits_beside",
    "milliseconds",
    "number",
    "percent",
    "plain",
    "probability",
    "rounded",
    "typeset",
]

_NONE = "–"
_MINUS = "−"
_DIGITS = 3
_NEAR = 0.01  # probabilities this close to 0 or 1 are shown with the digits that matter
_SMALL = 1e-4  # below, numbers have exponents; Python's g format draws the line there too
_EXACT = 17  # significant digits that tell any two float64 apart


def digits_beside(measured: float, limit: float | None) -> int:
    """Significant digits, at least three, with which `measured` rounds to its own side of an upper limit."""
    if limit is None or not math.isfinite(measured):
        return _DIGITS
    for digits in range(_DIGITS, _EXACT):
        if (float(f"{measured:.{digits}g}") <= limit) == (measured <= limit):
            return digits
    return _EXACT


def rounded(measured: float, limit: float | None) -> str:
    """A measured value in ASCII, for sentences that machines pass on: ``0.0123``, ``3.24e-5``."""
    return plain(measured, digits_beside(measured, limit))


def plain(value: float, digits: int = _DIGITS) -> str:
    """A number in ASCII, for sentences that machines pass on: ``0.0123``, ``-3.24e-5``, ``nan``."""
    return re.sub(r"e([+-])0*", lambda sign: "e-" if sign[1] == "-" else "e", f"{value:.{digits}g}")


def typeset(sentence: str) -> str:
    """A sentence with numbers in ASCII, as pages write them: a minus where a hyphen begins a number or exponent."""
    return re.sub(r"(?<![\w.-])-(?=[\d.])|(?<=\de)-(?=\d)", _MINUS, sentence)


def number(value: float | None, digits: int = _DIGITS, *, signed: bool = False, aligned: bool = False) -> str:
    """The digits that matter: ``0``, ``0.0123``, ``3.24e−5``, ``12.5``, ``1800``; a dash for what is not finite.

    Args:
        value: what to show.
        digits: significant digits; integers keep all of theirs.
        signed: a plus before positive values.
        aligned: keep trailing zeros, so that a column of fractions lines up.
    """
    if value is None or not math.isfinite(value):
        return _NONE
    if value == int(value) and abs(value) < 1e6:
        text = str(int(value))
    elif abs(float(f"{value:.{digits}g}")) < _SMALL or abs(value) >= 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa if aligned or "." not in mantissa else mantissa.rstrip("0").rstrip(".")
        text = f"{mantissa}e{int(exponent)}"
    elif abs(value) >= 10.0**digits - 0.5:  # the g format would turn to exponents
        text = f"{value:.0f}"
    else:
        text = f"{value:#.{digits}g}" if aligned else f"{value:.{digits}g}"
    return ("+" if signed and value > 0 else "") + text.replace("-", _MINUS)


def probability(value: float | None) -> str:
    """Three decimals, and more near 0 and 1: ``0.123``, ``4.5e−5``, ``1 − 4.5e−5``."""
    if value is None or not math.isfinite(value):
        return _NONE
    if 0 < value < _NEAR:
        return number(value, 2)
    return f"1 {_MINUS} {number(1 - value, 2)}" if 1 - _NEAR < value < 1 else f"{value:.3f}"


def area(value: float | None) -> str:
    """An AUC: three decimals."""
    return _NONE if value is None or not math.isfinite(value) else f"{value:.3f}"


def auc_difference(value: float | None) -> str:
    """Four decimals and the sign; ``0`` for what rounds to it."""
    if value is None or not math.isfinite(value):
        return _NONE
    return f"{value:+.4f}".replace("-", _MINUS) if round(value, 4) else "0"


def cosine(value: float | None) -> str:
    """Six decimals, rounded down: nothing but 1 is shown as 1."""
    if value is None or not math.isfinite(value):
        return _NONE
    return f"{math.floor(value * 1e6) / 1e6:.6f}".replace("-", _MINUS)


def percent(fraction: float | None, digits: int = _DIGITS) -> str:
    """A fraction in per cent."""
    return _NONE if fraction is None or not math.isfinite(fraction) else f"{number(100 * fraction, digits)} %"


def milliseconds(value: float | None) -> str:
    """Whole above 100, with narrow spaces between thousands; three digits that matter below."""
    if value is None or not math.isfinite(value):
        return _NONE
    return f"{value:,.0f}".replace(",", "\u202f") if value >= 100 else f"{value:.3g}"
