"""The tests that docs/security.md names are there."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_test_that_the_page_names_exists(root: Path) -> None:
    page = (root / "docs" / "security.md").read_text(encoding="utf-8")
    section = page.split("## What is tested")[1].split("\n## ")[0]
    files = {name for name in re.findall(r"`([a-z_/]+\.py)`", section) if not name.startswith("benchmarks/")}
    assert len(files) > 8
    assert [name for name in sorted(files) if not (root / "tests" / name).is_file()] == []
    written = "\n".join((root / "tests" / name).read_text(encoding="utf-8") for name in files)
    tests = set(re.findall(r"^def (test_\w+)", written, re.MULTILINE))
    named = re.findall(r"`(test_\w+?)(?:_?\.\.\.)?`", section)
    assert len(named) > 10
    assert [name for name in named if not any(test.startswith(name) for test in tests)] == []
