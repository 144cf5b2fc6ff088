"""E4M3, the 8-bit floating-point format of FP8: 4 bits of exponent, 3 of mantissa, no infinity (Micikevicius, 2022)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LARGEST", "decode", "encode"]

LARGEST = 448.0
"""The largest value."""
_SMALLEST_NORMAL = np.float32(2.0**-6)
_BIAS = 127 - 7  # of float32 and of E4M3
_DROPPED = 23 - 3  # bits of the mantissa

_F32 = npt.NDArray[np.float32]
_U8 = npt.NDArray[np.uint8]


def encode(values: _F32) -> _U8:
    """The nearest codes: ties to even, values beyond the largest one to that one, as QuantizeLinear does.

    Args:
        values: float32 of any shape, finite.

    Returns:
        uint8 of that shape: the codes' bits.
    """
    sizes = np.minimum(np.abs(values), np.float32(LARGEST))
    bits = sizes.view(np.uint32)
    rounded = (bits + np.uint32((1 << (_DROPPED - 1)) - 1) + ((bits >> _DROPPED) & np.uint32(1))) >> _DROPPED
    codes = np.where(
        sizes < _SMALLEST_NORMAL,
        np.rint(sizes * np.float32(512)).astype(
            np.uint32
        ),  # the smallest one, 2**-9, is the step below the normal ones
        rounded - np.uint32(_BIAS << 3),
    )
    signs = np.signbit(values).astype(np.uint32) << np.uint32(7)
    result: _U8 = (codes | signs).astype(np.uint8)
    return result


def decode(codes: _U8) -> _F32:
    """The values of codes, float32."""
    return _VALUES[codes]


def _all_values() -> _F32:
    codes = np.arange(256)
    exponents, mantissas = (codes >> 3) & 15, codes & 7
    normal = (8 + mantissas) * 2.0 ** (exponents - 10)
    sizes = np.where(exponents == 0, mantissas * 2.0**-9, normal)
    sizes[(codes & 127) == 127] = np.nan
    return np.where(codes < 128, sizes, -sizes).astype(np.float32)


_VALUES = _all_values()
