"""Importing a module of the edge side, or asking for help, loads no heavy library: those arrive when they are used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch", "transformers", "safetensors", "onnx", "onnxscript", "onnxsim", "onnxruntime", "tensorrt", "tensorrt_rtx",
    "pycuda", "cuda", "pydicom", "pylibjpeg", "openjpeg", "jpeg_ls", "SimpleITK", "nibabel", "jinja2", "matplotlib",
    "scipy",
)  # fmt: skip
TORCH_AT_THE_TOP = ("molre_edge.model", "molre_edge.training")
"""Parts that are torch, and are themselves imported late."""

REPORT = """
import importlib, json, sys
modules, heavy = json.load(sys.stdin)
loaded, before = {}, set()
for name in modules:
    try:
        importlib.import_module(name)
    except Exception as error:
        loaded[name] = repr(error)
    else:
        loaded[name] = sorted((set(sys.modules) & set(heavy)) - before)
    before = set(sys.modules)
json.dump(loaded, sys.stdout)
"""
"""All in one process: that a module can be imported before any other follows from imports without circles, which
test_import_direction.py asserts; and where all of them together load nothing heavy, none does."""


def is_late(module: str) -> bool:
    return module.startswith(tuple(f"{part}." for part in TORCH_AT_THE_TOP)) and module not in TORCH_AT_THE_TOP


def edge_modules() -> list[str]:
    """Names of all modules but the late ones; found here, and not in a fixture, since they are parameters."""
    root = Path(__file__).resolve().parents[2]
    names = set()
    for folder in ("molre_edge", "export", "calibration", "engines"):
        for path in (root / folder).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            inside = parts if folder == "molre_edge" else ("molre_edge", *parts)
            names.add(".".join(inside).removesuffix(".__init__"))
    return sorted(name for name in names if not is_late(name) and not name.endswith("__main__"))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str] | str]:
    """Module -> heavy libraries that are there after importing it and were not before; or why it can't be imported."""
    modules = edge_modules()
    done = subprocess.run(
        [sys.executable, "-c", REPORT],
        input=json.dumps([modules, HEAVY]),
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("elsewhere"),
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_libraries_are_there_to_be_loaded() -> None:
    code = f"import json, sys, torch, onnxruntime, pydicom; print(json.dumps(sorted(set(sys.modules) & set({HEAVY}))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "onnxruntime", "pydicom"} <= set(json.loads(done.stdout))


def test_importing_a_module_of_the_edge_side_loads_no_heavy_library(loaded: dict[str, list[str] | str]) -> None:
    assert len(loaded) > 150
    assert {module: heavy for module, heavy in loaded.items() if heavy} == {}
