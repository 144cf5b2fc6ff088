"""Routers and the state that carries gates from them to the adapted layers, and out of the model."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molre_edge.model.config import Routing

__all__ = ["Router", "RoutingState", "Site"]


class Site(str, Enum):
    """Where a layer sits, which says what the leading axes of its input are."""

    SLICES = "slices"
    """In a 2D backbone: [batch * slices, ...]."""
    POOLING = "pooling"
    """In the pooling, before the slices are summed: [batch, slices, features]; each slice is its own unit."""
    VOLUME = "volume"
    """In a 3D backbone, or after the pooling: [batch, ...]."""


class Router(nn.Module):
    """A two-layer perceptron with a softmax: [..., features] -> gates [..., K] that sum to one.

    Attributes:
        standardise: whether the input becomes ``(x - mean) / std`` first.
        mean, std: [features], constants; see :func:`molre_edge.model.standardisation.standardise_routers`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, width: int, hidden: int, experts: int, temperature: float = 1.0, standardise: bool = False
    ) -> None:
        """Make a router for inputs of `width` features; mean 0 and deviation 1 until they are measured."""
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, experts)
        self.temperature, self.standardise = temperature, standardise
        if standardise:
            self.register_buffer("mean", torch.zeros(width))
            self.register_buffer("std", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Gates of x; in float32 under autocast too, since what tells two scans apart is a small part of x."""
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.float())
        if self.standardise:
            x = (x - self.mean) / self.std
        logits: Tensor = self.fc2(F.gelu(self.fc1(x)))
        if self.temperature != 1.0:
            logits = logits / self.temperature
        return torch.softmax(logits, dim=-1)


class RoutingState:
    """The gates of one forward pass. One object a model, shared by its adapted layers; not safe for two threads.

    A plain object rather than a module or a buffer, so that ``torch.export`` traces through it and it never lands in a
    state dict. Layers of one group share the gates that the first of them to run has asked for.
    """

    def __init__(self, level: Routing, routers: nn.ModuleList) -> None:
        """Gates at `level`, from `routers`, one a group."""
        self.level = level
        self._routers = routers
        self._slices = 1
        self._applied: dict[int, Tensor] = {}
        self._reported: dict[int, Tensor] = {}

    def start(self, slices: int) -> None:
        """Forget the last pass; volumes of `slices` slices are coming (1 where the backbone is 3D)."""
        self._slices = slices
        self._applied.clear()
        self._reported.clear()

    def gates(self, group: int, x: Tensor, site: Site) -> Tensor:
        """Gates of `group` for the input of one of its layers.

        Args:
            group: index of the router.
            x: [units, ..., features]; the axes between are averaged, but for token routing.
            site: what a unit is.

        Returns:
            [units, K]; with token routing, or in the pooling, [units, tokens, K].
        """
        if group not in self._applied:
            self._applied[group], self._reported[group] = self._route(self._routers[group], x, site)
        return self._applied[group]

    def _route(self, router: nn.Module, x: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        """Gates as the layer applies them, and as the model reports them: [batch, slices or 1, K]."""
        if site is Site.POOLING:
            if self.level is Routing.VOLUME:
                gates = router(_mean(x))  # [batch, K]
                return gates, gates.unsqueeze(1)
            gates = router(x)  # [batch, slices, K]: a slice is one token here
            return gates, gates
        if self.level is Routing.TOKEN and x.dim() > 2:
            tokens = router(x)  # [units, ..., K]
            means = tokens.flatten(1, -2).mean(1)
            return tokens, self._by_volume(means, site)
        pooled = _mean(x.flatten(1, -2)) if x.dim() > 2 else x  # [units, features]
        if self.level is Routing.VOLUME and site is Site.SLICES:
            gates = router(pooled.unflatten(0, (-1, self._slices)).mean(1))  # [batch, K]
            spread = gates.unsqueeze(1).expand(-1, self._slices, -1)
            return spread.flatten(0, 1), gates.unsqueeze(1)
        gates = router(pooled)
        return gates, self._by_volume(gates, site)

    def _by_volume(self, gates: Tensor, site: Site) -> Tensor:
        if site is Site.VOLUME:
            return gates.unsqueeze(1)
        by_volume: Tensor = gates.unflatten(0, (-1, self._slices))
        return by_volume

    def report(self) -> Tensor:
        """All gates of the pass: [batch, slices or 1, routers, K]; a volume's gates repeat along the slices."""
        missing = [index for index in range(len(self._routers)) if index not in self._reported]
        if missing:
            raise RuntimeError(f"routers {missing} were not asked: their layers did not run in this pass")
        gates = [self._reported[index] for index in range(len(self._routers))]
        slices = max(g.shape[1] for g in gates)
        return torch.stack([g.expand(-1, slices, -1) for g in gates], dim=2)


def _mean(x: Tensor) -> Tensor:
    """The mean over axis 1; of 16-bit values in float32, so that it is not rounded as they are."""
    return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x).mean(1)
