"""Measuring what routers read, so that each feature of it gets mean 0 and deviation 1.

A router reads an average over many positions. Of two heads these averages are nearly the same vector: what the heads
have in common is large, what tells them apart a small part of it, and a router learns next to nothing from that. So
mean and deviation of each feature are measured once and kept as constants: at inference nothing depends on a batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from molre_edge.model.routing import Router

__all__ = ["standardise_routers"]

_LEAST = 0.1
"""A feature's deviation is taken for at least this share of all features' (root mean square): one that hardly varies
would have its rounding errors made as large as what others have to say."""


class _Moments:
    """Sums over all units that a router has read."""

    def __init__(self, router: Router) -> None:
        self.count = 0
        self.total = torch.zeros_like(router.mean, dtype=torch.float64)
        self.squares = torch.zeros_like(self.total)

    def take(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        units = inputs[0].detach().flatten(0, -2).double()
        self.count += len(units)
        self.total += units.sum(0)
        self.squares += units.square().sum(0)


def standardise_routers(model: nn.Module, run: Callable[[], object]) -> None:
    """Set mean and deviation of the routers of `model` that standardise, from what they read in `run`.

    Args:
        model: a classifier; its routers read their input as it is while `run` runs.
        run: passes scans through the model, in any number of batches.
    """
    routers = [module for module in model.modules() if isinstance(module, Router) and module.standardise]
    if not routers:
        return
    moments = [_Moments(router) for router in routers]
    handles = [router.register_forward_pre_hook(each.take) for router, each in zip(routers, moments, strict=True)]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    for router, each in zip(routers, moments, strict=True):
        mean = each.total / each.count
        variance = (each.squares / each.count - mean.square()).clamp_min(0.0)
        least = _LEAST * variance.mean().sqrt()
        router.mean.copy_(mean)
        router.std.copy_(variance.sqrt().clamp_min(max(float(least), 1e-6)))
