"""One direction of a figure's axes: where a value lies, and the ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.parity.text import number

__all__ = ["Axis"]

_EDGE = 0.05  # free room beside the data, as a share of its reach, where no limits are set

_Values = Any


class Axis:
    """One direction of axes: where a value lies, and the ticks.

    Attributes:
        at_end: ticks stand at the far end: on top.
    """

    def __init__(self) -> None:
        """Linear, without limits or ticks of its own."""
        self.limits: tuple[float, float] | None = None
        self.log = self.at_end = False
        self.ticks: list[tuple[float, str]] | None = None
        self._low, self._high = math.inf, -math.inf

    def see(self, values: _Values) -> npt.NDArray[np.float64]:
        """Make room for values, as floats."""
        array = np.atleast_1d(np.asarray(values, dtype=np.float64))
        known = array[np.isfinite(array)]
        if known.size:
            self._low, self._high = min(self._low, float(known.min())), max(self._high, float(known.max()))
        return array

    def set_ticks(self, ticks: Iterable[float], labels: Iterable[str] | None = None, *, minor: bool = False) -> None:
        """Ticks with their texts; minor ones are never drawn."""
        if not minor:
            at = [float(tick) for tick in ticks]
            self.ticks = list(zip(at, map(number, at) if labels is None else labels, strict=True))

    def tick_top(self) -> None:
        """Texts of the ticks stand above."""
        self.at_end = True

    def ends(self) -> tuple[float, float]:
        """The values at both ends."""
        if self.limits is not None:
            return self.limits
        low, high = (self._low, self._high) if self._low <= self._high else (0.0, 1.0)
        if self.log:
            low, high = math.log10(low), math.log10(high)
        room = _EDGE * (high - low) or 0.5 * (abs(high) or 1.0)
        low, high = low - room, high + room
        return (10.0**low, 10.0**high) if self.log else (low, high)

    def share(self, values: _Values) -> npt.NDArray[np.float64]:
        """Where values lie: 0 at the first end, 1 at the second; NaN for those that have no place."""
        low, high = self.ends()
        array = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if self.log:
            low, high = math.log10(low), math.log10(high)
            array = np.log10(np.where(array > 0, array, np.nan))
        return (array - low) / (high - low)

    def shown(self) -> list[tuple[float, str]]:
        """Ticks within the ends: as a share of the way, with their texts."""
        low, high = self.ends()
        ticks = self.ticks if self.ticks is not None else [(tick, number(tick)) for tick in _round_ticks(low, high)]
        placed = zip(self.share([value for value, _ in ticks]) if ticks else (), ticks, strict=True)
        return [(float(share), text) for share, (_, text) in placed if -1e-6 <= share <= 1 + 1e-6]


def _round_ticks(low: float, high: float) -> list[float]:
    """Up to ten multiples of 1, 2 or 5 times a power of ten within two ends."""
    low, high = min(low, high), max(low, high)
    power = 10.0 ** math.floor(math.log10(max(high - low, 1e-300) / 4))
    step = next((each * power for each in (5.0, 2.0, 1.0) if (high - low) / (each * power) >= 4), power)
    return [step * place for place in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
