"""A very small model, its bundle and some scans, so that a command ends within seconds and can be tried often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from reliability_commands import Assets

from molre_edge.adapters.file import write_adapter
from molre_edge.bundle.bundle import Bundle
from molre_edge.demo import draw_model
from molre_edge.export.exporter import export_checkpoint
from molre_edge.export.graph import CONSTANTS, INPUTS
from molre_edge.model.checkpoint import save_checkpoint
from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig, RouterConfig
from molre_edge.scans import find_scans, read_scan, to_grid
from molre_edge.specs import Grid
from molre_edge.synthetic import make_head, write_dicom_series, write_nifti
from molre_edge.training.dataset import make_dataset

__all__ = ["make_assets"]

_SIZE = {"num_hidden_layers": 2, "hidden_size": 96, "num_attention_heads": 3, "intermediate_size": 192}
_SCAN = (12, 96, 96)
_FINDINGS = ("intraparenchymal_hemorrhage", "craniotomy_or_craniectomy")
_LIMITS = (
    "[fp16]\nmax_abs_dp = 0.1\nmax_abs_dlogit = 0.4\nflip_margin_logit = 0.4\nmax_flips_fraction = 0.1\n"
    "max_routing_l1 = 0.2\n"
    "[int8]\nmax_abs_dp = 0.2\nmax_abs_dlogit = 1\nflip_margin_logit = 1\nmax_flips_fraction = 0.3\n"
    "max_routing_l1 = 0.3\n"
)
"""A narrow model rounds more than the usual limits allow."""


def make_assets(folder: Path) -> Assets:
    """Make checkpoint, bundle, limits, two scans (a DICOM series, a NIfTI file) and four labelled ones in a folder."""
    scans = folder / "scans"
    write_dicom_series(make_head(2, ("intraparenchymal_hemorrhage",), shape=_SCAN), scans / "head-2")
    write_nifti(make_head(4, shape=_SCAN), scans / "head-4.nii.gz")
    config = ModelConfig(
        backbone=BackboneConfig(id="dinov3-vits16", options=_SIZE),
        grid=Grid(slices=4, rows=32, cols=32),
        adapter=AdapterConfig(modules=("attention.o_proj",), experts=3, rank=2),
        router=RouterConfig(hidden=4),
        budget=1.0,  # so small a backbone has no room for adapters below the usual 0.5 %
    )
    volumes = np.stack([to_grid(read_scan(source), config.grid) for source in find_scans(scans).scans])
    save_checkpoint(draw_model(config, volumes), folder / "ckpt.pt")
    (folder / "limits.toml").write_text(_LIMITS)
    export_checkpoint(
        folder / "ckpt.pt", folder / "edge-bundle", golden_volumes=3, limits=folder / "limits.toml", adapters=CONSTANTS
    )
    _make_adapters(folder)
    make_dataset(folder / "data", scans=4, shape=(8, 48, 48), findings=_FINDINGS, prevalence=0.5)
    return Assets(
        folder / "ckpt.pt", folder / "edge-bundle", scans, folder / "limits.toml", folder / "data", folder / "adapters"
    )


def _make_adapters(folder: Path) -> None:
    """A bundle that takes adapters, and two versions of one that differ in what they say of their making."""
    place, limits = folder / "adapters", folder / "limits.toml"
    export_checkpoint(
        folder / "ckpt.pt",
        place / "edge-bundle",
        golden_volumes=2,
        limits=limits,
        adapters=INPUTS,
        precisions=("fp32",),
    )
    first = Bundle.open(place / "edge-bundle").adapter()
    for word in ("older", "newer"):
        write_adapter(replace(first, name="other", training={"created": word}), place / f"{word}.adapter")
