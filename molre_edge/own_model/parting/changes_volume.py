"""What a user's own reader may do otherwise: order and direction of the axes, HU, field of view, resampling."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from molre_edge.errors import ConfigError
from molre_edge.own_model.inputs_folder import HuVolume
from molre_edge.own_model.parting.chain import Array, Chain, Change, on_grid
from molre_edge.own_model.parting.steps import Step
from molre_edge.specs import HEAD_AXES, HU_MIN, Grid

__all__ = ["TURNS", "volume_changes"]

TURNS: tuple[tuple[Step, str, str, Callable[[Array], Array]], ...] = (
    (
        Step.SLICES,
        "stacks the slices from superior to inferior",
        "sort them from inferior to superior",
        lambda v: v[::-1],
    ),
    (Step.AXES, "has left and right exchanged", "turn the columns around (cols)", lambda v: v[:, :, ::-1]),
    (Step.AXES, "has anterior and posterior exchanged", "turn the rows around (rows)", lambda v: v[:, ::-1]),
    (Step.AXES, "has the slices turned by 180 degrees", "turn rows and cols around", lambda v: v[:, ::-1, ::-1]),
    (Step.AXES, "has rows and columns exchanged", "transpose the slices", lambda v: v.swapaxes(1, 2)),
    (Step.AXES, "has the slices turned by 90 degrees", "turn the slices", lambda v: np.rot90(v, 1, (1, 2))),
    (Step.AXES, "has the slices turned by 270 degrees", "turn the slices", lambda v: np.rot90(v, 3, (1, 2))),
    (
        Step.AXES,
        "has slices from superior to inferior, and left and right exchanged",
        "turn slices and columns around",
        lambda v: v[::-1, :, ::-1],
    ),
)
"""Step, what the user's model does, what to do about it, and what it does to [slices, rows, cols]."""

_OFFSETS = (
    (1024.0, "gets CT numbers 1024 above HU, as files with the rescale intercept -1024 store them"),
    (-1024.0, "gets HU less 1024: the rescale intercept is taken off twice"),
    (1000.0, "gets CT numbers 1000 above HU"),
    (-1000.0, "gets HU less 1000"),
)
_RESCALE = "apply RescaleSlope and RescaleIntercept once"
_FIELDS_MM = (180, 192, 200, 210, 220, 224, 230, 240, 250, 256, 260, 280, 300, 320, 350, 384, 400, 500, 512)
_HEIGHTS_MM = (100, 120, 128, 140, 150, 160, 180, 192, 200, 220, 240, 256, 300)
_FORMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("averages pixels as molre-edge does", {"interpolation": "linear", "antialias": True}),
    ("interpolates nearest", {"interpolation": "nearest"}),
    ("interpolates linear without antialiasing", {"interpolation": "linear", "antialias": False}),
    ("interpolates cubic without antialiasing", {"interpolation": "cubic", "antialias": False}),
    ("interpolates cubic with antialiasing", {"interpolation": "cubic", "antialias": True}),
    ("averages over areas", {"interpolation": "area"}),
)
_OWN, _NEAREST, _LINEAR = _FORMS[0], _FORMS[1], _FORMS[2]
_SPREAD = ("slices of the scan, spread evenly", {"stack": "spread"})
_AS_THEY_ARE = ("the scan's own slices, cropped or padded around its middle", {"stack": "every"})
_SPACED = ("at fixed distances around the middle of the scan", {"stack": "centre", "between": "linear"})
_CROPPED = (
    "at fixed distances around the middle of the box of all that is above 0 HU",
    {"stack": "centre", "between": "linear", "crop_above_hu": 0.0},
)
_STACKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("over the whole scan, interpolated", {"stack": "whole", "between": "linear"}),
    ("over the whole scan, averaged", {"stack": "whole", "between": "area"}),
    _SPREAD,
    _AS_THEY_ARE,
    ("every second slice, cropped or padded around the middle", {"stack": "every", "slice_step": 2}),
    _SPACED,
)
_PLANES = (
    ("whole", "resizes whole pictures", _FORMS, (_SPREAD, _AS_THEY_ARE)),
    ("centre", "crops or pads around the middle of the picture", (_OWN, _NEAREST, _LINEAR), (_SPACED, _CROPPED)),
)
"""Setting, what it is, ways within slices, and of slices. The likely ones: each is one more run of the model."""
_AXES_OF_TURNS = ("IPL", "SPR", "SAL", "SAR", "SLP", "SRP", "SLA", "IPR")
"""As `TURNS`: the setting of a checkpoint whose own volumes lie as molre-edge reads them."""


def volume_changes(grid: Grid, *, resampled: bool) -> Iterator[Change]:
    """Changes of the volume.

    Args:
        grid: of the checkpoint.
        resampled: the user's own code resamples: it got files or an HU volume.
    """
    if resampled:
        yield from _samplings(grid)
        for offset, text in _OFFSETS:
            yield Change(Step.HU, text, _RESCALE, "sample", _offset_before(offset))
    for (step, text, fix, turn), axes in zip(TURNS, _AXES_OF_TURNS, strict=True):
        if turn(np.zeros(grid.shape, np.bool_)).shape == grid.shape:
            in_code = f"in your code, {fix}; see axes in inputs.json"
            setting = f'; or in the checkpoint, "grid": {{"axes": "{axes}"}}' if grid.axes == HEAD_AXES else ""
            yield Change(step, text, in_code + (setting if resampled else ""), "grid", _turned(turn))
    for offset, text in _OFFSETS:
        yield Change(Step.HU, text, _RESCALE, "grid", _plus(offset))
    for low, high in ((-1000, 1000), (-1024, 1024), (-1000, 2000), (0, 100), (0, 80), (-100, 300), (-200, 300)):
        yield Change(Step.HU, f"clips HU to {low} ... {high}", "leave HU as they are", "grid", _clipped(low, high))


def _samplings(grid: Grid) -> Iterator[Change]:
    """Other settings of the grid, each once."""
    for text, settings in _named_settings(grid):
        try:
            other = replace(grid, **settings)
        except ConfigError:  # does not go with another setting of the checkpoint
            continue
        if other != grid:  # named by what changes alone
            changed = {name: value for name, value in settings.items() if getattr(grid, name) != value}
            fix = f'in the checkpoint, "grid": {json.dumps(changed)}'
            yield Change(Step.GRID, text, fix, "sample", _on(other))


def _named_settings(grid: Grid) -> Iterator[tuple[str, dict[str, Any]]]:
    for within, form in _FORMS:
        for between in ("mean", "nearest", "linear"):
            over = "means of the slices" if between == "mean" else f"{between} slices"
            yield f"{within} within slices and takes {over} along them", {**form, "between": between}
    for field_mm in _FIELDS_MM:
        yield f"has a field of view of {field_mm:g} mm, not {grid.field_mm:g}", {"field_mm": float(field_mm)}
    for height_mm in _HEIGHTS_MM:
        text = f"reaches {height_mm:g} mm down from the top of the head, not {grid.height_mm:g}"
        yield text, {"height_mm": float(height_mm)}
    for outside in (0.0, -1000.0, HU_MIN):
        text = f"fills what is outside the data with {outside:g} HU, not {grid.outside_hu:g}"
        yield text, {"outside_hu": outside}
    for over, stack in _STACKS:
        yield f"has other slices: {over}", stack
    for plane, where, forms, stacks in _PLANES:
        for within, form in forms:
            text = f"{where}, not a field around the head, and {within}"
            yield text, {"plane": plane, **form}
            for over, stack in stacks:
                yield f"{text}; its slices are {over}", {"plane": plane, **form, **stack}


def _on(grid: Grid) -> Callable[[Chain, HuVolume], Array]:
    return lambda _, scan: on_grid(scan, grid)


def _offset_before(offset: float) -> Callable[[Chain, HuVolume], Array]:
    return lambda chain, scan: chain.volume(replace(scan, hu=scan.hu + np.float32(offset)))


def _turned(turn: Callable[[Array], Array]) -> Callable[[Chain, Array], Array]:
    return lambda _, volume: np.ascontiguousarray(turn(volume))


def _plus(offset: float) -> Callable[[Chain, Array], Array]:
    return lambda _, volume: volume + np.float32(offset)


def _clipped(low: float, high: float) -> Callable[[Chain, Array], Array]:
    return lambda _, volume: np.clip(volume, np.float32(low), np.float32(high))
