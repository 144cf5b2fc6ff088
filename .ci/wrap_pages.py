"""Wraps paragraphs and points of Markdown that have a line above 120 characters. Tables and code stay as they are.

    python .ci/wrap_pages.py PAGE...

tests/repository/test_docs.py looks for lines that are left.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

WIDTH = 120
POINT = re.compile(r"(\s*(?:[-*+]|\d+[.)]) )")
"""The start of a point of a list, with the blanks before and after its mark."""
BLOCK = re.compile(r"\s*(?:[-*+]|\d+[.)]|#+|>)(?: |$)|\s*(?:\||<!--|```|!\[)")
"""What starts something else than a paragraph, and so must not come to the start of a wrapped line."""


def paragraphs(lines: list[str]) -> Iterator[tuple[int, int]]:
    """(first line, line after the last) of every paragraph and point."""
    start, fenced = None, False
    for i, line in enumerate([*lines, ""]):
        fence = line.lstrip().startswith("```")
        ends = fenced or fence or not line.strip() or BLOCK.match(line) is not None
        if start is not None and ends:
            yield start, i
            start = None
        if not fenced and (POINT.match(line) or not ends):
            start = i if start is None else start
        fenced ^= fence


def wrapped(lines: list[str]) -> list[str]:
    """One paragraph or point in lines of at most 120 characters, as far as its words allow."""
    point = POINT.match(lines[0])
    first = point[1] if point else re.match(r"\s*", lines[0])[0]  # type: ignore[index]
    hanging = " " * len(first)
    words = " ".join(lines)[len(first) :].split()
    out = [first + words[0]]
    for word in words[1:]:
        if len(out[-1]) + 1 + len(word) <= WIDTH or BLOCK.match(f"{word} "):
            out[-1] += f" {word}"
        else:
            out.append(hanging + word)
    return out


def wrap(text: str) -> str:
    """A whole page."""
    lines = text.split("\n")
    for start, end in reversed(list(paragraphs(lines))):
        if any(len(line) > WIDTH for line in lines[start:end]):
            lines[start:end] = wrapped(lines[start:end])
    return "\n".join(lines)


def long_lines(text: str) -> list[str]:
    """Lines that are still too long, but for rows of tables and words that can't be broken."""
    lines = text.split("\n")
    return [line for line in lines if len(line) > WIDTH and not line.startswith("|") and len(line.split()) > 1]


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(wrap(page.read_text(encoding="utf-8")), encoding="utf-8")
