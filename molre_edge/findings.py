"""The 75 findings of head CT: names, groups and parents.

The paper's own list is not public; this one was put together from public label sets (``sources`` in
``findings.csv``: N NeuroVFM, H HeadCT-ONE, C CQ500, R RSNA 2019, Q qER K200921, F FM-HCT, P named in notes on the
paper, U ours). A parent is at least as likely as each of its children.
"""

from __future__ import annotations

import csv
import reprlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = [
    "POSITIVE_COLUMN",
    "RESERVED_NAMES",
    "ROW_COLUMN",
    "SCAN_COLUMN",
    "SPLIT_COLUMN",
    "Finding",
    "checked_names",
    "checked_thresholds",
    "default_findings",
    "finding_words",
    "parents_of",
    "reserved_word",
]

SCAN_COLUMN, ROW_COLUMN, POSITIVE_COLUMN, SPLIT_COLUMN = "scan", "row", "positive", "split"
RESERVED_NAMES = frozenset({SCAN_COLUMN, ROW_COLUMN, POSITIVE_COLUMN, SPLIT_COLUMN})
"""Columns that stand beside the findings' own in findings.csv, labels.csv and the training manifest."""


@dataclass(frozen=True)
class Finding:
    """One finding: its name (snake_case), its group, and the name of the finding that it implies, if any."""

    name: str
    group: str
    parent: str | None


def reserved_word(name: str) -> str | None:
    """Why a finding can't have this name, or None: it would be another column of a table of findings."""
    if name.casefold() in RESERVED_NAMES:
        return f"{name!r} is the name of another column of the tables of findings ({', '.join(sorted(RESERVED_NAMES))})"
    return None


@cache
def default_findings() -> tuple[Finding, ...]:
    """The 75 findings in the order of the model's outputs."""
    text = resources.files("molre_edge").joinpath("findings.csv").read_text(encoding="utf-8")
    return tuple(
        Finding(row["finding"], row["group"], row["parent"] or None) for row in csv.DictReader(text.splitlines())
    )


@cache
def _meanings() -> dict[str, str]:
    text = resources.files("molre_edge").joinpath("codes.csv").read_text(encoding="utf-8")
    return {row["finding"]: row["meaning"] for row in csv.DictReader(text.splitlines())}


def finding_words(name: str) -> str:
    """A finding for people: the meaning of its code (``codes.csv``), else its name without underscores."""
    return _meanings().get(name) or name.replace("_", " ").strip() or "finding"


def parents_of(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Pairs (child, parent) of indices into `names`, for the known findings among them.

    Where a parent is not among them, the nearest one above it is taken.
    """
    parent = {finding.name: finding.parent for finding in default_findings()}
    index = {name: i for i, name in enumerate(names)}
    pairs = []
    for child, name in enumerate(names):
        above = parent.get(name)
        while above is not None and above not in index:
            above = parent.get(above)
        if above is not None:
            pairs.append((child, index[above]))
    return tuple(pairs)


def checked_names(names: object) -> tuple[str, ...]:
    """Names of findings from a file that anybody may have written.

    Raises:
        ValueError: no list of words, a reserved one, or one of them twice.
    """
    if not isinstance(names, list) or not names:
        raise ValueError("findings: expected a list of names")
    for name in names:
        if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum() or len(name) > 100:
            raise ValueError(f"findings: expected words of letters, digits, '_' and '-', got {reprlib.repr(name)}")
        if reason := reserved_word(name):
            raise ValueError(f"findings: {reason}")
    if len(set(names)) != len(names):
        raise ValueError("findings: expected each name once")
    return tuple(names)


def checked_thresholds(values: object, count: int) -> tuple[float, ...]:
    """Decision thresholds of `count` findings from a file that anybody may have written.

    Raises:
        ValueError: another number of them, or one that is no probability.
    """
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"thresholds: expected {count}, one a finding")
    for value in values:
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ValueError(f"thresholds: expected probabilities, got {reprlib.repr(value)}")
    return tuple(float(value) for value in values)
