"""A stand-in for DeepCNTD-Net (arXiv 2502.21106), the paper's 3D baseline without MoLRE.

Its code is not public, and neither are its shapes. What is known: it is a 3D network, of about 7 million parameters
(inferred from the range that the paper gives for its six models), with features from networks that segment haemorrhage
and brain. So this is a segmentation network's encoder, MONAI's SegResEncoder, slim enough to have 6.9 million. Its
answers say nothing about DeepCNTD-Net's.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from molre_edge.errors import CheckpointError
from molre_edge.model.backbones.entry import BackboneEntry, register
from molre_edge.model.backbones.segresenc import build_segresenc
from molre_edge.specs import Grid

__all__: list[str] = []


def _load(module: nn.Module, folder: Path) -> None:
    raise CheckpointError(
        f"{folder}: deepcntd-standin has no published weights; store the backbone's own in the checkpoint"
    )


def _entry(name: str, parameters: int | None, grid: Grid, filters: int, blocks: tuple[int, ...], last: int) -> None:
    register(
        BackboneEntry(
            id=name,
            dimensions=3,
            parameters=parameters,
            grid=grid,
            mean=(0.0,),
            std=(1.0,),
            adapted=(),  # as in the paper, where it is the baseline
            # norms of each volume by itself, so that it can be trained from scratch with small batches
            build=build_segresenc({"init_filters": filters, "blocks": blocks, "last_blocks": last, "norm": "instance"}),
            load=_load,
            source="ours: a stand-in for DeepCNTD-Net, whose definition is not public; MONAI SegResEncoder",
        )
    )


_entry("deepcntd-standin", 6_874_020, Grid(slices=32, rows=128, cols=128), 20, (1, 2, 2), 4)
_entry("deepcntd-tiny", None, Grid(slices=8, rows=32, cols=32), 8, (1, 1), 1)
