"""The wheel holds every module and data file that the sources do: what `pip install -e` would never show."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(wheel_path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_path)


def test_the_wheel_holds_exactly_the_files_of_the_sources(wheel: zipfile.ZipFile, sources: dict[str, Path]) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {"molre_edge/py.typed", "molre_edge/findings.csv", "molre_edge/export/__init__.py"} <= packed
    assert sorted(set(sources) - packed) == []
    assert sorted(packed - set(sources)) == []


def test_the_wheel_holds_the_licence_and_the_command(wheel: zipfile.ZipFile) -> None:
    names = {name.split(".dist-info/")[1]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "Apache License" in wheel.read(names["licenses/LICENSE"]).decode()
    assert "| numpy |" in wheel.read(names["licenses/THIRD_PARTY_LICENSES.md"]).decode()
    assert "molre-edge = molre_edge.cli:main" in wheel.read(names["entry_points.txt"]).decode()


def test_pyproject_names_every_package(project: dict[str, Any], modules: dict[str, Path]) -> None:
    packages = [name for name, path in modules.items() if path.name == "__init__.py"]
    assert sorted(packages) == sorted(project["tool"]["setuptools"]["packages"])


def test_every_folder_with_modules_is_a_package(modules: dict[str, Path]) -> None:
    assert [str(path) for path in modules.values() if not (path.parent / "__init__.py").is_file()] == []
