"""``molre-edge train``: fine-tune MoLRE, LoRA or a frozen head."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molre_edge.cli.shell import ExitCode, JsonOption, QuietOption, Speaker, UsageError, command
from molre_edge.cli.training import DeviceOption, TrainBar, choose_device, parse_size, split_names
from molre_edge.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from molre_edge.model.classifier import HeadCTClassifier
    from molre_edge.model.config import ModelConfig
    from molre_edge.specs import Grid
    from molre_edge.training.fit import Fitted
    from molre_edge.training.manifest import Manifest

__all__ = ["AdapterChoice", "model_config", "show_fitted", "starting_model", "train"]


DEFAULT_BACKBONE = "dinov3-vitb16"


class AdapterChoice(str, Enum):
    """What to train besides pooling and head."""

    MOLRE = "molre"
    LORA = "lora"
    NONE = "none"


@command
def train(
    data: Annotated[
        Path, typer.Argument(exists=True, help="Folder with manifest.csv (columns: scan, split and one per finding).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write, .pt or .safetensors.")] = Path(
        "ckpt.pt"
    ),
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="Backbone id from docs/backbones.md.", show_default=DEFAULT_BACKBONE),
    ] = None,
    backbone_weights: Annotated[
        Path | None,
        typer.Option(
            "--backbone-weights", exists=True, file_okay=False, help="Hugging Face folder with the public weights."
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", exists=True, dir_okay=False, help="Checkpoint to take backbone, grid and windows from."),
    ] = None,
    adapter: Annotated[
        AdapterChoice, typer.Option("--adapter", help="Train MoLRE, a LoRA, or only pooling and head.")
    ] = AdapterChoice.MOLRE,
    match_parameters: Annotated[
        bool,
        typer.Option(
            "--match-parameters", help="Choose the LoRA rank that adds as many parameters as the MoLRE would."
        ),
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--module",
            help="Module to adapt instead of the default: a name, its end, or a pattern with '*'. Repeatable.",
        ),
    ] = None,
    experts: Annotated[int, typer.Option("--experts", min=2, help="Number of experts (K).")] = 6,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Rank of each expert (r).")] = 8,
    budget: Annotated[
        float | None,
        typer.Option("--budget", help="Largest share of added parameters. Default: 0.005, as in the paper."),
    ] = None,
    findings: Annotated[
        str | None, typer.Option("--findings", help="Findings to train on, separated by commas. Default: all columns.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option("--grid", metavar="SLICESxROWSxCOLS", help="Input grid. Default: the backbone's.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Maximum number of epochs.")] = 30,
    patience: Annotated[
        int, typer.Option("--patience", min=1, help="Stop after this many epochs without a better validation AUC.")
    ] = 10,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Scans per batch.")] = 8,
    accumulate: Annotated[int, typer.Option("--accumulate", min=1, help="Batches per optimizer step.")] = 1,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed for initial weights and scan order.")] = 0,
    sensitivity: Annotated[
        float | None,
        typer.Option(
            "--sensitivity", help="Set thresholds that find this share of positives. Default: Youden's index."
        ),
    ] = None,
    train_backbone: Annotated[
        bool, typer.Option("--train-backbone", help="Also train the backbone, to pretrain a small one.")
    ] = False,
    without_backbone: Annotated[
        bool,
        typer.Option("--without-backbone", help="Store only the hash of the backbone's weights in the checkpoint."),
    ] = False,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder for prepared volumes. Several trainings can share it.")
    ] = None,
    device: DeviceOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another checkpoint or training with this name.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train on a folder of labelled scans. The backbone stays frozen.

    After an interruption, run the same command again: it continues where it stopped and gives the same result. Metrics,
    a plot and the training state are written beside the checkpoint, in CKPT-training.
    """
    speaker = Speaker(as_json, quiet)
    try:
        from molre_edge.training.fit import fit
        from molre_edge.training.loop import TrainSettings
        from molre_edge.training.manifest import read_manifest
    except ImportError as error:
        raise MissingDependencyError("Training", str(error.name), "train") from error
    if out.suffix not in {".pt", ".safetensors"} or out.is_dir():
        raise UsageError(f"--out {out}: expected the name of a file that ends in .pt or .safetensors")
    if sensitivity is not None and not 0 < sensitivity <= 1:
        raise UsageError(f"--sensitivity {sensitivity}: expected a share above 0, up to 1")
    if without_backbone and (train_backbone or not (init or backbone_weights)):
        raise UsageError(
            "--without-backbone: the backbone's weights exist only in this training and would be lost; leave it out"
        )
    place = choose_device(device)
    manifest = read_manifest(data, None if findings is None else split_names("--findings", findings))
    wanted = {
        "adapter": adapter,
        "modules": modules,
        "experts": experts,
        "rank": rank,
        "budget": budget,
        "grid": grid,
        "match_parameters": match_parameters,
    }
    model = starting_model(backbone, init, backbone_weights, manifest, wanted, seed, speaker)
    if not (init or backbone_weights or train_backbone):
        speaker.warn(
            f"{model.config.backbone.id} has random weights; pass public ones with --backbone-weights, or a checkpoint "
            f"with --init"
        )
    settings = TrainSettings(
        epochs=epochs,
        batch=batch,
        accumulate=accumulate,
        lr=lr,
        patience=patience,
        train_backbone=train_backbone,
        seed=seed,
    )
    with TrainBar(speaker) as bar:
        fitted = fit(
            model,
            manifest,
            out,
            settings,
            device=place,
            sensitivity=sensitivity,
            with_backbone=not without_backbone,
            cache=cache,
            force=force,
            watcher=bar,
        )
    show_fitted(fitted, speaker)
    if fitted.problems:
        raise typer.Exit(ExitCode.SCANS_REJECTED)


def starting_model(
    backbone: str | None,
    init: Path | None,
    backbone_weights: Path | None,
    manifest: Manifest,
    wanted: dict[str, Any],
    seed: int,
    speaker: Speaker,
) -> HeadCTClassifier:
    """Build the model before training, with its backbone's weights."""
    from molre_edge.model.checkpoint import load_checkpoint
    from molre_edge.training.start import copy_backbone, load_backbone, new_model

    source = None if init is None else load_checkpoint(init, backbone_weights=backbone_weights)
    model = new_model(model_config(backbone, None if source is None else source.config, manifest, wanted), seed=seed)
    if source is not None:
        if source.config.adapter.experts:
            speaker.warn(f"{init}: only its backbone is used; its adapters are ignored")
        copy_backbone(source.model, model)
    elif backbone_weights is not None:
        load_backbone(model, backbone_weights)
    return model


def model_config(
    backbone: str | None, source: ModelConfig | None, manifest: Manifest, wanted: dict[str, Any]
) -> ModelConfig:
    """Build the configuration from the options."""
    from molre_edge.model.config import AdapterConfig
    from molre_edge.model.defaults import default_config
    from molre_edge.training.start import match_rank

    if source is not None and backbone not in (None, source.backbone.id):
        raise UsageError(
            f"--backbone {backbone}: --init has the backbone {source.backbone.id}; use only one of the two options"
        )
    name = (backbone or DEFAULT_BACKBONE) if source is None else source.backbone.id
    kind = wanted["adapter"].value
    if kind != "lora" and wanted["match_parameters"]:
        raise UsageError("--match-parameters: works only with --adapter lora, whose rank it chooses")
    modules = wanted["modules"]
    if kind == "none" and modules:
        raise UsageError("--module: --adapter none adapts no module; use only one of the two options")
    config = default_config(name, adapter="none", findings=manifest.findings)
    if source is not None:
        config = replace(
            config, backbone=source.backbone, grid=source.grid, windows=source.windows, pooling=source.pooling
        )
    if wanted["grid"] is not None:
        config = replace(config, grid=_grid(wanted["grid"], config))
    if wanted["budget"] is not None:
        config = replace(config, budget=wanted["budget"])
    if kind == "none":
        return config
    places = tuple(modules) if modules else default_config(name, adapter="molre").adapter.modules
    molre = replace(config, adapter=AdapterConfig(modules=places, experts=wanted["experts"], rank=wanted["rank"]))
    if kind == "molre":
        return molre
    if wanted["match_parameters"]:
        return match_rank(molre)
    return replace(config, adapter=AdapterConfig(modules=places, experts=1, rank=wanted["rank"]))


def _grid(text: str, config: ModelConfig) -> Grid:
    slices, rows, cols = parse_size("--grid", text)
    try:
        return replace(config.grid, slices=slices, rows=rows, cols=cols)
    except ConfigError as error:
        raise UsageError(f"--grid {text}: {error}") from error


def show_fitted(fitted: Fitted, speaker: Speaker) -> None:
    """Print the result of a training."""
    trained = fitted.trained
    if fitted.kept:
        speaker.warn(
            f"{len(fitted.kept)} findings keep the threshold 0.5 because the validation split lacks scans with or "
            f"without them: {', '.join(fitted.kept[:5])}{', ...' if len(fitted.kept) > 5 else ''}"
        )
    score = f"mean AUC {trained.best_score:.3f}" if trained.best_score >= 0 else f"loss {-trained.best_score:.4f}"
    speaker.say(
        f"Best epoch {trained.best_epoch} of {trained.epochs}: {score} on {fitted.scans[1]} validation scans, trained "
        f"on {fitted.scans[0]}"
    )
    speaker.say(f"Adapters and routers add {fitted.added:,} parameters, {fitted.added_fraction:.2%} of the rest")
    speaker.say(f"Checkpoint: {fitted.checkpoint}  (metrics: {fitted.folder})")
    speaker.result(
        {
            "checkpoint": str(fitted.checkpoint),
            "folder": str(fitted.folder),
            "best_epoch": trained.best_epoch,
            "best_score": trained.best_score,
            "epochs": trained.epochs,
            "scans": {"train": fitted.scans[0], "val": fitted.scans[1]},
            "problems": [{"scan": name, "reason": reason} for name, reason in fitted.problems],
            "thresholds_kept": list(fitted.kept),
            "added_parameters": fitted.added,
            "added_fraction": fitted.added_fraction,
            "cached_features": fitted.cached_features,
        }
    )
