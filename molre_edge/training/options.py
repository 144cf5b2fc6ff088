"""From the arguments of ``train_model`` to a model before its training. Imports torch late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from molre_edge.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from molre_edge.model.config import ModelConfig, RouterConfig
    from molre_edge.specs import Grid

__all__ = [
    "ADAPTERS",
    "DEFAULT_BACKBONE",
    "LEVELS",
    "ModelOptions",
    "check_checkpoint_name",
    "choose_device",
    "has_installed_weights",
    "model_config",
]

DEFAULT_BACKBONE = "dinov3-vitb16"
ADAPTERS = ("molre", "lora", "none")
LEVELS = ("slice", "volume")


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
        grid: (slices, rows, cols); None for that of the preset, of `init` or of the backbone.
        alpha: the experts' sum is scaled by ``alpha / rank``; None for twice the rank.
        router_level: ``slice`` or ``volume``; None for ``slice`` in 2D and ``volume`` in 3D.
        temperature: the routers' logits are divided by it; None for 1.
        router_lr: the routers' own learning rate; None for that of the rest. Here only to be refused without routers.
        preset: a name of :mod:`molre_edge.model.presets`, for grid, windows and normalisation; None for the backbone's.
    """

    backbone: str | None = None
    adapter: str = "molre"
    match_parameters: bool = False
    modules: Sequence[str] | None = None
    experts: int = 6
    rank: int = 8
    budget: float | None = None
    grid: tuple[int, int, int] | None = None
    alpha: float | None = None
    router_level: str | None = None
    temperature: float | None = None
    router_lr: float | None = None
    preset: str | None = None

    def __post_init__(self) -> None:
        """Refuse options that do not fit together.

        Raises:
            UsageError: an unknown adapter or routing level, or an option that this adapter does not use.
        """
        if self.adapter not in ADAPTERS:
            raise UsageError(f"--adapter {self.adapter}: expected one of {', '.join(ADAPTERS)}")
        if self.adapter != "lora" and self.match_parameters:
            raise UsageError("--match-parameters: works only with --adapter lora, whose rank it chooses")
        if self.adapter == "none" and self.modules:
            raise UsageError("--module: --adapter none adapts no module; use only one of the two options")
        if self.adapter == "none" and self.alpha is not None:
            raise UsageError("--alpha: --adapter none has no experts to scale; use only one of the two options")
        for name in ("router_level", "temperature", "router_lr"):
            if (self.adapter != "molre" or self.experts < 2) and getattr(self, name) is not None:
                option = name.replace("_", "-")
                raise UsageError(
                    f"--{option}: works only with --adapter molre and two experts or more: else there is no router"
                )
        if self.router_level not in (None, *LEVELS):
            raise UsageError(f"--router-level {self.router_level}: expected one of {', '.join(LEVELS)}")


def model_config(options: ModelOptions, source: ModelConfig | None, findings: Sequence[str]) -> ModelConfig:
    """The configuration that the options ask for.

    Args:
        options: what the user chose.
        source: configuration of the checkpoint whose backbone, grid, windows, normalisation and pooling are taken over;
            None without.
        findings: of the data, in their order.

    Raises:
        UsageError: another backbone than the source's, a preset beside a source, a grid or preset that does not fit the
            backbone, or routing by slice in a 3D backbone.
        ConfigError: a value out of its range, or there is no such preset.
    """
    from molre_edge.model.defaults import default_config

    if source is not None and options.backbone not in (None, source.backbone.id):
        raise UsageError(
            f"--backbone {options.backbone}: --init has the backbone {source.backbone.id}; use only one of the "
            f"two options"
        )
    if source is not None and options.preset is not None:
        raise UsageError(
            f"--preset {options.preset}: --init has its own grid, windows and normalisation; use only one of the two "
            f"options"
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
    if options.preset is not None:
        config = _preset(options.preset, config)
    if options.grid is not None:
        config = replace(config, grid=_grid(options.grid, config))
    if options.preset is not None:
        _check_fit(options.preset, config)
    if options.budget is not None:
        config = replace(config, budget=options.budget)
    return config if options.adapter == "none" else _adapted(config, options)


def _adapted(config: ModelConfig, options: ModelOptions) -> ModelConfig:
    """The configuration with the experts and routers that the options ask for."""
    from molre_edge.model.config import AdapterConfig
    from molre_edge.model.defaults import default_alpha, default_config
    from molre_edge.training.start import match_rank

    backbone = config.backbone.id
    adapter = AdapterConfig(
        modules=tuple(options.modules) if options.modules else default_config(backbone).adapter.modules,
        experts=options.experts,
        rank=options.rank,
        alpha=default_alpha(options.rank) if options.alpha is None else options.alpha,
    )
    if options.adapter == "lora":
        if options.match_parameters:
            return match_rank(replace(config, adapter=adapter))
        return replace(config, adapter=replace(adapter, experts=1))
    return replace(config, adapter=adapter, router=_router(config, options))


def _router(config: ModelConfig, options: ModelOptions) -> RouterConfig:
    """The routers' settings: those of the backbone's default, but for what is asked for."""
    from molre_edge.model.backbones.registry import backbone_entry
    from molre_edge.model.config import Routing

    router = config.router
    if options.router_level is not None:
        if options.router_level == "slice" and backbone_entry(config.backbone.id).dimensions == 3:
            raise UsageError(
                f"--router-level slice: the backbone {config.backbone.id} is 3D and reads a volume as a whole, so "
                f"there are no slices to route; use --router-level volume, or leave it out"
            )
        router = replace(router, level=Routing(options.router_level))
    return router if options.temperature is None else replace(router, temperature=options.temperature)


def _preset(name: str, config: ModelConfig) -> ModelConfig:
    """The configuration with the preprocessing of a published model; one without windows keeps the backbone's."""
    from molre_edge.model.config import DEFAULT_RANGE
    from molre_edge.model.presets import preset

    chosen = preset(name)
    try:
        return replace(
            config,
            grid=chosen.grid,
            windows=chosen.windows or config.windows,
            window_range=(DEFAULT_RANGE,),
            normalisation=chosen.normalisation,
        )
    except ConfigError as error:
        raise UsageError(
            f"--preset {name}: does not fit the windows of the backbone {config.backbone.id}, which it keeps: {error}"
        ) from error


def _check_fit(name: str, config: ModelConfig) -> None:
    """Build the backbone without memory for its weights: each knows itself which grids it can read."""
    import torch

    from molre_edge.model.backbones.registry import backbone_entry

    backbone = config.backbone
    try:
        with torch.device("meta"):
            backbone_entry(backbone.id).build(config.grid, len(config.windows), backbone.options)
    except ConfigError as error:
        raise UsageError(
            f"--preset {name}: does not fit the backbone {backbone.id}: {error} (choose another preset or backbone; "
            f"--grid changes the size of its grid)"
        ) from error


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
