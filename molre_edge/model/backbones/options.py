"""What a backbone's options may be.

Options come from checkpoints, which are untrusted: without limits, one number could ask for all of a machine's memory.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from molre_edge.errors import ConfigError, shown

__all__ = ["Choice", "Range", "check_options"]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: whole ones where `low` is whole."""

    low: float
    high: float

    @property
    def is_float(self) -> bool:
        """Whether its numbers need not be whole."""
        return isinstance(self.low, float)

    def admits(self, value: Any) -> bool:
        """Whether the value is one of them; a bool is no number."""
        kinds = int | float if self.is_float else int
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a {'' if self.is_float else 'whole '}number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[str | bool, ...]
    is_float = False

    def admits(self, value: Any) -> bool:
        """Whether the value is one of them; 1 is not True."""
        return any(type(value) is type(known) and value == known for known in self.values)

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value) for value in self.values)


def check_options(options: Mapping[str, Any], known: Mapping[str, Range | Choice]) -> dict[str, Any]:
    """Check options against what a backbone knows.

    Returns:
        The options, with floats where the range is one of floats.

    Raises:
        ConfigError: an unknown name or a value out of range; the message names it and what is known.
    """
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name[:100], known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"backbone.options: unknown {shown(name)}{hint} (known: {', '.join(sorted(known))})")
        if not known[name].admits(value):
            raise ConfigError(f"backbone.options.{name}: expected {known[name]}, got {shown(value)}")
    return {name: float(value) if known[name].is_float else value for name, value in options.items()}
