"""From the arguments of ``train_model`` to a model before its training. Imports torch late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from molre_edge.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from molre_edge.model.config import ModelConfig
    from molre_edge.specs import Grid

__all__ = [
    "ADAPTERS",
    "DEFAULT_BACKBONE",
    "ModelOptions",
    "check_checkpoint_name",
    "choose_device",
    "has_installed_weights",
    "model_config",
]

DEFAULT_BACKBONE = "dinov3-vitb16"
ADAPTERS = ("molre", "lora", "none")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What decides the model's configuration.

    Attributes:
        backbone: an id of docs/reference/backbones.md; None for that of `init`, or else the default.
        adapter: one of ADAPTERS.
        match_parameters: give a LoRA the rank that adds as many parameters as the MoLRE.
        modules: names, or ends of names, of the modules to adapt; None for the backbone's default.
        experts: K of a MoLRE.
        rank: r of each expert.
        budget: the largest share of added parameters; None for the paper's 0.005.
        grid: (slices, rows, cols); None for the backbone's.
    """

    backbone: str | None = None
    adapter: str = "molre"
    match_parameters: bool = False
    modules: Sequence[str] | None = None
    experts: int = 6
    rank: int = 8
    budget: float | None = None
    grid: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse options that do not fit together.

        Raises:
            UsageError: an unknown adapter, or an option that this adapter does not use.
        """
        if self.adapter not in ADAPTERS:
            raise UsageError(f"--adapter {self.adapter}: expected one of {', '.join(ADAPTERS)}")
        if self.adapter != "lora" and self.match_parameters:
            raise UsageError("--match-parameters: works only with --adapter lora, whose rank it chooses")
        if self.adapter == "none" and self.modules:
            raise UsageError("--module: --adapter none adapts no module; use only one of the two options")


def model_config(options: ModelOptions, source: ModelConfig | None, findings: Sequence[str]) -> ModelConfig:
    """The configuration that the options ask for.

    Args:
        options: what the user chose.
        source: configuration of the checkpoint whose backbone, grid, windows, normalisation and pooling are taken over;
            None without.
        findings: of the data, in their order.

    Raises:
        UsageError: another backbone than the source's, or a grid that does not fit the backbone.
        ConfigError: a value out of its range.
    """
    from molre_edge.model.config import AdapterConfig
    from molre_edge.model.defaults import default_config
    from molre_edge.training.start import match_rank

    if source is not None and options.backbone not in (None, source.backbone.id):
        raise UsageError(
            f"--backbone {options.backbone}: --init has the backbone {source.backbone.id}; use only one of the "
            f"two options"
        )
    name = (options.backbone or DEFAULT_BACKBONE) if source is None else source.backbone.id
    config = default_config(name, adapter="none", findings=tuple(findings))
    if source is not None:
        config = replace(
            config,
            backbone=source.backbone,
            grid=source.grid,
            windows=source.windows,
            window_range=source.window_range,
            normalisation=source.normalisation,
            pooling=source.pooling,
        )
    if options.grid is not None:
        config = replace(config, grid=_grid(options.grid, config))
    if options.budget is not None:
        config = replace(config, budget=options.budget)
    if options.adapter == "none":
        return config
    places = tuple(options.modules) if options.modules else default_config(name, adapter="molre").adapter.modules
    if options.adapter == "lora" and not options.match_parameters:
        return replace(config, adapter=AdapterConfig(modules=places, experts=1, rank=options.rank))
    molre = replace(config, adapter=AdapterConfig(modules=places, experts=options.experts, rank=options.rank))
    return match_rank(molre) if options.adapter == "lora" else molre


def has_installed_weights(options: ModelOptions) -> bool:
    """Whether the chosen backbone is one whose trained weights a package of the extra ``weights`` holds.

    Raises:
        ConfigError: the backbone is unknown.
    """
    from molre_edge.model.backbones.registry import backbone_entry

    return backbone_entry(options.backbone or DEFAULT_BACKBONE).installed is not None


def _grid(shape: tuple[int, int, int], config: ModelConfig) -> Grid:
    slices, rows, cols = shape
    try:
        return replace(config.grid, slices=slices, rows=rows, cols=cols)
    except ConfigError as error:
        raise UsageError(f"--grid {slices}x{rows}x{cols}: {error}") from error


def check_checkpoint_name(path: Path) -> None:
    """Refuse a name that no checkpoint can have.

    Raises:
        UsageError: it ends in neither .pt nor .safetensors, or is a folder.
    """
    if path.suffix not in {".pt", ".safetensors"} or path.is_dir():
        raise UsageError(f"--out {path}: expected the name of a file that ends in .pt or .safetensors")


def choose_device(name: str | None) -> str:
    """PyTorch's name of the device: the one asked for, or else a GPU, if there is one.

    Raises:
        UsageError: not a device's name, or PyTorch does not see that GPU.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda"} or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"--device {name}: expected cpu, cuda or cuda:N")
    if kind == "cuda" and not (torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count()):
        raise UsageError(f"--device {name}: PyTorch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return name
