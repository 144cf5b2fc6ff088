"""Adapted layers: ``h = W0 x + sum_k g_k(x) * (alpha / r) * B_k A_k x`` (arXiv 2603.00675), computed stacked.

The K experts of rank r are one (K*r) x d matrix and one d_out x (K*r) matrix, and the gates, each repeated r times,
multiply the K*r activations between them. That is exactly the sum over experts, in two products instead of 2K.
K = 1 without a router is LoRA.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molre_edge.model.routing import RoutingState, Site

__all__ = ["AdaptedLayer", "MoLREConv2d", "MoLREConv3d", "MoLRELinear", "adapt_layer"]


class AdaptedLayer(nn.Module):
    """Base class of the adapted layers: holds the frozen layer and the stacked experts, and applies the gates.

    Attributes:
        base: the frozen layer W0.
        lora_A: stacked down projections, [K*r, d_in] (Linear) or [K*r, channels_in, *kernel] (Conv).
        lora_B: stacked up projections, [d_out, K*r]; initially zero, so that adapting changes nothing.
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter

    def __init__(self, base: nn.Module, *, experts: int, rank: int, alpha: float, site: Site, group: int) -> None:
        """Wrap a layer.

        Args:
            base: the layer to adapt; its parameters are frozen.
            experts: K, at least 1.
            rank: r.
            alpha: scale; the experts' sum is multiplied by alpha / rank.
            site: where the layer sits in the model; decides what the leading axes of its input are.
            group: index of the router that this layer uses.
        """
        super().__init__()
        self.base = base.requires_grad_(False)
        self.experts, self.rank, self.scale = experts, rank, alpha / rank
        self.site, self.group = site, group
        self._state: RoutingState | None = None

    def listen_to(self, state: RoutingState) -> None:
        """Read the gates from `state`, which all layers of a model share. It is not a parameter."""
        self._state = state

    @property
    def in_width(self) -> int:
        """Width of the router's input: features (Linear) or channels (Conv)."""
        return int(self.lora_A.shape[1])

    def _tokens(self, x: Tensor) -> Tensor:
        """The input as [units, ..., features]: the axes between are averaged for the router."""
        return x

    def _stacked_gates(self, x: Tensor) -> Tensor | None:
        """Gates times alpha / r, each repeated r times: [units, K*r] or [units, tokens, K*r]; None for K = 1."""
        if self.experts == 1:
            return None
        if self._state is None:
            raise RuntimeError("this adapted layer has no routing state: build it through HeadCTClassifier")
        gates = self._state.gates(self.group, self._tokens(x), self.site)
        if self.scale != 1.0:
            gates = gates * self.scale
        # unsqueeze + expand + reshape: repeat_interleave is lowered to something else by some exporters
        return gates.unsqueeze(-1).expand(*gates.shape, self.rank).flatten(-2)

    def _init_experts(self, a_shape: tuple[int, ...], out: int) -> None:
        width = self.experts * self.rank
        self.lora_A = nn.Parameter(torch.empty(width, *a_shape))
        self.lora_B = nn.Parameter(torch.zeros(out, width))
        for expert in self.lora_A.split(self.rank):  # each expert as PEFT initialises LoRA
            nn.init.kaiming_uniform_(expert, a=math.sqrt(5))


class MoLRELinear(AdaptedLayer):
    """An adapted ``nn.Linear``: [units, ..., d_in] -> [units, ..., d_out]."""

    def __init__(self, base: nn.Linear, **settings: object) -> None:
        """See :class:`AdaptedLayer`."""
        super().__init__(base, **settings)  # type: ignore[arg-type]
        self._init_experts((base.in_features,), base.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """W0 x plus the gated experts."""
        hidden = F.linear(x, self.lora_A)  # [units, ..., K*r]
        gates = self._stacked_gates(x)
        if gates is None:
            hidden = hidden if self.scale == 1.0 else hidden * self.scale
        else:
            while gates.dim() < hidden.dim():
                gates = gates.unsqueeze(1)
            hidden = hidden * gates
        return self.base(x) + F.linear(hidden, self.lora_B)  # type: ignore[no-any-return]


class _MoLREConv(AdaptedLayer):
    """An adapted convolution: the down projection has the frozen layer's kernel, the up projection is 1 x 1."""

    def __init__(self, base: nn.Conv2d | nn.Conv3d, **settings: object) -> None:
        """See :class:`AdaptedLayer`. Grouped convolutions are refused by the placement."""
        super().__init__(base, **settings)  # type: ignore[arg-type]
        self._init_experts((base.in_channels, *base.kernel_size), base.out_channels)

    def _tokens(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)  # [units, positions, channels]

    def forward(self, x: Tensor) -> Tensor:
        """W0 * x plus the gated experts; x: [units, channels, *positions]."""
        base: nn.Conv2d | nn.Conv3d = self.base  # type: ignore[assignment]
        ones = (1,) * (x.dim() - 2)
        convolve = F.conv2d if x.dim() == 4 else F.conv3d
        hidden = convolve(x, self.lora_A, None, base.stride, base.padding, base.dilation)
        gates = self._stacked_gates(x)
        if gates is not None:
            hidden = hidden * gates.reshape(*gates.shape, *ones)
        elif self.scale != 1.0:
            hidden = hidden * self.scale
        return base(x) + convolve(hidden, self.lora_B.reshape(*self.lora_B.shape, *ones))  # type: ignore[no-any-return]


class MoLREConv2d(_MoLREConv):
    """An adapted ``nn.Conv2d``: [units, channels, rows, cols]."""


class MoLREConv3d(_MoLREConv):
    """An adapted ``nn.Conv3d``: [units, channels, slices, rows, cols]."""


def adapt_layer(base: nn.Module, *, experts: int, rank: int, alpha: float, site: Site, group: int) -> AdaptedLayer:
    """Wrap a layer in its adapted form.

    Raises:
        TypeError: this kind of layer can't be adapted; the message lists the kinds that can.
    """
    settings = {"experts": experts, "rank": rank, "alpha": alpha, "site": site, "group": group}
    if isinstance(base, nn.Linear):
        return MoLRELinear(base, **settings)
    if isinstance(base, nn.Conv2d | nn.Conv3d):
        if base.groups != 1 or base.padding_mode != "zeros" or isinstance(base.padding, str):
            raise TypeError("only convolutions with groups = 1 and numeric zero padding can be adapted")
        return MoLREConv2d(base, **settings) if isinstance(base, nn.Conv2d) else MoLREConv3d(base, **settings)
    raise TypeError(f"{type(base).__name__} can't be adapted; Linear, Conv2d and Conv3d can")
