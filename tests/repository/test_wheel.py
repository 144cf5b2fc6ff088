"""The wheel holds every module and data file that the sources do: what `pip install -e` would never show."""

from __future__ import annotations

import shutil
import subprocess
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
def wheel(root: Path, sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built without a network from a copy: setuptools also packs what an earlier build left beside it."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for path in [*sources.values(), *(root / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_wheel_holds_exactly_the_files_of_the_sources(wheel: zipfile.ZipFile, sources: dict[str, Path]) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {"molre_edge/py.typed", "molre_edge/findings.csv", "molre_edge/export/__init__.py"} <= packed
    assert sorted(set(sources) - packed) == []
    assert sorted(packed - set(sources)) == []


def test_the_wheel_holds_the_licence_and_the_command(wheel: zipfile.ZipFile) -> None:
    names = {name.split(".dist-info/")[1]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "Apache License" in wheel.read(names["licenses/LICENSE"]).decode()
    assert "molre-edge = molre_edge.cli:main" in wheel.read(names["entry_points.txt"]).decode()


def test_pyproject_names_every_package(project: dict[str, Any], modules: dict[str, Path]) -> None:
    packages = [name for name, path in modules.items() if path.name == "__init__.py"]
    assert sorted(packages) == sorted(project["tool"]["setuptools"]["packages"])


def test_every_folder_with_modules_is_a_package(modules: dict[str, Path]) -> None:
    assert [str(path) for path in modules.values() if not (path.parent / "__init__.py").is_file()] == []
