"""Each claim of docs/security.md names a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def missing(page: str, tests: Path) -> list[str]:
    """Tests that a page names and that are not there, and names of tests in another form."""
    found = []
    for file, name in NAMED.findall(page):
        there = (tests / file).read_text(encoding="utf-8") if (tests / file).is_file() else ""
        if not re.search(rf"^def {name}\(", there, re.MULTILINE):
            found.append(f"{file}::{name}")
    return found + re.findall(r"(?<!::)\btest_\w+", re.sub(NAMED, "", page))


def unshown(page: str) -> list[str]:
    """Rows of tables with a column of tests, and points of the list in "Scans", that name no test."""
    found, in_table = [], False
    for line in page.splitlines():
        if not line.startswith("|"):
            in_table = False
        elif line.endswith("| test |"):
            in_table = True
        elif in_table and not set(line) <= set("|- ") and not NAMED.search(line.rsplit(" | ", 1)[1]):
            found.append(line)
    points = re.split(r"\n(?=- )", page.split("## Scans")[1].split("\n\n")[2])
    return found + [point for point in points if not NAMED.search(point)]


def test_every_claim_names_a_test_that_is_there(root: Path) -> None:
    page = (root / "docs" / "security.md").read_text(encoding="utf-8")
    assert missing(page, root / "tests") == []
    assert unshown(page) == []
    assert len(set(NAMED.findall(page))) > 60


def test_a_claim_without_a_test_and_a_test_that_is_not_there_are_found(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("def test_one() -> None: ...\n")
    page = (
        "| claim | test |\n| --- | --- |\n| a | `test_a.py::test_one` |\n| b | none |\n"
        "\n## Scans\n\nBefore:\n\n- c (`test_a.py::test_two`);\n- d.\n\n`test_b.py::test_one`, test_a.py: `test_one`\n"
    )
    assert missing(page, tmp_path) == ["test_a.py::test_two", "test_b.py::test_one", "test_a", "test_one"]
    assert unshown(page) == ["| b | none |", "- d."]
