"""Shared by the tests of the repository itself: its root, and where the sources of each package lie."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def sources(root: Path) -> dict[str, Path]:
    """Every file that is to be installed: its path in the installed package -> where it lies in the repository."""
    stages = [folder for name in ("export", "calibration", "engines") if (folder := root / name).is_dir()]
    found = {}
    for folder in (root / "molre_edge", *stages):
        prefix = "" if folder.name == "molre_edge" else "molre_edge/"
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[prefix + path.relative_to(root).as_posix()] = path
    return found


@pytest.fixture(scope="session")
def modules(sources: dict[str, Path]) -> dict[str, Path]:
    """Every module by its full name."""
    names = {path.removesuffix(".py").removesuffix("/__init__"): file for path, file in sources.items()}
    return {name.replace("/", "."): file for name, file in names.items() if file.suffix == ".py"}
