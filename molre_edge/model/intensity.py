"""From HU to the backbone's channels, inside the model, so that every runtime sees the same intensities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from molre_edge.model.config import DEFAULT_RANGE

__all__ = ["WindowChannels"]


class WindowChannels(nn.Module):
    """Windows each slice and normalises the channels: HU [units, rows, cols] -> [units, channels, rows, cols].

    Each window (centre c, width w) maps [c - w/2, c + w/2] to [0, 1], or another range, and clips; then
    ``(x - mean) / std`` a channel.
    """

    low: Tensor
    width: Tensor
    base: Tensor
    span: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        windows: Sequence[tuple[float, float]],
        mean: Sequence[float],
        std: Sequence[float],
        ranges: Sequence[tuple[float, float]] = (DEFAULT_RANGE,),
    ) -> None:
        """One channel a window; `mean`, `std` and `ranges` (low, high) have one value a channel, or one for all."""
        super().__init__()
        channels = len(windows)

        def constant(values: Sequence[float]) -> Tensor:
            return torch.tensor([float(v) for v in values]).expand(channels).reshape(1, channels, 1, 1).clone()

        self.register_buffer("low", constant([c - w / 2 for c, w in windows]), persistent=False)
        self.register_buffer("width", constant([w for _, w in windows]), persistent=False)
        self.register_buffer("base", constant([low for low, _ in ranges]), persistent=False)
        self.register_buffer("span", constant([high - low for low, high in ranges]), persistent=False)
        self._scaled = any(each != DEFAULT_RANGE for each in ranges)
        self.register_buffer("mean", constant(mean), persistent=False)
        self.register_buffer("std", constant(std), persistent=False)

    def forward(self, hu: Tensor) -> Tensor:
        """The channels of HU slices."""
        return self.normalise(self.window(hu))

    def window(self, hu: Tensor) -> Tensor:
        """The windowed channels of HU slices, from 0 to 1: [units, rows, cols] -> [units, channels, rows, cols].

        Or from the lowest to the highest value of their range.
        """
        x = ((hu.unsqueeze(1) - self.low) / self.width).clamp(0.0, 1.0)
        return x * self.span + self.base if self._scaled else x

    def normalise(self, windowed: Tensor) -> Tensor:
        """The backbone's channels of windowed ones, same shape."""
        return (windowed - self.mean) / self.std

    def ranged(self, unit: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Channels from 0 to 1, brought to the windows' range: [units, channels, rows, cols]."""
        return np.asarray(unit * self.span.numpy() + self.base.numpy()) if self._scaled else unit

    def unranged(self, windowed: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The inverse of :meth:`ranged`."""
        return np.asarray((windowed - self.base.numpy()) / self.span.numpy()) if self._scaled else windowed
