"""A checkpoint as an adapter: its trained tensors, what they fit, and the golden answers that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from molre_edge import __version__
from molre_edge.adapters.file import Adapter
from molre_edge.adapters.fit_facts import FitFacts
from molre_edge.bundle.golden import GoldenSet
from molre_edge.bundle.golden_origin import OwnGolden

if TYPE_CHECKING:
    from molre_edge.model.checkpoint import LoadedCheckpoint

__all__ = ["adapter_of", "fit_of"]


def fit_of(checkpoint: LoadedCheckpoint) -> FitFacts:
    """What the trained tensors of a checkpoint fit, and what the graphs that are exported from it take."""
    from molre_edge.model.adapters import AdaptedLayer
    from molre_edge.model.checkpoint import backbone_digest

    model, config = checkpoint.model, checkpoint.config
    layers = {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLayer)}
    mean, std = (tuple(map(float, value.flatten().tolist())) for value in (model.intensity.mean, model.intensity.std))
    plain = config.to_dict()
    return FitFacts(
        backbone=config.backbone.id,
        options=plain["backbone"]["options"],
        backbone_sha256=backbone_digest(model),
        grid=config.grid,
        windows=config.windows,
        window_range=config.window_range if len(config.window_range) > 1 else config.window_range * len(config.windows),
        mean=mean,
        std=std,
        places=tuple(layers),
        groups=tuple(layer.group for layer in layers.values()),
        level=plain["router"]["level"],
        sharing=plain["router"]["sharing"],
        hidden=config.router.hidden,
        experts=config.adapter.experts,
        rank=config.adapter.rank,
        pooling=None if model.volumetric else config.pooling.hidden,
        width=int(model.backbone.embed_dim),  # type: ignore[arg-type]  # a backbone's own attribute
        findings=len(config.findings),
    )


def adapter_of(
    checkpoint: LoadedCheckpoint, name: str, golden: GoldenSet, fit: FitFacts, own: OwnGolden | None = None
) -> Adapter:
    """The trained part of a checkpoint, as an adapter that is not written yet.

    Args:
        checkpoint: loaded.
        name: of the adapter.
        golden: a bundle's golden volumes, and the model's answers to them.
        fit: of the checkpoint.
        own: who gave those answers, if the user's own model did.
    """
    from molre_edge.model.trained import trained_tensors

    config = checkpoint.config
    return Adapter(
        name=name,
        tensors=trained_tensors(checkpoint.model),
        findings=config.findings,
        thresholds=np.array(config.thresholds, dtype=np.float64),
        fit=fit,
        golden=golden.outputs,
        golden_volumes=golden.sha256,
        checkpoint_sha256=checkpoint.sha256,
        training=_training(config.to_dict()),
        own_golden=None if own is None else own.to_dict(),
    )


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tool": {"molre-edge": __version__, "torch": metadata.version("torch")},
        "config": dict(config),
    }
