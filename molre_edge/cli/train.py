"""``molre-edge train``: fine-tune MoLRE, LoRA or a frozen head."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import molre_edge
from molre_edge.cli.shell import ExitCode, JsonOption, QuietOption, Speaker, command
from molre_edge.cli.training import DeviceOption, parse_size, split_names

if TYPE_CHECKING:
    from molre_edge.training.fit import Fitted

__all__ = ["AdapterChoice", "show_fitted", "train"]

DEFAULT_BACKBONE = "dinov3-vitb16"  # as of molre_edge.training.options


class AdapterChoice(str, Enum):
    """What to train besides pooling and head."""

    MOLRE = "molre"
    LORA = "lora"
    NONE = "none"


class LevelChoice(str, Enum):
    """What shares one gate vector."""

    SLICE = "slice"
    VOLUME = "volume"


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
        typer.Option("--backbone", help="Backbone id from docs/reference/backbones.md.", show_default=DEFAULT_BACKBONE),
    ] = None,
    backbone_weights: Annotated[
        Path | None,
        typer.Option(
            "--backbone-weights",
            exists=True,
            file_okay=False,
            help="Hugging Face folder with the public weights. Default: those of the installed package that has them.",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init",
            exists=True,
            dir_okay=False,
            help="Checkpoint to take backbone, grid, windows and normalisation from.",
        ),
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
    alpha: Annotated[
        float | None, typer.Option("--alpha", help="Scale the experts' sum by alpha / r. Default: alpha = 2 r.")
    ] = None,
    router_level: Annotated[
        LevelChoice | None,
        typer.Option(
            "--router-level",
            help="Route each slice or the whole volume. Default: slice; volume for 3D backbones, which have no slices.",
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Divide the routers' logits by this. Default: 1.")
    ] = None,
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
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="Grid, windows and normalisation of a published model, from docs/reference/preprocessing.md. Not with "
            "--init.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Maximum number of epochs.")] = 30,
    patience: Annotated[
        int, typer.Option("--patience", min=1, help="Stop after this many epochs without a better validation AUC.")
    ] = 10,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Scans per batch.")] = 8,
    accumulate: Annotated[int, typer.Option("--accumulate", min=1, help="Batches per optimizer step.")] = 1,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 1e-3,
    router_lr: Annotated[
        float | None, typer.Option("--router-lr", help="Peak learning rate of the routers. Default: that of --lr.")
    ] = None,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Weight decay of AdamW, on matrices.")] = 0.01,
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
    with speaker.progress() as progress:
        fitted = molre_edge.train_model(
            data,
            out,
            backbone=backbone,
            backbone_weights=backbone_weights,
            init=init,
            adapter=adapter.value,
            match_parameters=match_parameters,
            modules=modules,
            experts=experts,
            rank=rank,
            alpha=alpha,
            router_level=None if router_level is None else router_level.value,
            temperature=temperature,
            budget=budget,
            findings=None if findings is None else split_names("--findings", findings),
            grid=None if grid is None else parse_size("--grid", grid),
            preset=preset,
            epochs=epochs,
            patience=patience,
            batch=batch,
            accumulate=accumulate,
            lr=lr,
            router_lr=router_lr,
            weight_decay=weight_decay,
            seed=seed,
            sensitivity=sensitivity,
            train_backbone=train_backbone,
            store_backbone=not without_backbone,
            cache=cache,
            device=device,
            force=force,
            progress=progress,
        )
    show_fitted(fitted, speaker)
    speaker.result(fitted.to_dict())
    if fitted.problems:
        raise typer.Exit(ExitCode.SCANS_REJECTED)


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
