"""What the code imports is what pyproject.toml asks for, and the constraints pin all of it, within its ranges."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NOT_INSTALLED_BY_US = {
    "tensorrt",
    "tensorrt_rtx",
    "pycuda",
    "cuda",
    "pynvml",
    "openvino",
    "cryptography",
    "triton_python_backend_utils",
}
"""On a Jetson some come with JetPack; elsewhere extras bring them, and tests that need them are skipped without. The
last is a part of Triton's Python backend."""


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def asked_for(project: dict[str, Any], *extras: str) -> list[Requirement]:
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [ask for ask in map(Requirement, lines) if canonicalize_name(ask.name) != "molre-edge"]


def names_of(asks: list[Requirement]) -> set[str]:
    return {canonicalize_name(ask.name) for ask in asks}


def pins_of(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    pins = {}
    for line in lines:
        name, _, version = line.partition("==")
        assert version and not set(version) & set("*+;, "), f"{path.name}: {line}: expected one exact public version"
        pins[canonicalize_name(name)] = version
    assert len(pins) == len(lines), f"{path.name}: a name is there twice"
    return pins


def not_declared(files: list[Path], declared: set[str]) -> list[str]:
    """Third-party imports, at the top or within functions, whose distribution nobody asks for."""
    distributions = packages_distributions()
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            found |= {(path.name, name.split(".")[0]) for name in names}
    ours = sys.stdlib_module_names | {"molre_edge"} | NOT_INSTALLED_BY_US
    foreign = sorted(place for place in found if place[1] not in ours)
    return [
        f"{file} imports {name}"
        for file, name in foreign
        if not {canonicalize_name(brings) for brings in distributions.get(name, (name,))} & declared
    ]


def test_the_package_imports_only_what_the_base_and_the_extra_of_each_part_ask_for(
    project: dict[str, Any], modules: dict[str, Path]
) -> None:
    training, dicom = (
        {path for name, path in modules.items() if name.startswith(parts)}
        for parts in (("molre_edge.training",), ("molre_edge.dicom_results", "molre_edge.node"))
    )
    others = set(modules.values()) - training - dicom
    for files, extras in ((others, ("export",)), (training, ("export", "train")), (dicom, ("export", "dicom"))):
        declared = names_of(asked_for(project, *extras))
        assert files and {"numpy", "torch"} <= declared
        assert not_declared(sorted(files), declared) == []


def test_the_tests_import_only_what_dev_asks_for(project: dict[str, Any], root: Path) -> None:
    shared = {canonicalize_name(path.stem) for path in (root / "tests" / "fixtures").glob("*.py")}
    declared = names_of(asked_for(project, "export", "train", "dicom", "dev")) | shared
    assert not_declared(sorted((root / "tests").rglob("*.py")), declared) == []


@pytest.mark.parametrize(
    ("file", "python", "extras"), [("py311.txt", "3.11", ("export", "rtx", "dicom", "dev")), ("py310.txt", "3.10", ())]
)
def test_the_constraints_pin_every_requirement_within_its_range(
    file: str, python: str, extras: tuple[str, ...], project: dict[str, Any], root: Path
) -> None:
    pins = pins_of(root / "constraints" / file)
    for ask in asked_for(project, *extras):
        if ask.marker is not None and not ask.marker.evaluate({"python_version": python}):
            continue
        pin = pins.get(canonicalize_name(ask.name))
        assert pin is not None, f"constraints/{file} does not pin {ask.name}"
        assert ask.specifier.contains(pin), f"constraints/{file}: {ask.name} {pin} is outside {ask.specifier}"
