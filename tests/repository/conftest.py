"""Shared by the tests of the repository itself: its modules by name, and the tests that a page names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

NAMED_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


@pytest.fixture(scope="session")
def modules(sources: dict[str, Path]) -> dict[str, Path]:
    """Every module by its full name."""
    names = {path.removesuffix(".py").removesuffix("/__init__"): file for path, file in sources.items()}
    return {name.replace("/", "."): file for name, file in names.items() if file.suffix == ".py"}


@pytest.fixture(scope="session")
def missing_tests() -> Callable[[str, Path], list[str]]:
    """Tests that a page names and that are not there below a folder, and names of tests in another form."""

    def missing(page: str, tests: Path) -> list[str]:
        found, texts = [], {}
        for file, name in NAMED_TEST.findall(page):
            if file not in texts:
                texts[file] = (tests / file).read_text(encoding="utf-8") if (tests / file).is_file() else ""
            if not re.search(rf"^def {name}\(", texts[file], re.MULTILINE):
                found.append(f"{file}::{name}")
        return found + re.findall(r"(?<!::)\btest_\w+", re.sub(NAMED_TEST, "", page))

    return missing
