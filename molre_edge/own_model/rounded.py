"""A probability as a number format holds it stands for every logit that rounds to it.

Near 1, float32 probabilities are 6e-8 apart, which is 0.001 logits at p = 0.9999 and everything beyond 17 logits. So a
probability is compared as an interval of logits, and a logit as itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LogitRange"]

_F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LogitRange:
    """The logits that an answer stands for.

    Attributes:
        low: float64 [n, findings], -inf where the probability is 0 within its rounding.
        high: float64 [n, findings], inf where it is 1.
    """

    low: _F64
    high: _F64

    @classmethod
    def of_logits(cls, logits: npt.ArrayLike) -> LogitRange:
        """Of logits: themselves."""
        values = np.asarray(logits, dtype=np.float64)
        return cls(values, values)

    @classmethod
    def of_probabilities(cls, probabilities: npt.NDArray[np.floating]) -> LogitRange:
        """Of probabilities from 0 to 1: one step of their number format down and up, for a sigmoid that rounds too."""
        step = np.spacing(probabilities).astype(np.float64)
        values = probabilities.astype(np.float64)
        return cls(_logit(values - step), _logit(values + step))

    def nearest(self, logits: npt.ArrayLike) -> _F64:
        """Of all logits that the answers stand for, those nearest to `logits`, float64 [n, findings]."""
        found: _F64 = np.clip(np.asarray(logits, dtype=np.float64), self.low, self.high)
        return found

    def rows(self, order: npt.ArrayLike) -> LogitRange:
        """Some scans, in an order."""
        places = np.asarray(order)
        return LogitRange(self.low[places], self.high[places])

    def columns(self, order: npt.ArrayLike) -> LogitRange:
        """The findings in another order."""
        places = np.asarray(order)
        return LogitRange(self.low[:, places], self.high[:, places])


def _logit(probabilities: _F64) -> _F64:
    p = np.clip(probabilities, 0.0, 1.0)
    with np.errstate(divide="ignore"):
        logit: _F64 = np.log(p) - np.log1p(-p)
    return logit
