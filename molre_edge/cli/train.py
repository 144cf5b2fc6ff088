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
    """What is trained beside pooling and head."""

    MOLRE = "molre"
    LORA = "lora"
    NONE = "none"


@command
def train(
    data: Annotated[
        Path, typer.Argument(exists=True, help="Folder with manifest.csv (columns scan, split and one a finding).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint, .pt or .safetensors.")] = Path("ckpt.pt"),
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="An id from docs/backbones.md.", show_default=DEFAULT_BACKBONE),
    ] = None,
    backbone_weights: Annotated[
        Path | None,
        typer.Option(
            "--backbone-weights", exists=True, file_okay=False, help="Hugging Face folder with the public weights."
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", exists=True, dir_okay=False, help="Take backbone, grid and windows of a checkpoint."),
    ] = None,
    adapter: Annotated[
        AdapterChoice, typer.Option("--adapter", help="MoLRE, one LoRA, or pooling and head alone.")
    ] = AdapterChoice.MOLRE,
    match_parameters: Annotated[
        bool, typer.Option("--match-parameters", help="Give a LoRA the rank that adds as many parameters as the MoLRE.")
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option("--module", help="Adapt these modules (names or ends of names, '*' allowed), not the default."),
    ] = None,
    experts: Annotated[int, typer.Option("--experts", min=2, help="K.")] = 6,
    rank: Annotated[int, typer.Option("--rank", min=1, help="r of each expert.")] = 8,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Largest share of added parameters; default 0.005, the paper's.")
    ] = None,
    findings: Annotated[
        str | None, typer.Option("--findings", help="Only these columns of the manifest, separated by commas.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option("--grid", metavar="SLICESxROWSxCOLS", help="Another grid than the backbone's.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most.")] = 30,
    patience: Annotated[int, typer.Option("--patience", min=1, help="Epochs without a better validation AUC.")] = 10,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Scans a step.")] = 8,
    accumulate: Annotated[int, typer.Option("--accumulate", min=1, help="Steps whose gradients are summed.")] = 1,
    lr: Annotated[float, typer.Option("--lr", help="Largest learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights and order.")] = 0,
    sensitivity: Annotated[
        float | None,
        typer.Option("--sensitivity", help="Thresholds find this share of positives; default: Youden's index."),
    ] = None,
    train_backbone: Annotated[
        bool, typer.Option("--train-backbone", help="Let the backbone learn too: pretraining of small ones.")
    ] = False,
    without_backbone: Annotated[
        bool, typer.Option("--without-backbone", help="Store the backbone's hash in the checkpoint, not its weights.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder of prepared volumes; share it between trainings.")
    ] = None,
    device: DeviceOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a checkpoint or a training of something else that is there.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train on a folder of scans with labels; the backbone stays frozen.

    Started again after an interruption with the same options, it goes on where it stopped and ends in the same result.
    Metrics, a plot and the state lie beside the checkpoint, in CKPT-training.
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
            budget=budget,
            findings=None if findings is None else split_names("--findings", findings),
            grid=None if grid is None else parse_size("--grid", grid),
            epochs=epochs,
            patience=patience,
            batch=batch,
            accumulate=accumulate,
            lr=lr,
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
    """Tell what a training made."""
    trained = fitted.trained
    if fitted.kept:
        speaker.warn(
            f"{len(fitted.kept)} findings keep the threshold 0.5, since the validation split lacks scans with or "
            f"without them: {', '.join(fitted.kept[:5])}{', ...' if len(fitted.kept) > 5 else ''}"
        )
    score = f"mean AUC {trained.best_score:.3f}" if trained.best_score >= 0 else f"loss {-trained.best_score:.4f}"
    speaker.say(
        f"Best epoch {trained.best_epoch} of {trained.epochs}: {score} on {fitted.scans[1]} validation scans, trained "
        f"on {fitted.scans[0]}"
    )
    speaker.say(f"Adapters and routers add {fitted.added:,} parameters, {fitted.added_fraction:.2%} of the rest")
    speaker.say(f"Checkpoint: {fitted.checkpoint}  (metrics: {fitted.folder})")
