"""The chain of a checkpoint's rebuild for one scan, from any point to any later one, with one thing changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molre_edge.own_model.inputs_folder import HuVolume
from molre_edge.own_model.parting.steps import Step
from molre_edge.scans.grid import sample
from molre_edge.specs import Grid

if TYPE_CHECKING:
    from torch import Tensor

    from molre_edge.model.classifier import HeadCTClassifier
    from molre_edge.model.routing import Site

__all__ = ["Array", "Chain", "Change", "State", "Where", "on_grid"]

Array = npt.NDArray[Any]

Where = str
"""What a change takes the place of: ``sample`` (HU volume -> volume on the grid), ``grid`` (turns that volume),
``windowed``, ``normalised``, ``embedding``, ``logits`` (each makes that value of the one before), ``model`` (alters the
model for a while) or ``answers`` (alters logits [scans, findings])."""


@dataclass(frozen=True, eq=False)
class Change:
    """Something that the user's own model may do otherwise.

    Attributes:
        step: in which it lies.
        text: what the user's model does then, for "Your model ...".
        fix: what would make both equal: a setting of the checkpoint, or what to do.
        where: what it takes the place of.
        apply: the function; of ``model``, model -> context manager; else (chain, value before) -> value.
    """

    step: Step
    text: str
    fix: str
    where: Where
    apply: Callable[..., Any]


@dataclass(frozen=True, eq=False)
class State:
    """A point of the chain and the value there.

    Attributes:
        point: its name.
        value: of one scan: the volume as read at ``hu``, else float32, as a steps file has it.
        gates: float32 [slices or 1, routers, experts] to use from here on instead of the routers' own; None for those.
    """

    point: str
    value: HuVolume | Array
    gates: Array | None = None


class Chain:
    """The rebuild of a checkpoint, step by step. One scan at a time, in float32 on the CPU."""

    def __init__(self, model: HeadCTClassifier, grid: Grid) -> None:
        """Take a model in eval mode, and the grid of its configuration."""
        self.model, self.grid = model, grid

    def run(self, state: State, end: str, change: Change | None = None) -> Array:
        """The value at a later point.

        Args:
            state: where to begin.
            end: a point at or behind it.
            change: one thing to do otherwise, if it lies between.
        """
        import torch

        altered: AbstractContextManager[Any] = contextlib.nullcontext()
        if change is not None and change.where == "model":
            altered = change.apply(self.model)
        with torch.inference_mode(), altered:
            point, value = state.point, state.value
            while point != end and point in ("hu", "grid", "windowed"):
                point, value = self._next(point, value, change)
            if point == "grid" == end and change is not None and change.where == "grid":
                value = change.apply(self, value)
            if point == end:
                return np.asarray(value.hu if isinstance(value, HuVolume) else value)
            assert not isinstance(value, HuVolume)
            return self._in_the_model(replace(state, point=point, value=value), end, change)

    def volume(self, scan: HuVolume) -> Array:
        """A scan on the grid, float32 HU."""
        return on_grid(scan, self.grid)

    def _next(self, point: str, value: HuVolume | Array, change: Change | None) -> tuple[str, HuVolume | Array]:
        """The next point before the backbone, and the value there."""
        import torch

        where = None if change is None else change.where
        if isinstance(value, HuVolume):
            made = change.apply(self, value) if change is not None and where == "sample" else self.volume(value)
            return "grid", made
        if point == "grid":
            if change is not None and where == "grid":
                value = np.ascontiguousarray(change.apply(self, value))
            if change is not None and where == "windowed":
                return "windowed", np.asarray(change.apply(self, value), dtype=np.float32)
            return "windowed", self.model.intensity.window(torch.from_numpy(value.astype(np.float32))).numpy()
        if change is not None and where == "normalised":
            return "normalised", np.asarray(change.apply(self, value), dtype=np.float32)
        return "normalised", self.model.intensity.normalise(torch.from_numpy(value.astype(np.float32))).numpy()

    def _in_the_model(self, state: State, end: str, change: Change | None) -> Array:
        """From normalised channels, features or the embedding on."""
        import torch

        model, where = self.model, None if change is None else change.where
        slices = self.grid.slices
        value = torch.from_numpy(np.ascontiguousarray(state.value, dtype=np.float32))
        point = state.point
        model.routing.start(slices)
        with self._given(state.gates):
            if point == "normalised":
                value, point = model.encode(value, slices)[0], "features"
                if end == point:
                    return value.numpy()
            if point == "features":
                if change is not None and where == "embedding":
                    value = torch.from_numpy(np.asarray(change.apply(self, value.numpy()), dtype=np.float32))
                else:
                    value = model.pooled(value[None])[0][0]
                if end == "embedding":
                    return value.numpy()
            if change is not None and where == "logits":
                return np.asarray(change.apply(self, value.numpy()), dtype=np.float32)
            logits = model.head(value[None])[0]
            if end == "gates":
                return model.routing.report()[0].numpy()
        return logits.numpy()  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def _given(self, gates: Array | None) -> Iterator[None]:
        """The user's gates in place of the routers' own."""
        if gates is None:
            yield
            return
        import torch

        from molre_edge.model.config import Routing
        from molre_edge.model.routing import Site

        routing, given = self.model.routing, torch.from_numpy(np.ascontiguousarray(gates, dtype=np.float32))

        def chosen(group: int, x: Tensor, site: Site) -> Tensor:
            of_group = given[:, group]  # [slices or 1, experts]
            if site is Site.VOLUME or routing.level is Routing.VOLUME:
                return of_group[:1].expand(x.shape[0], -1)
            if site is Site.POOLING:
                return of_group[None].expand(-1, x.shape[1], -1)
            return of_group.expand(x.shape[0], -1)

        routing.gates = chosen  # type: ignore[method-assign]
        try:
            yield
        finally:
            del routing.gates

    @property
    def gates_can_be_given(self) -> bool:
        """Whether reported gates say all that the adapted layers do: not so for tokens, whose means are reported."""
        adapter, router = self.model.config.adapter, self.model.config.router
        return adapter.experts > 1 and router.level.value != "token"


def on_grid(scan: HuVolume, grid: Grid) -> Array:
    """A scan on a grid, float32 HU: what an engine gets of it."""
    _, top = scan.range_mm
    end = float(scan.positions_mm[0] - scan.thickness_mm[0] / 2)
    placed = (max(end, top - grid.height_mm), top), scan.centre_mm
    half, _ = sample(scan.hu, scan.positions_mm, scan.thickness_mm, scan.pixel_mm, grid, *placed)
    return half.astype(np.float32)
