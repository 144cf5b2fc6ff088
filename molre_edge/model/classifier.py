"""The whole model: HU volumes in, logits of the findings, gates and the volume's embedding out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from molre_edge.errors import ConfigError
from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.config import ModelConfig
from molre_edge.model.intensity import WindowChannels
from molre_edge.model.placement import count_parameters, place_adapters
from molre_edge.model.pooling import AttentionPooling
from molre_edge.model.routing import RoutingState

__all__ = ["ClassifierOutput", "HeadCTClassifier"]


class ClassifierOutput(NamedTuple):
    """Output of the model.

    Attributes:
        logits: [batch, findings].
        gates: [batch, slices or 1, routers, K]; None for K = 0.
        embedding: [batch, d], the vector before the head.
        attention: [batch, slices], the pooling's weights of the slices, which sum to one; None for 3D backbones.
    """

    logits: Tensor
    gates: Tensor | None
    embedding: Tensor
    attention: Tensor | None = None


class HeadCTClassifier(nn.Module):
    """A frozen backbone with MoLRE adapters, attention pooling over slices (2D) and a linear head.

    Attributes:
        config: the configuration it was built from.
        backbone, pooling, head, routers: its parts; pooling is an identity for 3D backbones (see :meth:`pooled`).
    """

    def __init__(self, config: ModelConfig) -> None:
        """Build with random weights. The experts' up projections are zero, so adapting changes nothing yet.

        Raises:
            ConfigError: the backbone is unknown, an adapter does not fit its layer, or the added parameters exceed
                the budget.
        """
        super().__init__()
        entry = backbone_entry(config.backbone.id)
        self.config = config
        self.volumetric = entry.dimensions == 3
        own = config.normalisation or entry
        mean, std = _for_channels(own.mean, config), _for_channels(own.std, config)
        self.intensity = WindowChannels(config.windows, mean, std, config.window_range)
        self.backbone = entry.build(config.grid, len(config.windows), config.backbone.options).requires_grad_(False)
        width = int(self.backbone.embed_dim)  # type: ignore[arg-type]
        self.pooling = nn.Identity() if self.volumetric else AttentionPooling(width, config.pooling.hidden)
        self.head = nn.Linear(width, len(config.findings))
        self.routers = nn.ModuleList()
        if config.adapter.experts:
            self.routers = place_adapters(self, config, volumetric=self.volumetric)
            # only the backbone is pretrained: an adapted layer of the pooling or the head learns with its experts
            self.pooling.requires_grad_(True)
            self.head.requires_grad_(True)
        self._state = RoutingState(config.router.level, self.routers)
        for module in self.modules():
            if isinstance(module, AdaptedLayer):
                module.listen_to(self._state)
        self._check_budget()

    def forward(self, volume: Tensor) -> ClassifierOutput:
        """Classify HU volumes [batch, slices, rows, cols]."""
        self._state.start(volume.shape[1])
        return self._answer(self._features(volume))

    @property
    def features_are_frozen(self) -> bool:
        """Whether no backbone module is adapted, so that training never changes the features."""
        return not any(isinstance(module, AdaptedLayer) for module in self.backbone.modules())

    def features(self, volume: Tensor) -> Tensor:
        """The backbone's features of HU volumes: [batch, slices, d] (2D) or [batch, d] (3D)."""
        self._state.start(volume.shape[1])
        features = self._features(volume)
        self._state.start(1)
        return features

    def classify(self, features: Tensor) -> ClassifierOutput:
        """Answer from :meth:`features`, where :attr:`features_are_frozen`; the same as from the volumes."""
        self._state.start(features.shape[1] if features.dim() == 3 else 1)
        return self._answer(features)

    @property
    def routing(self) -> RoutingState:
        """The gates of the pass at work, for a look at one part of the model: `start` it before the part runs."""
        return self._state

    def _features(self, volume: Tensor) -> Tensor:
        return self.encode(self.intensity(volume.flatten(0, 1)), volume.shape[1])

    def encode(self, channels: Tensor, slices: int) -> Tensor:
        """The backbone's features of normalised channels [batch * slices, channels, rows, cols]."""
        if self.volumetric:
            stacked = channels.unflatten(0, (-1, slices)).transpose(1, 2)  # [batch, channels, slices, rows, cols]
            return self.backbone(stacked)  # type: ignore[no-any-return]
        return self.backbone(channels).unflatten(0, (-1, slices))  # type: ignore[no-any-return]

    def _answer(self, features: Tensor) -> ClassifierOutput:
        embedding, attention = self.pooled(features)
        logits = self.head(embedding)
        gates = None
        if self.config.adapter.experts > 1:
            gates = self._state.report()
        elif self.config.adapter.experts == 1:  # LoRA: one expert, always in full
            gates = torch.ones(logits.shape[0], 1, len(self.routers), 1, dtype=logits.dtype, device=logits.device)
        self._state.start(1)  # let the gates go
        return ClassifierOutput(logits, gates, embedding, attention)

    def pooled(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """The embedding [batch, d] of features, and the weights of the slices (None for 3D backbones)."""
        if self.volumetric:
            return self.pooling(features), None
        embedding, weights = self.pooling(features)
        return embedding, weights

    def _check_budget(self) -> None:
        count = count_parameters(self)
        if count.fraction > self.config.budget:
            raise ConfigError(
                f"the adapters and routers add {count.added:,} parameters to {count.rest:,}, "
                f"{count.fraction:.2%}, but the budget is {self.config.budget:.2%}; adapt fewer modules, lower the "
                f"rank or the routers' hidden size, or raise the budget in the configuration"
            )


def _for_channels(values: tuple[float, ...], config: ModelConfig) -> tuple[float, ...]:
    """A backbone's per-channel constants, or their mean for each channel where the windows are not three."""
    if len(values) in (1, len(config.windows)):
        return values
    return (sum(values) / len(values),)
