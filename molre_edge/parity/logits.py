"""The scale of decisions: logits, in which a distance means the same at every probability.

A difference of probabilities is blind near 0 and 1: at p = 1e-6 an engine may be three logits off, twenty times the
odds, and differ by 2e-5. At p = 0.5 a difference of logits is four times that of probabilities.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from molre_edge.parity.outputs import FloatArray

__all__ = ["SATURATED", "TIED", "WIDEST", "logit_differences", "saturation", "threshold_logits"]

SATURATED = 8.0
"""Logits beyond this are saturated (p below 0.00034 or above 0.99966); rounding grows with their size from here on."""

WIDEST = 4.0
"""The tolerance of a saturated logit grows to this multiple at most, so that an engine which is one logit off fails."""

TIED = 1e-4
"""A reference this close to its threshold, in logits, lies on it: float32 can't tell the sides apart."""

_F64 = npt.NDArray[np.float64]
_BELOW_ONE = float(np.nextafter(1.0, 0.0))  # from here on p >= 1 holds in float64


def saturation(logits: FloatArray) -> _F64:
    """How much wider a tolerance is at these logits: 1 up to :data:`SATURATED`, then in proportion, to :data:`WIDEST`.

    Args:
        logits: any shape. NaN stays NaN.
    """
    wide: _F64 = np.clip(np.abs(np.asarray(logits, dtype=np.float64)) / SATURATED, 1.0, WIDEST)
    return wide


def logit_differences(reference: FloatArray, engine: FloatArray) -> _F64:
    """|engine - reference| over the saturation of the reference, float64; nan if one of the two is not finite."""
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(engine, dtype=np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
    return np.where(finite, np.abs(b - a) / saturation(a), np.nan)


def threshold_logits(thresholds: FloatArray) -> _F64:
    """Logits of thresholds, any shape.

    The threshold 0, which every probability reaches, is -inf. The threshold 1 is the smallest logit whose probability
    rounds to 1.
    """
    t = np.minimum(np.asarray(thresholds, dtype=np.float64), _BELOW_ONE)
    with np.errstate(divide="ignore"):
        result: _F64 = np.log(t) - np.log1p(-t)
    return result
