"""Imports point one way, and only the command line prints."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

LAYERS = (
    ("errors", "files", "findings", "locks", "machine", "offline", "progress", "regular"),
    ("specs",),
    ("parity", "model", "scans"),
    ("reports", "synthetic", "bundle"),
    ("training", "engines"),
    ("verification", "export"),
    ("runs", "calibration"),
    ("benchmarking", "inspection", "doctor"),
    ("api",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""Parts of molre_edge; each may import its own layer and those before it. The version may be imported by all."""


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def layer_of(part: str) -> int:
    places = [place for place, parts in enumerate(LAYERS) if part in parts]
    assert places, f"molre_edge.{part} has no place among LAYERS"
    return places[0]


def imports_of(path: Path, modules: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and name of each module of ours that is imported, at the top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else str(node.module) for name in full]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "molre_edge")


def test_every_part_has_a_layer(modules: dict[str, Path]) -> None:
    parts = {part_of(name) for name in modules} - {""}
    assert {"errors", "scans", "export", "cli"} <= parts
    assert sorted(parts - {part for layer in LAYERS for part in layer}) == []


def test_no_module_imports_from_a_layer_above_its_own(modules: dict[str, Path]) -> None:
    seen, wrong = 0, []
    for module, path in modules.items():
        for line, imported in imports_of(path, modules):
            seen += 1
            if imported == "molre_edge":
                continue
            if layer_of(part_of(imported)) > (layer_of(part_of(module)) if part_of(module) else 0):
                wrong.append(f"{module}:{line} imports {imported}")
    assert seen > 100
    assert wrong == []


def test_parts_of_one_layer_do_not_import_each_other_in_a_circle(modules: dict[str, Path]) -> None:
    edges: set[tuple[str, str]] = set()
    for module, path in modules.items():
        edges |= {(part_of(module), part_of(name)) for _, name in imports_of(path, modules) if part_of(name)}
    edges = {(a, b) for a, b in edges if a != b}
    while ends := {b for _, b in edges} ^ {a for a, _ in edges}:
        edges = {(a, b) for a, b in edges if not {a, b} & ends}
    assert edges == set(), "(importing part, imported part) of the circle"


def test_only_the_command_line_prints(modules: dict[str, Path]) -> None:
    wrong = []
    for module, path in modules.items():
        if part_of(module) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            printing = isinstance(called, ast.Name) and called.id == "print"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if printing or any(name.split(".")[0] in ("rich", "typer") for name in names):
                wrong.append(f"{module}:{node.lineno}")
    assert wrong == []
