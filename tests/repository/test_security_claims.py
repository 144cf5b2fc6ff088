"""Each claim of docs/concepts/security.md names a test that is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


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


Missing = Callable[[str, Path], list[str]]


def test_every_claim_names_a_test_that_is_there(root: Path, missing_tests: Missing) -> None:
    page = (root / "docs" / "concepts" / "security.md").read_text(encoding="utf-8")
    assert missing_tests(page, root / "tests") == []
    assert unshown(page) == []
    assert len(set(NAMED.findall(page))) > 60


def test_a_claim_without_a_test_and_a_test_that_is_not_there_are_found(tmp_path: Path, missing_tests: Missing) -> None:
    (tmp_path / "test_a.py").write_text("def test_one() -> None: ...\n")
    page = (
        "| claim | test |\n| --- | --- |\n| a | `test_a.py::test_one` |\n| b | none |\n"
        "\n## Scans\n\nBefore:\n\n- c (`test_a.py::test_two`);\n- d.\n\n`test_b.py::test_one`, test_a.py: `test_one`\n"
    )
    assert missing_tests(page, tmp_path) == ["test_a.py::test_two", "test_b.py::test_one", "test_a", "test_one"]
    assert unshown(page) == ["| b | none |", "- d."]
