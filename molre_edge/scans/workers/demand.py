"""Whether more readers are needed, from how long their results are waited for."""

from __future__ import annotations

__all__ = ["Demand"]

_SHARE = 0.05
"""Waiting for less than this share of the time is not worth another process."""


class Demand:
    """Follows whoever takes results of a number of readers."""

    def __init__(self, readers: int) -> None:
        """Begin anew: the first results of new readers include their start, so they are not judged."""
        self._unjudged, self._least = readers, 2 * readers
        self._taken, self._waited, self._passed = 0, 0.0, 0.0

    def wants_more(self, waited: float, used: float) -> bool:
        """Take note of a result; whether one more reader would be of use.

        Args:
            waited: seconds until it was there.
            used: seconds that its taker was busy before that.
        """
        if self._unjudged:
            self._unjudged -= 1
            return False
        self._taken += 1
        self._waited += waited
        self._passed += waited + used
        if self._taken < self._least:
            return False
        more = self._waited > _SHARE * self._passed
        self._taken, self._waited, self._passed = 0, 0.0, 0.0
        return more
