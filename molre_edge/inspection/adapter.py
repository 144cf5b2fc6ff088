"""Describes an adapter by its file, and the adapters of a bundle by its list. Nothing is run."""

from __future__ import annotations

from pathlib import Path

from molre_edge.adapters.file import read_adapter
from molre_edge.bundle.bundle import Bundle
from molre_edge.errors import MolreEdgeError
from molre_edge.inspection.findings import Inspection, Table, dig, megabytes, plain
from molre_edge.verification.adapter_verbs import AdapterList, list_adapters

__all__ = ["adapter_table", "inspect_adapter", "listed_adapters"]


def inspect_adapter(path: Path) -> Inspection:
    """Describe an adapter's file.

    Raises:
        AdapterError: it is damaged, or no adapter.
    """
    adapter = read_adapter(path)
    fit, grid, size = adapter.fit, adapter.fit.grid, path.stat().st_size
    settings = ", ".join(f"{name} {plain(value)}" for name, value in grid.settings.items())
    values = sum(value.size for value in adapter.tensors.values())
    words = [
        ("SHA-256", adapter.digest),
        ("packed", f"{plain(dig(adapter.training, 'created'))} from a checkpoint with {adapter.checkpoint_sha256}"),
        ("backbone", f"{plain(fit.backbone)}, SHA-256 of its weights {fit.backbone_sha256}"),
        ("grid", f"{grid.slices} x {grid.rows} x {grid.cols}, {grid.field_mm:g} mm"),
        *([("resampling", settings)] if settings else ()),
        ("adapted modules", f"{len(fit.places)}, with {len(set(fit.groups))} routers"),
        ("experts and rank", f"K = {fit.experts}, r = {fit.rank}; {plain(fit.level)} routing"),
        ("trained values", f"{values:,}".replace(",", " ")),
        ("findings", plain(", ".join(adapter.findings))),
        ("golden answers", f"to {len(adapter.golden)} volumes with SHA-256 {adapter.golden_volumes}"),
        ("size", megabytes(size)),
    ]
    facts = {
        "path": str(path),
        "name": adapter.name,
        "sha256": adapter.digest,
        "findings": list(adapter.findings),
        "thresholds": adapter.thresholds.tolist(),
        "fit": fit.to_dict(),
        "golden_volumes": adapter.golden_volumes,
        "checkpoint_sha256": adapter.checkpoint_sha256,
        "training": dict(adapter.training),
        "bytes": size,
    }
    return Inspection("adapter", f"an adapter of molre-edge, {adapter.name} ({megabytes(size)})", facts, tuple(words))


def listed_adapters(bundle: Bundle) -> AdapterList | None:
    """A bundle's adapters; None where its graphs take none, or its list is damaged, which its check reports."""
    if bundle.fit is None:
        return None
    try:
        return list_adapters(bundle)
    except MolreEdgeError:
        return None


def adapter_table(listed: AdapterList) -> Table:
    """The adapters of a bundle, for people."""
    rows = tuple(
        (
            f"{each.name} (default)" if each.default else each.name,
            each.digest[:12],
            plain(each.added),
            str(len(each.findings)),
            "–" if each.experts is None else f"K = {each.experts}, r = {each.rank}",
            plain(", ".join(each.checked)) or "–",
        )
        for each in listed.adapters
    )
    return Table("Adapters", ("name", "SHA-256", "added", "findings", "experts", "checked on"), rows)
