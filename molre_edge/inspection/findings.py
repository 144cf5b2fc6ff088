"""What an inspection finds: words and tables for people, plain data for programs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from molre_edge.specs import DISCLAIMER

__all__ = ["Inspection", "Table", "dig", "megabytes", "plain"]

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """A table for people; all cells are texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Inspection:
    """What something is.

    Attributes:
        kind: ``adapter``, ``checkpoint``, ``graph``, ``engine``, ``bundle``, ``run`` or ``scans``.
        summary: one sentence.
        facts: plain data for JSON.
        words: (name, value) pairs for people.
        tables: for people.
        problems: what is wrong with it.
    """

    kind: str
    summary: str
    facts: Mapping[str, Any]
    words: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    problems: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``molre-edge inspect --json`` prints it."""
        facts = {"kind": self.kind, "summary": self.summary, **self.facts, "problems": list(self.problems)}
        return {**{name: _finite(value) for name, value in facts.items()}, "disclaimer": DISCLAIMER}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity; a file may have brought one."""
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain(value: Any) -> str:
    """A value of a file as a short text of one line, whatever it holds: it goes to a terminal."""
    text = value if isinstance(value, str) else repr(value)
    text = _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)
    return text if len(text) <= 300 else f"{text[:299]}…"


def dig(data: Any, *keys: str) -> Any:
    """A value in nested tables; None where one of them is absent or no table."""
    for key in keys:
        if not isinstance(data, Mapping):
            return None
        data = data.get(key)
    return data


def megabytes(size: int) -> str:
    """A size in words."""
    return f"{size / 1e6:,.1f} MB".replace(",", " ") if size >= 1e5 else f"{size} bytes"
