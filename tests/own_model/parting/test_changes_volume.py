"""Other ways to the grid: each is a setting of the checkpoint, or a turn that a setting undoes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from molre_edge.own_model.inputs_folder import HuVolume
from molre_edge.own_model.parting.chain import Chain, on_grid
from molre_edge.own_model.parting.changes_volume import volume_changes
from molre_edge.own_model.parting.steps import Step
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


def test_every_change_has_a_name_of_its_own_runs_and_is_a_setting() -> None:
    changes = list(volume_changes(GRID, resampled=True))
    assert len({(change.where, change.text) for change in changes}) == len(changes) > 85
    own = on_grid(SCAN, GRID)
    for change in changes:
        volume = change.apply(_Placed(), SCAN if change.where == "sample" else own)
        assert volume.shape == GRID.shape and np.isfinite(volume).all(), change.text
        if change.step is Step.GRID:
            setting = json.loads("{" + change.fix.removeprefix("in the checkpoint, ") + "}")["grid"]
            assert (on_grid(SCAN, replace(GRID, **setting)) == volume).all(), change.text


def test_an_axis_that_runs_the_other_way_is_the_setting_that_it_names() -> None:
    square = replace(GRID, cols=16)
    own = on_grid(SCAN, square)
    turns = [each for each in volume_changes(square, resampled=True) if '"axes"' in each.fix]
    assert len(turns) == 8
    for change in turns:
        setting = json.loads("{" + change.fix.partition("in the checkpoint, ")[2] + "}")["grid"]
        assert (on_grid(SCAN, replace(square, **setting)) == change.apply(_Placed(), own)).all(), change.fix
