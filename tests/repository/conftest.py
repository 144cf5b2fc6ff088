"""Shared by the tests of the repository itself: its modules by name."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def modules(sources: dict[str, Path]) -> dict[str, Path]:
    """Every module by its full name."""
    names = {path.removesuffix(".py").removesuffix("/__init__"): file for path, file in sources.items()}
    return {name.replace("/", "."): file for name, file in names.items() if file.suffix == ".py"}
