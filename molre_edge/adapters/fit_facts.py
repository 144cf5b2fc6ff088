"""What an adapter or a graph was made for: everything that must be the same for the one to run in the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from molre_edge.errors import ConfigError, shown
from molre_edge.specs import Grid

__all__ = ["FitFacts"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_PLACES, _LONGEST_NAME = 1024, 256


@dataclass(frozen=True, kw_only=True)
class FitFacts:
    """What an adapter was trained for, or a graph was exported for.

    Attributes:
        backbone: id of the backbone.
        options: what differs from that backbone's entry, in its own words.
        backbone_sha256: over the names, shapes and values of its frozen weights.
        grid: the grid that the model reads.
        windows: (centre, width) in HU, one a channel.
        window_range: (low, high) that each window leads to, one a channel.
        mean, std: of the channels' normalisation, one a channel.
        places: full names of the adapted modules, in the model's order.
        groups: the router of each place.
        level: what shares one gate vector: ``slice``, ``volume`` or ``token``.
        sharing: which places share a router, as a word.
        hidden: size of the routers' hidden layer.
        experts: K. A graph's is the largest that an adapter may have.
        rank: r, likewise.
        pooling: size of the pooling's hidden layer; None for a 3D backbone, which has no pooling.
        width: d, of the embedding.
        findings: number of findings. A graph's is the largest that an adapter may have.
    """

    backbone: str
    options: Mapping[str, Any]
    backbone_sha256: str
    grid: Grid
    windows: tuple[tuple[float, float], ...]
    window_range: tuple[tuple[float, float], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    places: tuple[str, ...]
    groups: tuple[int, ...]
    level: str
    sharing: str
    hidden: int
    experts: int
    rank: int
    pooling: int | None
    width: int
    findings: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = asdict(self)
        for name in ("mean", "std", "places", "groups"):
            data[name] = list(data[name])
        for name in ("windows", "window_range"):
            data[name] = [list(pair) for pair in data[name]]
        return {**data, "grid": self.grid.to_dict(), "options": dict(self.options)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FitFacts:
        """The inverse of :meth:`to_dict`, for data that anybody may have written; more fields are left alone.

        Raises:
            ValueError: a field is missing or impossible; the message names it.
        """
        if not isinstance(data, Mapping):
            raise ValueError("fit: expected a table of names and values")
        for name, fits in _CHECKS.items():
            if name not in data or not fits(data[name]):
                raise ValueError(f"fit.{name}: unexpected {shown(data.get(name))}")
        try:
            grid = Grid(**data["grid"])
        except (TypeError, ConfigError) as error:
            raise ValueError(f"fit.grid: {str(error)[:200]}") from error
        if len(data["groups"]) != len(data["places"]):
            raise ValueError("fit: expected a router for each place")
        if len({len(data[name]) for name in ("windows", "window_range", "mean", "std")}) != 1:
            raise ValueError("fit: expected a range, a mean and a deviation for each window")
        values = {name: data[name] for name in _CHECKS}
        for name in ("mean", "std", "places", "groups"):
            values[name] = tuple(values[name])
        for name in ("windows", "window_range"):
            values[name] = tuple((float(one), float(other)) for one, other in data[name])
        return cls(**{**values, "grid": grid})


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9


def _count(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _word(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


def _pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_number, value))


def _list_of(fits: Callable[[Any], bool], low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and low <= len(value) <= high and all(map(fits, value))


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "backbone": _word,
    "options": lambda value: isinstance(value, dict) and len(value) <= 100,
    "backbone_sha256": lambda value: isinstance(value, str) and _SHA256.fullmatch(value) is not None,
    "grid": lambda value: isinstance(value, dict),
    "windows": _list_of(_pair, 1, 16),
    "window_range": _list_of(_pair, 1, 16),
    "mean": _list_of(_number, 1, 16),
    "std": _list_of(_number, 1, 16),
    "places": _list_of(_word, 0, _MOST_PLACES),
    "groups": _list_of(_count(0, _MOST_PLACES), 0, _MOST_PLACES),
    "level": _word,
    "sharing": _word,
    "hidden": _count(1, 4096),
    "experts": _count(0, 64),
    "rank": _count(1, 512),
    "pooling": lambda value: value is None or _count(1, 4096)(value),
    "width": _count(1, 1 << 20),
    "findings": _count(1, 1 << 16),
}
