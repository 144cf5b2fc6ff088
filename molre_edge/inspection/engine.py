"""Describes an engine by its JSON file, and compares the engine's hash. The engine is never deserialised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import MANIFEST, Bundle
from molre_edge.bundle.engine_files import EngineFile, read_engine, read_engine_facts
from molre_edge.errors import BundleError, SigningError
from molre_edge.files import sha256_of
from molre_edge.inspection.findings import Inspection, Table, dig, megabytes, plain

__all__ = ["engine_row", "inspect_engine", "layer_table"]


def inspect_engine(path: Path) -> Inspection:
    """Describe an engine, by its own path or that of its JSON file.

    Raises:
        BundleError: the JSON file beside it is missing or invalid.
    """
    engine = read_engine_facts(path.with_suffix(".json"))
    facts = engine.facts
    name, precision, runtime, target, batch, size = engine_row(engine)
    problem = _problem(engine)
    words = [
        ("runtime", runtime),
        ("target", target),
        ("precision", f"{precision}, as requested; the table shows what was built"),
        ("batch", batch),
        ("size", size),
        ("built", f"{plain(facts.get('created'))} in {plain(facts.get('build_seconds'))} s"),
        ("attentions in one kernel", plain(dig(facts, "layers", "fused_attention"))),
        ("SHA-256", engine.sha256),
        ("graph", f"{plain(engine.graph)}, SHA-256 {engine.graph_sha256}"),
        ("hash", "differs" if problem else "the file is the one that its JSON file names"),
    ]
    return Inspection(
        "engine",
        f"an engine for {runtime}, {name}, {size}",
        {"path": str(engine.path), **facts},
        tuple(words),
        (layer_table(engine),),
        (problem,) if problem else (),
    )


def engine_row(engine: EngineFile) -> tuple[str, str, str, str, str, str]:
    """File, precision, runtime, target, batch and size, in words."""
    facts = engine.facts
    profiles: Any = dig(facts, "profile")
    profile = next(iter(profiles.values()), None) if isinstance(profiles, dict) else None
    batch = " / ".join(plain(shape[0]) for name in ("min", "opt", "max") if (shape := dig(profile, name)))
    capabilities = dig(facts, "target", "compute_capabilities")
    if isinstance(capabilities, list):
        capabilities = ", ".join(map(str, capabilities))
    size = facts.get("bytes")
    return (
        engine.path.name,
        plain(facts.get("precision")),
        plain(f"{dig(facts, 'runtime', 'name')} {dig(facts, 'runtime', 'version')}"),
        plain(f"{dig(facts, 'target', 'name')} ({capabilities})"),
        batch or "–",
        megabytes(size) if isinstance(size, int) else "–",
    )


def layer_table(engine: EngineFile) -> Table:
    """Numbers of layers by type and datatype, as built."""
    by_type: Any = dig(engine.facts, "layers", "by_type") or {}
    kinds = {kind: counts for kind, counts in by_type.items() if isinstance(counts, dict)}
    datatypes = sorted({datatype for counts in kinds.values() for datatype in counts})
    rows = [
        (plain(kind), *(plain(counts.get(datatype, "–")) for datatype in datatypes)) for kind, counts in kinds.items()
    ]
    return Table(f"Layers of {engine.path.name}, as built", ("type", *map(plain, datatypes)), tuple(rows))


def _problem(engine: EngineFile) -> str | None:
    """Why the engine would be refused. In a bundle, the hash of its graph is compared as well."""
    folder = engine.path.parent.parent
    try:
        if (folder / MANIFEST).is_file():
            read_engine(Bundle.open(folder, remember=False), engine)
        elif sha256_of(engine.path) != engine.sha256:
            return f"{engine.path}: altered or swapped: its SHA-256 is not the one in its JSON file. Build it again"
    except (BundleError, SigningError) as error:
        return str(error)
    except OSError as error:
        return f"{engine.path}: can't be read ({error.strerror})"
    return None
