"""Tells what a path is and hands it to whoever knows that kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from molre_edge.adapters.file import SUFFIX
from molre_edge.bundle.bundle import MANIFEST
from molre_edge.errors import MolreEdgeError
from molre_edge.files import StrPath, read_regular, restore_folder
from molre_edge.inspection.adapter import inspect_adapter
from molre_edge.inspection.bundle import inspect_bundle
from molre_edge.inspection.checkpoint import inspect_checkpoint
from molre_edge.inspection.engine import inspect_engine
from molre_edge.inspection.findings import Inspection
from molre_edge.inspection.graph import inspect_graph
from molre_edge.inspection.run import inspect_run
from molre_edge.inspection.scans import inspect_scans
from molre_edge.progress import SILENT, Progress
from molre_edge.runs.store import RUN_FILE

__all__ = ["inspect_path", "kind_of"]

_FORMATS = {"molre-edge-bundle": "bundle", "molre-edge-run": "run", "molre-edge-engine": "engine"}
_SUFFIXES = {
    SUFFIX: "adapter",
    ".onnx": "graph",
    ".pt": "checkpoint",
    ".safetensors": "checkpoint",
    ".engine": "engine",
}
_MAX_JSON_BYTES = 16 << 20


def kind_of(path: Path) -> str:
    """The kind of a file or folder, by its name and, for JSON, its format; ``scans`` if it has no other kind."""
    if path.is_dir():
        for name, kind in ((MANIFEST, "bundle"), (RUN_FILE, "run")):
            if (path / name).is_file() and _format_of(path / name) in ("", *_FORMATS):  # "" is one that is damaged
                return kind
        return "scans"
    if path.suffix == ".json":
        return _FORMATS.get(_format_of(path), "scans")
    return _SUFFIXES.get(path.suffix, "scans")


def inspect_path(path: StrPath, *, most: int = 20, with_paths: bool = False, progress: Progress = SILENT) -> Inspection:
    """Describe a checkpoint, adapter, graph, engine, bundle, run, scan or folder of scans, without running it.

    Args:
        path: a file or folder.
        most: number of scans to read; the others are counted.
        with_paths: name scans by their paths, which may contain names of people.
        progress: receives progress events.

    Raises:
        MolreEdgeError: it has no known format, or it can't be read.
    """
    path = Path(path)
    restore_folder(path)
    if not path.exists():
        raise MolreEdgeError(f"{path}: no such file or folder")
    progress.step("reading")
    kind = kind_of(path)
    if kind == "scans":
        return inspect_scans(path, most=most, with_paths=with_paths, progress=progress)
    if path.suffix == ".json" and kind != "engine":
        path = path.parent
    ways: dict[str, Callable[[Path], Inspection]] = {
        "adapter": inspect_adapter,
        "bundle": inspect_bundle,
        "checkpoint": inspect_checkpoint,
        "engine": inspect_engine,
        "graph": inspect_graph,
        "run": inspect_run,
    }
    return ways[kind](path)


def _format_of(path: Path) -> str:
    try:
        data: Any = json.loads(read_regular(path, largest=_MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(data.get("format")) if isinstance(data, dict) else ""
