"""Each sentence, row and point of docs/concepts/scans.md has its tests in scans-tests.md, or holds no promise."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

Units = list[tuple[str, str]]
"""(section, sentence or row of a table)"""
_START = re.compile(r"(?:- |\d+\. )")
_SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z`*\"(\d])|(?<=\.\*\*)\s+")
_ROW = re.compile(r"\| (.+?) \| (.+) \|$")
NO_PROMISE = "explains"


def units(page: str) -> Units:
    """The sentences of a page, and the rows of its tables without their heads."""
    found: Units = []
    section, block, lines = "", [""], page.splitlines()

    def end_block() -> None:
        text = _START.sub("", " ".join(" ".join(block).split()), count=1)
        found.extend((section, sentence) for sentence in _SENTENCE_END.split(text) if sentence)
        block.clear()

    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if not line or line.startswith(("#", "|")) or _START.match(line):
            end_block()
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith("|"):
            if not is_rule(line) and not is_rule(after):
                found.append((section, line))
        else:
            block.append(line)
    end_block()
    return found


def is_rule(line: str) -> bool:
    """Whether a line parts the head of a table from its rows."""
    return line.startswith("|") and set(line) <= set("|- ")


def promises(page: str) -> list[tuple[str, str, str]]:
    """(section, words of a promise, its tests) of docs/concepts/scans-tests.md."""
    rows = [(section, match) for section, line in units(page) if (match := _ROW.match(line))]
    return [(section, match[1], match[2]) for section, match in rows]


def uncovered(page: str, table: str) -> list[str]:
    """Sentences and rows that no promise quotes; and promises that quote none, or several."""
    there, found, covered = units(page), [], set()
    for section, words, tests in promises(table):
        places = [at for at, (where, text) in enumerate(there) if where == section and words in text]
        if len(places) != 1 or (tests != NO_PROMISE and "::" not in tests):
            found.append(f"{section}: {words}: {len(places)} places, {tests}")
        covered.update(places)
    return found + [f"{section}: {text}" for at, (section, text) in enumerate(there) if at not in covered]


def test_every_promise_of_the_page_names_tests_that_are_there(
    root: Path, missing_tests: Callable[[str, Path], list[str]]
) -> None:
    folder = root / "docs" / "concepts"
    page, table = ((folder / name).read_text(encoding="utf-8") for name in ("scans.md", "scans-tests.md"))
    assert uncovered(page, table) == []
    assert missing_tests(table, root / "tests") == []
    assert len(promises(table)) > 150


def test_few_sentences_are_said_to_hold_no_promise(root: Path) -> None:
    table = (root / "docs" / "concepts" / "scans-tests.md").read_text(encoding="utf-8")
    explaining = [words for _, words, tests in promises(table) if tests == NO_PROMISE]
    assert len(explaining) < len(promises(table)) / 6


PAGE = """# A

One. Two is
long (a. b).

- three; 1.5 mm.
1. **Four.** Five.

| what | that |
| --- | --- |
| `six` | 6 |

## B

Seven."""


def test_a_page_is_taken_apart_into_sentences_and_rows() -> None:
    assert units(PAGE) == [
        ("A", "One."), ("A", "Two is long (a. b)."), ("A", "three; 1.5 mm."), ("A", "**Four.**"), ("A", "Five."),
        ("A", "| `six` | 6 |"), ("B", "Seven."),
    ]  # fmt: skip


def test_what_is_not_covered_and_what_is_quoted_wrongly_is_found() -> None:
    rows = {
        "A": ["One", "Two", "three", "Four", "Five", "`six`"],
        "B": ["Seven"],
    }

    def table(rows: dict[str, list[str]], tests: str = "`a.py::test_a`") -> str:
        return "".join(
            f"## {section}\n\n| promise | test |\n| --- | --- |\n" + "".join(f"| {one} | {tests} |\n" for one in words)
            for section, words in rows.items()
        )

    assert uncovered(PAGE, table(rows)) == []
    assert uncovered(PAGE, table({**rows, "B": []})) == ["B: Seven."]
    assert uncovered(PAGE, table({**rows, "B": ["Seven", "One"]})) == ["B: One: 0 places, `a.py::test_a`"]
    assert len(uncovered(PAGE, table(rows, "none"))) == 7
