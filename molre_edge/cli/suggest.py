"""What the user may have meant: the nearest word, and the nearest path that is there."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["did_you_mean", "nearest", "nearest_path"]

_MOST = 10_000  # names of a folder that are looked at


def nearest_path(path: Path) -> Path | None:
    """The path with its first part that is not there replaced by the name most like it; None without one."""
    try:
        return _nearest_path(path)
    except OSError:  # a name that is too long, a folder that may not be entered
        return None


def _nearest_path(path: Path) -> Path | None:
    there, parts = Path(path.anchor), path.parts[1:] if path.anchor else path.parts
    for place, part in enumerate(parts):
        if part == ".." or (there / part).exists():
            there = there / part
            continue
        name = nearest(part, _names_in(there))
        if name is None:
            return None
        whole = there.joinpath(name, *parts[place + 1 :])
        return whole if whole.exists() else there / name
    return None


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The most similar word, whatever its case; None if none is similar."""
    plain: dict[str, str] = {}
    for each in words:
        plain.setdefault(each.lower(), each)
    found = difflib.get_close_matches(word.lower(), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def did_you_mean(guess: object | None) -> str:
    """The end of a message, with the blank before it; nothing without a guess."""
    return "" if guess is None else f" Did you mean '{guess}'?"


def _names_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for _, entry in zip(range(_MOST), entries, strict=False)]
    except OSError:
        return []
