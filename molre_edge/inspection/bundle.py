"""Describes a bundle: its model, graphs, golden answers and engines. All hashes are compared; torch is not needed."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import EngineFile, list_engines
from molre_edge.bundle.golden_origin import OUTPUTS, OwnGolden, golden_words
from molre_edge.bundle.manifest import CALIBRATION_SECTIONS
from molre_edge.errors import BundleError
from molre_edge.inspection.adapter import adapter_table, listed_adapters
from molre_edge.inspection.engine import engine_row, layer_table
from molre_edge.inspection.findings import Inspection, Table, dig, megabytes, plain
from molre_edge.inspection.model import model_words
from molre_edge.verification.golden_check import check_files

__all__ = ["inspect_bundle"]


def inspect_bundle(folder: Path) -> Inspection:
    """Describe a bundle.

    Raises:
        BundleError: the folder is not a bundle.
    """
    bundle = Bundle.open(folder, remember=False)
    files = check_files(bundle)
    manifest = bundle.manifest
    try:
        engines = list_engines(bundle)
    except BundleError:  # among the problems already
        engines = ()
    added = dig(manifest, "parameters", "added_fraction")
    routers = dig(manifest, "routing", "routers")
    words = [
        ("digest", bundle.digest),
        ("made", f"{plain(dig(manifest, 'created'))} from a checkpoint with SHA-256 {bundle.checkpoint_sha256}"),
        ("by", plain(", ".join(f"{name} {version}" for name, version in manifest["tool"].items()))),
        *model_words(dig(manifest, "config")),
        ("added parameters", f"{added:.2%}" if isinstance(added, float) else "not known"),
        ("routing", f"proved for {len(routers)} routers" if isinstance(routers, dict | list) else "none to prove"),
        ("golden answers", plain(dig(manifest, "golden", "origin"))),
        *_own(bundle.own_golden),
        *_adapters(bundle),
        *(
            words
            for section in CALIBRATION_SECTIONS.values()
            for words in _calibration(section, dig(manifest, section))
        ),
        *(("note", plain(note)) for note in manifest["notes"]),
        ("hashes", f"{len(files.checked)} compared, {len(files.problems) or 'none'} wrong"),
    ]
    tables = [_graphs(bundle)]
    if engines:
        tables.append(
            Table(
                "Engines",
                ("file", "precision", "runtime", "target", "batch", "size", "built from"),
                _engines(bundle, engines),
            )
        )
        tables += [layer_table(engine) for engine in engines]
    adapters = listed_adapters(bundle)
    if adapters is not None:
        tables.insert(1, adapter_table(adapters))
    size = sum(path.stat().st_size for name in bundle.manifest["files"] if (path := folder / name).is_file())
    graphs = ", ".join(str(precision) for precision in bundle.graphs)
    built = f"{len(engines)} engine{'' if len(engines) == 1 else 's'}" if engines else "no engines"
    facts: dict[str, Any] = {
        "path": str(folder),
        "digest": bundle.digest,
        "manifest": dict(manifest),
        "adapters": None if adapters is None else adapters.to_dict(),
        "engines": [{"path": str(engine.path), **engine.facts} for engine in engines],
        "hashes": {"checked": list(files.checked), "problems": dict(files.problems)},
        "bytes": size,
    }
    summary = f"a bundle of molre-edge ({megabytes(size)}): {graphs} graphs, {built}"
    return Inspection("bundle", summary, facts, tuple(words), tuple(tables), tuple(files.problems.values()))


def _own(own: OwnGolden | None) -> list[tuple[str, str]]:
    """Whose answers the golden answers are, if they are those of the user's own model."""
    if own is None:
        return []
    rest = [name for name in OUTPUTS if name not in own.outputs]
    more = f"; {' and '.join(rest)} of the rebuild" if rest else ""
    words = [
        ("they are", f"{golden_words(own, own.scans)}"),
        ("their file's SHA-256", own.sha256),
        ("the rebuild differs by", f"{own.max_abs_dlogit:.2g} logits, {own.max_abs_dp:.2g} in p, at most{more}"),
    ]
    return [*words, ("note on them", plain(own.note))] if own.note else words


def _adapters(bundle: Bundle) -> list[tuple[str, str]]:
    """Where the trained tensors are, if the graphs take them as inputs."""
    specs = next(iter(bundle.graphs.values())).adapter_inputs
    if not specs:
        return []
    values = sum(prod(spec.sides) for spec in specs)
    return [("adapters", f"the graphs take {len(specs)} trained tensors as inputs, {values:,} numbers")]


def _calibration(name: str, section: Any) -> list[tuple[str, str]]:
    """The manifest's words about an 8-bit graph; empty if there is none."""
    if not isinstance(section, dict):
        return []
    title = name.replace("_", ", ")
    coverage, method = section.get("coverage"), section.get("method")
    if isinstance(coverage, str):
        adapter = dig(section, "adapter", "name")
        judged = f", judged with the adapter {adapter}" if adapter else ""
        return [(title, plain(f"{coverage}; {method} ranges{judged}"))]
    told = {key: value for key, value in section.items() if key not in ("key", "notes")}
    return [(title, plain(", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in told.items())))]


def _graphs(bundle: Bundle) -> Table:
    rows = []
    for precision, facts in bundle.graphs.items():
        path = bundle.folder / facts.file
        passed = dig(bundle.manifest, "parity", str(precision), "verdict", "passed")
        verdict = "–" if not isinstance(passed, bool) else "passed" if passed else "failed"
        size = megabytes(path.stat().st_size) if path.is_file() else "missing"
        rows.append(
            (
                facts.file,
                str(facts.inputs[0]),
                f"opset {facts.opset}, IR {facts.ir_version}",
                size,
                verdict,
            )
        )
    return Table("Graphs", ("file", "input", "format", "size", "parity when made"), tuple(rows))


def _engines(bundle: Bundle, engines: tuple[EngineFile, ...]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for engine in engines:
        current = bundle.manifest["files"].get(engine.graph) == engine.graph_sha256
        rows.append((*engine_row(engine), engine.graph if current else f"another {plain(engine.graph)}"))
    return tuple(rows)
