"""One backbone's entry, and the table into which each backbone's module puts its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from molre_edge.model.backbones.installed import InstalledWeights, load_installed
from molre_edge.model.config import DEFAULT_WINDOWS
from molre_edge.specs import Grid

__all__ = ["ENTRIES", "BackboneEntry", "register"]


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
        installed: trained weights that a package of the extra ``weights`` holds; None where there is none.
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
    installed: InstalledWeights | None = None

    def load_weights(self, module: nn.Module, folder: Path | None) -> None:
        """Load public weights from a folder or, without one, from the installed package.

        Args:
            module: as `build` made it, or on ``meta``.
            folder: of the weights; None only where `installed` is not None.

        Raises:
            CheckpointError: the weights do not fit, or a file is damaged.
            MissingDependencyError: the package is not installed.
        """
        if folder is not None:
            self.load(module, folder)
        elif self.installed is not None:
            load_installed(module, self.installed)
        else:
            raise ValueError(f"backbone {self.id} has weights in a folder only")


ENTRIES: dict[str, BackboneEntry] = {}
"""Entries by id, of the modules imported so far; :mod:`molre_edge.model.backbones.registry` imports all of them."""


def register(entry: BackboneEntry) -> BackboneEntry:
    """Add an entry.

    Raises:
        ValueError: the id is registered already, which is a bug.
    """
    if entry.id in ENTRIES:
        raise ValueError(f"backbone {entry.id} is registered twice")
    ENTRIES[entry.id] = entry
    return entry
