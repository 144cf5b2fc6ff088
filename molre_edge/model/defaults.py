"""Default configuration of each backbone."""

from __future__ import annotations

from molre_edge.errors import ConfigError
from molre_edge.findings import default_findings
from molre_edge.model.backbones.entry import BackboneEntry
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.config import (
    DEFAULT_BUDGET,
    AdapterConfig,
    BackboneConfig,
    ModelConfig,
    RouterConfig,
    Routing,
)
from molre_edge.specs import Grid

__all__ = ["default_alpha", "default_config"]

_ALPHA_PER_RANK = 2.0
"""So that experts of every rank are scaled alike. The paper's r = 8 gets alpha 16."""

_TINY_BUDGET = 1.0
"""Tiny forms are for tests and demos; one adapted layer is far more than 0.5 % of them."""


def default_config(
    backbone: str,
    *,
    adapter: str = "molre",
    grid: Grid | None = None,
    findings: tuple[str, ...] | None = None,
    experts: int = 6,
    rank: int = 8,
    alpha: float | None = None,
) -> ModelConfig:
    """A backbone with its own grid, windows, adapted modules and routing level.

    Args:
        backbone: an id of the registry.
        adapter: ``molre`` (`experts` of `rank`, with routers), ``lora`` (one of `rank`, without) or ``none``.
        grid: another grid than the backbone's.
        findings: names of the outputs; the 75 by default.
        experts: K of ``molre``.
        rank: r of each expert.
        alpha: the experts' sum is scaled by ``alpha / rank``; None for twice the rank.

    Raises:
        ConfigError: the backbone or adapter is unknown, a value is out of range, or the backbone has no default modules
            to adapt.
    """
    entry = backbone_entry(backbone)
    return ModelConfig(
        backbone=BackboneConfig(id=entry.id),
        grid=grid or entry.grid,
        windows=entry.windows,
        adapter=_adapter(entry, adapter, experts, rank, alpha),
        router=RouterConfig(level=Routing.VOLUME if entry.dimensions == 3 else Routing.SLICE, standardise=True),
        findings=findings or tuple(finding.name for finding in default_findings()),
        budget=DEFAULT_BUDGET if entry.parameters is not None else _TINY_BUDGET,
    )


def default_alpha(rank: int) -> float:
    """The alpha of experts of this rank where none is given: twice the rank, so that alpha / r is always 2."""
    return _ALPHA_PER_RANK * rank


def _adapter(entry: BackboneEntry, kind: str, experts: int, rank: int, alpha: float | None) -> AdapterConfig:
    if kind == "none":
        return AdapterConfig(experts=0)
    if kind not in ("molre", "lora"):
        raise ConfigError(f"adapter: expected molre, lora or none, got {kind!r}")
    if not entry.adapted:
        raise ConfigError(
            f"backbone {entry.id} is a baseline and has no default modules to adapt. Choose adapter 'none', or name "
            f"the modules to adapt"
        )
    return AdapterConfig(
        modules=entry.adapted,
        experts=1 if kind == "lora" else experts,
        rank=rank,
        alpha=default_alpha(rank) if alpha is None else alpha,
    )
