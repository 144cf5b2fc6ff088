"""Other ways to the grid, beside numbers of other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from molre_edge.own_model.inputs_folder import HuVolume
from molre_edge.own_model.parting.chain import Chain
from molre_edge.own_model.parting.changes_volume import Sampling, volume_changes
from molre_edge.scans.grid import sample
from molre_edge.specs import Grid

GRID = Grid(slices=3, rows=16, cols=24)
RNG = np.random.default_rng(0)
SCAN = HuVolume(
    hu=RNG.integers(-1000, 1000, (6, 40, 60)).astype(np.float32),
    positions_mm=np.arange(6) * 5.0,
    thickness_mm=np.full(6, 5.0),
    pixel_mm=(4.0, 4.0),
    range_mm=(-2.5, 27.5),
    centre_mm=(78.0, 118.0),
)


class _Placed(Chain):
    """A chain without a model: sampling needs the grid alone."""

    def __init__(self) -> None:
        self.grid = GRID


def test_the_default_is_molre_edge_s_own() -> None:
    half, _ = sample(SCAN.hu, SCAN.positions_mm, SCAN.thickness_mm, SCAN.pixel_mm, GRID, SCAN.range_mm, SCAN.centre_mm)
    assert (Sampling()(_Placed(), SCAN) == half.astype(np.float32)).all()


@pytest.mark.parametrize(
    ("plane", "mode"), [("linear", "bilinear"), ("cubic", "bicubic"), ("nearest", "nearest-exact")]
)
def test_whole_pictures_are_resized_as_pytorch_does(plane: str, mode: str) -> None:
    middle = SCAN.hu[[1, 3, 5]]  # the slices nearest to the middles of the three bins
    options: dict[str, Any] = {} if mode == "nearest-exact" else {"align_corners": False}
    wanted = torch.nn.functional.interpolate(torch.from_numpy(middle)[None], (16, 24), mode=mode, **options)[0].numpy()
    ours = Sampling(plane, "nearest", whole_field=True)(_Placed(), SCAN)
    inner = slice(None), slice(2, -2), slice(2, -2)  # PyTorch repeats the edge, molre-edge has air there
    assert np.abs(ours - wanted.clip(-1024, 3071))[inner].max() < 1.0  # half floats round up to 0.5 HU


def test_every_change_has_a_name_of_its_own_and_runs() -> None:
    changes = list(volume_changes(GRID, resampled=True))
    assert len({change.text for change in changes}) > 55
    for change in changes:
        volume = change.apply(_Placed(), SCAN if change.where == "sample" else Sampling()(_Placed(), SCAN))
        assert volume.shape == GRID.shape and np.isfinite(volume).all(), change.text
