"""A model's configuration in words; a checkpoint and a bundle's manifest both hold one."""

from __future__ import annotations

from typing import Any

from molre_edge.inspection.findings import dig, plain
from molre_edge.specs import RESAMPLING

__all__ = ["adaptation", "model_words"]


def adaptation(config: Any) -> str:
    """How the backbone is adapted: ``MoLRE: K = 6 experts of rank 8, ...``."""
    experts, rank, alpha = (dig(config, "adapter", name) for name in ("experts", "rank", "alpha"))
    if experts == 0:
        return "none: frozen backbone (K = 0)"
    if experts == 1:
        return f"LoRA: rank {plain(rank)}, alpha {plain(alpha)}, no router (K = 1)"
    return (
        f"MoLRE: K = {plain(experts)} experts of rank {plain(rank)}, alpha {plain(alpha)}, a router a "
        f"{plain(dig(config, 'router', 'sharing'))} of hidden size {plain(dig(config, 'router', 'hidden'))}, gates a "
        f"{plain(dig(config, 'router', 'level'))}"
    )


def model_words(config: Any) -> list[tuple[str, str]]:
    """Lines about a configuration that may hold anything."""
    grid = dig(config, "grid") or {}
    shape = " x ".join(plain(dig(grid, name)) for name in ("slices", "rows", "cols"))
    modules, findings = dig(config, "adapter", "modules"), dig(config, "findings")
    options = dig(config, "backbone", "options")
    words = [
        ("backbone", plain(dig(config, "backbone", "id")) + (f", with {plain(options)}" if options else "")),
        ("grid", f"{shape} (slices x rows x cols), field {plain(dig(grid, 'field_mm'))} mm"),
    ]
    if settings := [f"{name} {plain(dig(grid, name))}" for name in RESAMPLING if dig(grid, name) is not None]:
        words.append(("resampling", ", ".join(settings)))
    windows = ", ".join(f"{c:g}/{w:g}" for c, w in _pairs(dig(config, "windows")))
    words.append(("windows", plain(windows + " HU (centre/width)")))
    if dig(config, "window_range"):
        words.append(("windows lead to", plain(dig(config, "window_range"))))
    if dig(config, "normalisation"):
        mean, std = (plain(dig(config, "normalisation", name)) for name in ("mean", "std"))
        words.append(("normalisation", f"mean {mean}, deviation {std}"))
    words.append(("adaptation", adaptation(config)))
    if modules:
        words.append(("adapted", plain(", ".join(map(str, modules)) if isinstance(modules, list | tuple) else modules)))
    if isinstance(findings, list | tuple):
        words.append(("findings", f"{len(findings)}: {plain(', '.join(map(str, findings)))}"))
    thresholds = [value for value in dig(config, "thresholds") or () if isinstance(value, int | float)]
    if thresholds:
        words.append(("thresholds", f"{min(thresholds):.3f} to {max(thresholds):.3f}"))
    return words


def _pairs(values: Any) -> list[tuple[float, float]]:
    """(centre, width) of each window that is one, written either way."""
    if not isinstance(values, list | tuple):
        return []
    pairs = []
    for value in values:
        ends = [value.get("low"), value.get("high")] if isinstance(value, dict) else value
        if isinstance(ends, list | tuple) and len(ends) == 2 and all(isinstance(v, int | float) for v in ends):
            low, high = float(ends[0]), float(ends[1])
            pairs.append(((low + high) / 2, high - low) if isinstance(value, dict) else (low, high))
    return pairs
