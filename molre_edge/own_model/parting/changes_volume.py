"""What a user's own reader may do otherwise: order and direction of the axes, HU, field of view, resampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from molre_edge.own_model.inputs_folder import HuVolume
from molre_edge.own_model.parting.chain import Array, Chain, Change
from molre_edge.own_model.parting.steps import Step
from molre_edge.scans.grid import apply_weights, bin_weights, pixel_weights, to_half
from molre_edge.specs import HU_MIN, Grid

__all__ = ["TURNS", "Sampling", "volume_changes"]

_F64 = npt.NDArray[np.float64]

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
_NOT_SET = "molre-edge has no setting for it yet: resample as docs/scans.md says, or train on the volumes of grid/"


@dataclass(frozen=True)
class Sampling:
    """How a volume may come to the grid.

    Attributes:
        plane: within slices: ``triangle`` (molre-edge's own), ``nearest``, ``linear``, ``cubic``.
        along: the slices: ``mean`` of a bin (molre-edge's own), ``nearest`` slice or ``linear`` at its middle.
        grid: with the field of view; None for the checkpoint's.
        whole_field: the field is that of the picture, not one around the head.
        centred: around the middle of the picture, not of the head.
        outside: HU where there are no data.
    """

    plane: str = "triangle"
    along: str = "mean"
    grid: Grid | None = None
    whole_field: bool = False
    centred: bool = False
    outside: float = HU_MIN

    def __call__(self, chain: Chain, scan: HuVolume) -> Array:
        """The scan on the grid, float32."""
        grid = self.grid or chain.grid
        bottom, top = scan.range_mm
        if grid.height_mm != chain.grid.height_mm:
            end = float(scan.positions_mm[0] - scan.thickness_mm[0] / 2)
            bottom = max(end, top - grid.height_mm)
        down, across = (self._in_plane(scan, axis, count, grid) for axis, count in ((0, grid.rows), (1, grid.cols)))
        edges = np.linspace(bottom, top, grid.slices + 1)
        slices = self._along(scan, edges)
        result = apply_weights(scan.hu, slices, down, across.T)
        if self.outside != HU_MIN:
            held = slices.sum(1)[:, None, None] * down.sum(1)[:, None] * across.sum(1)
            result += (self.outside - HU_MIN) * (1.0 - held)
        return to_half(result).astype(np.float32)

    def _in_plane(self, scan: HuVolume, axis: int, count: int, grid: Grid) -> _F64:
        pixels, side = scan.hu.shape[1 + axis], scan.pixel_mm[axis]
        middle = (pixels - 1) / 2 * side
        centre = middle if self.centred or self.whole_field else scan.centre_mm[axis]
        step = pixels * side / count if self.whole_field else grid.pixel_mm
        if self.plane == "triangle":
            return pixel_weights(pixels, side, centre, count, step)
        at = (centre + (np.arange(count) - (count - 1) / 2) * step) / side
        return _taps(at, pixels, self.plane)

    def _along(self, scan: HuVolume, edges: _F64) -> _F64:
        if self.along == "mean":
            return bin_weights(scan.positions_mm, scan.thickness_mm, edges)
        middles = (edges[:-1] + edges[1:]) / 2
        at = np.interp(middles, scan.positions_mm, np.arange(len(scan.positions_mm)))
        return _taps(at, len(scan.positions_mm), self.along)


def _taps(at: _F64, count: int, kind: str) -> _F64:
    """Weights [outputs, count] that read a line at positions in pixels; beyond its ends there is nothing."""
    places = np.arange(count)
    away = np.abs(places - at[:, None])
    if kind == "nearest":
        chosen = np.floor(at + 0.5)
        picked: _F64 = (places == chosen[:, None]).astype(np.float64)
        return picked
    if kind == "linear":
        return np.maximum(0.0, 1.0 - away)
    a = -0.75  # as PyTorch and OpenCV have it
    near = (a + 2) * away**3 - (a + 3) * away**2 + 1
    far = a * (away**3 - 5 * away**2 + 8 * away - 4)
    weights: _F64 = np.where(away <= 1, near, np.where(away < 2, far, 0.0))
    return weights


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
    for step, text, fix, turn in TURNS:
        if turn(np.zeros(grid.shape, np.bool_)).shape == grid.shape:
            yield Change(step, text, f"in your code, {fix}; see axes in inputs.json", "grid", _turned(turn))
    for offset, text in _OFFSETS:
        yield Change(Step.HU, text, _RESCALE, "grid", _plus(offset))
    for low, high in ((-1000, 1000), (-1024, 1024), (-1000, 2000), (0, 100), (0, 80), (-100, 300), (-200, 300)):
        yield Change(Step.HU, f"clips HU to {low} ... {high}", "leave HU as they are", "grid", _clipped(low, high))


def _samplings(grid: Grid) -> Iterator[Change]:
    def change(text: str, fix: str, sampling: Sampling) -> Change:
        return Change(Step.GRID, text, fix, "sample", sampling)

    for plane in ("triangle", "nearest", "linear", "cubic"):
        for along in ("mean", "nearest", "linear"):
            if (plane, along) != ("triangle", "mean"):
                within = "averages pixels as molre-edge does" if plane == "triangle" else f"interpolates {plane}"
                over = "means of the slices" if along == "mean" else f"{along} slices"
                yield change(f"{within} within slices and takes {over} along them", _NOT_SET, Sampling(plane, along))
    for field_mm in (float(each) for each in _FIELDS_MM if each != grid.field_mm):
        other = replace(grid, field_mm=field_mm)
        fix = f'in the checkpoint, "grid": {{"field_mm": {field_mm:g}}}'
        yield change(f"has a field of view of {field_mm:g} mm, not {grid.field_mm:g}", fix, Sampling(grid=other))
    for height_mm in (float(each) for each in _HEIGHTS_MM if each != grid.height_mm):
        other = replace(grid, height_mm=height_mm)
        fix = f'in the checkpoint, "grid": {{"height_mm": {height_mm:g}}}'
        yield change(
            f"reaches {height_mm:g} mm down from the top of the head, not {grid.height_mm:g}",
            fix,
            Sampling(grid=other),
        )
    yield change(
        "resizes whole pictures, not a field around the head", _NOT_SET, Sampling("triangle", whole_field=True)
    )
    for plane in ("nearest", "linear", "cubic"):
        text = f"resizes whole pictures ({plane}), not a field around the head"
        yield change(text, _NOT_SET, Sampling(plane, whole_field=True))
    yield change("crops around the middle of the picture, not of the head", _NOT_SET, Sampling(centred=True))
    for outside in (0.0, -1000.0):
        yield change(
            f"fills what is outside the data with {outside:g} HU, not {HU_MIN:g}", _NOT_SET, Sampling(outside=outside)
        )


def _offset_before(offset: float) -> Callable[[Chain, HuVolume], Array]:
    return lambda chain, scan: chain.volume(replace(scan, hu=scan.hu + np.float32(offset)))


def _turned(turn: Callable[[Array], Array]) -> Callable[[Chain, Array], Array]:
    return lambda _, volume: np.ascontiguousarray(turn(volume))


def _plus(offset: float) -> Callable[[Chain, Array], Array]:
    return lambda _, volume: volume + np.float32(offset)


def _clipped(low: float, high: float) -> Callable[[Chain, Array], Array]:
    return lambda _, volume: np.clip(volume, np.float32(low), np.float32(high))
