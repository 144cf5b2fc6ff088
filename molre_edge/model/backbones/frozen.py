"""Frozen batch norms stay as they came: only trained ones gather statistics."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

__all__ = ["FrozenNorms"]

_Module = TypeVar("_Module", bound="FrozenNorms")


class FrozenNorms(nn.Module):
    """A backbone whose batch norms follow ``train()`` only if their weights are trained."""

    def train(self: _Module, mode: bool = True) -> _Module:
        """As usual, but a frozen batch norm keeps the statistics that it came with."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.train(mode and module.weight.requires_grad)
        return self
