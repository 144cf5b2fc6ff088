"""The models with random weights, drawn once and kept for later steps: one with adapters, one without."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.specs import Grid

MOLRE, PLAIN_MODEL = "molre", "none"
_VOLUMES = 4


def grid_of(options: argparse.Namespace) -> Grid:
    """The grid that was asked for."""
    from molre_edge.model.backbones.registry import backbone_entry

    entry = backbone_entry(options.backbone)
    return replace(entry.grid, slices=options.slices) if entry.dimensions == 2 else entry.grid


def volumes_of(options: argparse.Namespace, folder: Path) -> npt.NDArray[np.float16]:
    """Synthetic heads and a volume of extremes, HU [4, slices, rows, cols]; without SimpleITK extremes alone."""
    path = folder / f"volumes-{options.slices}.npy"
    if not path.is_file():
        from molre_edge.export.golden import extreme_volume, synthetic_volumes

        grid = grid_of(options)
        try:
            volumes = synthetic_volumes(grid, _VOLUMES)
        except ImportError:
            volumes = np.stack([extreme_volume(grid, seed) for seed in range(_VOLUMES)])
        np.save(path, volumes)
    drawn: npt.NDArray[np.float16] = np.load(path)
    return drawn


def checkpoint(options: argparse.Namespace, folder: Path, adapter: str) -> Path:
    """The checkpoint of a model whose answers depend on the image, on its routers and on its experts."""
    path = folder / f"{adapter}-{options.slices}.pt"
    if not path.is_file():
        from molre_edge.demo import draw_model
        from molre_edge.model.checkpoint import save_checkpoint
        from molre_edge.model.defaults import default_config

        config = default_config(options.backbone, grid=grid_of(options), adapter=adapter)
        save_checkpoint(draw_model(config, volumes_of(options, folder)), path)
    return path


def model_of(options: argparse.Namespace, folder: Path, adapter: str) -> Any:
    """The model, on the CPU, in eval mode."""
    from molre_edge.model.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint(options, folder, adapter)).model.eval()
