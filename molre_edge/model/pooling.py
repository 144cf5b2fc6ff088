"""Learned attention over slices: one vector a volume."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AttentionPooling"]


class AttentionPooling(nn.Module):
    """``sum_s softmax_s(w . tanh(V x_s)) x_s`` (Ilse et al., arXiv 1802.04712)."""

    def __init__(self, width: int, hidden: int) -> None:
        """Pool vectors of `width` features with a score network of `hidden` units."""
        super().__init__()
        self.project = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the slices: [batch, slices, d] -> [batch, d], and the weights of the slices [batch, slices]."""
        weights = torch.softmax(self.score(torch.tanh(self.project(x))), dim=1)  # [batch, slices, 1]
        return (weights * x).sum(1), weights.squeeze(-1)
