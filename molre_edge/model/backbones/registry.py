"""The registry of backbones: what a checkpoint's ``backbone.id`` names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from molre_edge.errors import ConfigError
from molre_edge.model.config import DEFAULT_WINDOWS
from molre_edge.specs import Grid

__all__ = ["BackboneEntry", "backbone_entry", "backbone_ids", "register"]


@dataclass(frozen=True, kw_only=True)
class BackboneEntry:
    """One backbone.

    Attributes:
        id: its name in checkpoints.
        dimensions: 2 (runs on slices, [units, channels, rows, cols] -> [units, d]) or
            3 (runs on volumes, [batch, channels, slices, rows, cols] -> [batch, d]).
        parameters: number of parameters of the definition, checked by a test; None for a tiny one of ours.
        grid: the grid that a model reads unless it is told otherwise.
        mean, std: normalisation of the channels after windowing.
        adapted: the default adapted modules, within the parameter budget; empty for a baseline without MoLRE.
        build: (grid, channels, options) -> module with ``embed_dim``; random weights, nothing is downloaded.
        load: (module, folder) -> loads the public weights' layout from a local folder; the module may have been built
            on ``meta``, so that a folder of another size is refused before memory is taken.
        source: where the definition comes from.
        windows: (centre, width) in HU of the channels that the backbone was trained on, or the default three.
    """

    id: str
    dimensions: int
    parameters: int | None
    grid: Grid
    mean: tuple[float, ...]
    std: tuple[float, ...]
    adapted: tuple[str, ...]
    build: Callable[[Grid, int, Mapping[str, Any]], nn.Module]
    load: Callable[[nn.Module, Path], None]
    source: str
    windows: tuple[tuple[float, float], ...] = DEFAULT_WINDOWS


_ENTRIES: dict[str, BackboneEntry] = {}


def register(entry: BackboneEntry) -> BackboneEntry:
    """Add an entry; two of one id are a mistake of ours."""
    if entry.id in _ENTRIES:
        raise ValueError(f"backbone {entry.id} is registered twice")
    _ENTRIES[entry.id] = entry
    return entry


def backbone_entry(name: str) -> BackboneEntry:
    """The entry of an id.

    Raises:
        ConfigError: there is none; the message lists the known ids and the nearest one.
    """
    _register_all()

    if name not in _ENTRIES:
        near = difflib.get_close_matches(name, _ENTRIES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"backbone.id: unknown {name!r}{hint} (known: {', '.join(sorted(_ENTRIES))})")
    return _ENTRIES[name]


def backbone_ids() -> tuple[str, ...]:
    """All known ids, sorted."""
    _register_all()

    return tuple(sorted(_ENTRIES))


def _register_all() -> None:
    """Import the modules that register entries; they import this one."""
    from molre_edge.model.backbones import (  # noqa: F401
        convnet,
        davit,
        deepcntd,
        dinov3,
        headct_vit,
        pillar0,
        segresenc,
        siglip,
    )
