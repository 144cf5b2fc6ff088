"""The model that a training starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.checkpoint import plain_names
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import ModelConfig
from molre_edge.model.placement import ParameterCount, count_parameters

__all__ = ["copy_backbone", "load_backbone", "match_rank", "new_model"]


_READ = ("backbone", "windows", "window_range", "normalisation")
"""What must be as it was when the backbone's weights were trained."""


def new_model(config: ModelConfig, *, seed: int) -> HeadCTClassifier:
    """A model with weights from a seed; the caller's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HeadCTClassifier(config).eval()


def copy_backbone(source: HeadCTClassifier, target: HeadCTClassifier) -> None:
    """Copy the frozen backbone weights of another model, whichever modules are adapted in either.

    Raises:
        ConfigError: the backbones differ, or the grids differ and a weight's size depends on the grid.
    """
    if any(getattr(source.config, name) != getattr(target.config, name) for name in _READ):
        raise ConfigError(
            "the backbone's weights were trained with another backbone, other windows or another normalisation; use "
            "those of the source"
        )
    weights = {plain: source.state_dict()[name] for name, plain in plain_names(source).items()}
    own = target.state_dict()
    for name, plain in plain_names(target).items():
        if not plain.startswith("backbone.") or name.endswith((".lora_A", ".lora_B")):
            continue
        if own[name].shape != weights[plain].shape:
            raise ConfigError(
                f"{plain}: has shape {tuple(weights[plain].shape)} on the grid it was trained on, and "
                f"{tuple(own[name].shape)} on {' x '.join(map(str, target.config.grid.shape))}; use the training grid "
                f"({' x '.join(map(str, source.config.grid.shape))})"
            )
        own[name].copy_(weights[plain])


def load_backbone(model: HeadCTClassifier, folder: Path | None) -> None:
    """Load public weights from a local folder or, without one, from the installed package that holds them.

    Raises:
        CheckpointError: they do not fit.
        MissingDependencyError: the package is not installed.
    """
    config = model.config
    entry = backbone_entry(config.backbone.id)
    plain = new_model(_frozen(config), seed=0)
    entry.load_weights(plain.backbone, folder)
    copy_backbone(plain, model)


def match_rank(config: ModelConfig) -> ModelConfig:
    """The LoRA (K = 1) whose added parameters come nearest to those of a MoLRE, on the same modules.

    Args:
        config: of the MoLRE, experts and routers.

    Returns:
        The same with one expert of a larger rank, within the same budget; alpha grows with the rank, so that the scale
        stays.
    """
    wanted, per_rank = _count(config).added, _count(_lora(config, 1)).added
    rank = max(1, round(wanted / per_rank))
    over = _count(_lora(config, rank)).fraction > config.budget >= _count(config).fraction
    return _lora(config, rank - 1 if over and rank > 1 else rank)


def _lora(config: ModelConfig, rank: int) -> ModelConfig:
    scale = config.adapter.alpha / config.adapter.rank
    return replace(config, adapter=replace(config.adapter, experts=1, rank=rank, alpha=scale * rank))


def _frozen(config: ModelConfig) -> ModelConfig:
    return replace(config, adapter=replace(config.adapter, experts=0, modules=()))


def _count(config: ModelConfig) -> ParameterCount:
    with torch.device("meta"):
        return count_parameters(HeadCTClassifier(replace(config, budget=1e3)))
