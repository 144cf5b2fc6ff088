"""Imports point one way, from file to file too; the command line takes verbs alone, and only it prints."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

LAYERS = (
    (
        "errors",
        "files",
        "findings",
        "locks",
        "machine",
        "offline",
        "progress",
        "regular",
        "safetensors_header",
        "tables",
    ),
    ("specs",),
    ("adapters", "parity", "model", "scans", "signing"),
    ("reports", "synthetic", "bundle", "dicom_results"),
    ("training", "engines", "own_model"),
    ("verification", "export"),
    ("runs", "calibration"),
    ("benchmarking", "inspection", "doctor", "node", "triton"),
    ("api", ""),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""Parts of molre_edge; each may import its own layer and those before it. The front door, molre_edge itself, is ""; its
version may be imported by all."""
IN_THE_COMMAND_LINE = ("cli", "errors", "progress", "specs")
"""Parts that a command may import, besides the public names from the places that molre_edge.api names."""
OF_THE_DEMO = {"molre_edge.cli.demo": "molre_edge.demo"}
"""The demo is a user of the verbs with a command of its own."""
ONE_NAME = {
    "molre_edge.cli.completion": ("molre_edge.bundle.bundle.MANIFEST", "molre_edge.runs.store.RUN_FILE"),
    "molre_edge.cli.app": ("molre_edge.offline.disable_network",),
    "molre_edge.cli.program": ("molre_edge.machine.startable_threads", "molre_edge.machine.usable_cores"),
    "molre_edge.cli.shell": ("molre_edge.files.restore_folder",),
}
"""Constants by which the shell tells bundles and runs; what the program does before any command; and what comes before
the message that there is no such bundle."""


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def layer_of(part: str) -> int:
    places = [place for place, parts in enumerate(LAYERS) if part in parts]
    assert places, f"molre_edge.{part} has no place among LAYERS"
    return places[0]


def imports_of(path: Path, modules: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and name of each module of ours that is imported, at the top or within a function."""
    yield from ((line, module) for line, module, _ in names_of(ast.parse(path.read_text(encoding="utf-8")), modules))


def names_of(tree: ast.AST, modules: dict[str, Path]) -> Iterator[tuple[int, str, str]]:
    """Line, module of ours and the name taken from it (none for the module itself) of each import in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            full = [(f"{node.module}.{alias.name}", alias.name) for alias in node.names]
            found = [(whole, "") if whole in modules else (str(node.module), name) for whole, name in full]
        else:
            continue
        yield from ((node.lineno, module, name) for module, name in found if module.split(".")[0] == "molre_edge")


def run_time_names(path: Path, modules: dict[str, Path]) -> list[tuple[int, str, str]]:
    """The same without what is imported for the type checker alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return list(names_of(tree, modules))


def test_every_part_has_a_layer(modules: dict[str, Path]) -> None:
    parts = {part_of(name) for name in modules} - {""}
    assert {"errors", "scans", "export", "cli"} <= parts
    assert sorted(parts - {part for layer in LAYERS for part in layer}) == []


def test_no_module_imports_from_a_layer_above_its_own(modules: dict[str, Path]) -> None:
    seen, wrong = 0, []
    for module, path in modules.items():
        for line, imported in imports_of(path, modules):
            seen += 1
            if imported != "molre_edge" and layer_of(part_of(imported)) > layer_of(part_of(module)):
                wrong.append(f"{module}:{line} imports {imported}")
    assert seen > 100
    assert wrong == []


def test_below_the_front_door_only_its_version_is_imported(modules: dict[str, Path]) -> None:
    wrong, door = [], layer_of("")
    for module, path in modules.items():
        names = names_of(ast.parse(path.read_text(encoding="utf-8")), modules)
        taken = [(line, name) for line, imported, name in names if imported == "molre_edge" and name != "__version__"]
        wrong += [
            f"{module}:{line} takes {name or 'all of it'}" for line, name in taken if layer_of(part_of(module)) <= door
        ]
    assert wrong == []


def test_no_file_imports_a_file_that_imports_it(modules: dict[str, Path]) -> None:
    """Neither at once nor over others; imports within functions and for the type checker count too."""
    edges: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = names_of(ast.parse(path.read_text(encoding="utf-8")), modules)
        edges[module] = {imported for _, imported, name in names if (imported, name) != ("molre_edge", "__version__")}
        edges[module].discard(module)
    assert circles(edges) == []


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other: what is left when ends are taken off, one by one."""
    left = {node: targets & edges.keys() for node, targets in edges.items()}
    while ends := {n for n, targets in left.items() if not targets or not any(n in each for each in left.values())}:
        left = {node: targets - ends for node, targets in left.items() if node not in ends}
    return [[node, *sorted(targets)] for node, targets in sorted(left.items())]


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"], ["c", "b"]]


def test_a_command_imports_public_names_and_nothing_else(modules: dict[str, Path]) -> None:
    from molre_edge.api import PLACES

    wrong = []
    for module, path in modules.items():
        if part_of(module) != "cli":
            continue
        for line, imported, name in run_time_names(path, modules):
            public = PLACES.get(name) == imported or imported == "molre_edge"
            constant = f"{imported}.{name}" in ONE_NAME.get(module, ())
            if public or constant or part_of(imported) in IN_THE_COMMAND_LINE or OF_THE_DEMO.get(module) == imported:
                continue
            wrong.append(f"{module}:{line} imports {imported}.{name}")
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
