"""``molre-edge train``: fine-tune MoLRE, LoRA or a frozen head."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, UsageError, command
from molre_edge.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from molre_edge.model.classifier import HeadCTClassifier
    from molre_edge.model.config import ModelConfig
    from molre_edge.training.fit import Fitted
    from molre_edge.training.manifest import Manifest

__all__ = ["AdapterChoice", "TrainBar", "model_config", "show_fitted", "starting_model", "train"]


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
    backbone: Annotated[str, typer.Option("--backbone", help="An id from docs/backbones.md.")] = "dinov3-vitb16",
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
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda; default: a GPU, if any.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train on a folder of scans with labels; the backbone stays frozen.

    Started again after an interruption with the same options, it goes on where it stopped and ends in the same result.
    Metrics, a plot and the state lie beside the checkpoint, in CKPT-training.
    """
    speaker = Speaker(as_json, quiet)
    try:
        import torch

        from molre_edge.training.fit import fit
        from molre_edge.training.loop import TrainSettings
        from molre_edge.training.manifest import read_manifest
    except ImportError as error:
        raise MissingDependencyError("Training", str(error.name), "train") from error
    if out.suffix not in {".pt", ".safetensors"}:
        raise UsageError(f"--out {out}: expected a name that ends in .pt or .safetensors")
    if sensitivity is not None and not 0 < sensitivity <= 1:
        raise UsageError(f"--sensitivity {sensitivity}: expected a share above 0, up to 1")
    if init is not None and backbone_weights is not None:
        raise UsageError("--init brings a backbone's weights already; leave out --backbone-weights")
    manifest = read_manifest(data, [name.strip() for name in findings.split(",")] if findings else None)
    wanted = {
        "adapter": adapter,
        "modules": modules,
        "experts": experts,
        "rank": rank,
        "budget": budget,
        "grid": grid,
        "match_parameters": match_parameters,
    }
    model = starting_model(backbone, init, backbone_weights, manifest, wanted, seed)
    if not (init or backbone_weights or train_backbone):
        speaker.warn(
            f"{backbone} has random weights: give the public ones with --backbone-weights, or a checkpoint with --init"
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
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            sensitivity=sensitivity,
            with_backbone=not without_backbone,
            cache=cache,
            watcher=bar,
        )
    show_fitted(fitted, speaker)


def starting_model(
    backbone: str,
    init: Path | None,
    backbone_weights: Path | None,
    manifest: Manifest,
    wanted: dict[str, Any],
    seed: int,
) -> HeadCTClassifier:
    """The model before training, its backbone's weights in place."""
    from molre_edge.model.checkpoint import load_checkpoint
    from molre_edge.training.start import copy_backbone, load_backbone, new_model

    source = None if init is None else load_checkpoint(init)
    model = new_model(model_config(backbone, None if source is None else source.config, manifest, wanted), seed=seed)
    if source is not None:
        copy_backbone(source.model, model)
    elif backbone_weights is not None:
        load_backbone(model, backbone_weights)
    return model


def model_config(backbone: str, source: ModelConfig | None, manifest: Manifest, wanted: dict[str, Any]) -> ModelConfig:
    """The configuration that the options ask for."""
    from molre_edge.model.config import AdapterConfig
    from molre_edge.model.defaults import default_config
    from molre_edge.training.start import match_rank

    name = backbone if source is None else source.backbone.id
    kind = wanted["adapter"].value
    if kind != "lora" and wanted["match_parameters"]:
        raise UsageError("--match-parameters: is for --adapter lora, whose rank it chooses")
    modules = wanted["modules"]
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
        return replace(match_rank(molre), budget=config.budget)
    return replace(config, adapter=AdapterConfig(modules=places, experts=1, rank=wanted["rank"]))


def _grid(text: str, config: ModelConfig) -> Any:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise UsageError(f"--grid {text}: expected SLICESxROWSxCOLS, such as 32x224x224")
    slices, rows, cols = (int(part) for part in parts)
    try:
        return replace(config.grid, slices=slices, rows=rows, cols=cols)
    except ConfigError as error:
        raise UsageError(f"--grid {text}: {error}") from error


class TrainBar:
    """Progress on a terminal; elsewhere a line a step and an epoch."""

    def __init__(self, speaker: Speaker) -> None:
        """Speak through `speaker`."""
        self._speaker = speaker
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=speaker.err,
            disable=speaker.quiet or not speaker.err.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, visible=False)

    def __enter__(self) -> TrainBar:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._bar.stop()

    def step(self, name: str, total: int) -> None:
        """A step with so many parts begins."""
        self._bar.reset(self._task, description=name, total=total, visible=True)
        if not self._speaker.err.is_terminal:
            self._speaker.tell(f"- {name}: {total}")

    def part(self) -> None:
        """A part of it is done."""
        self._bar.advance(self._task)

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done."""
        self._bar.advance(self._task)
        self._speaker.tell(
            f"  epoch {row['epoch']:.0f}: loss {row['train_loss']:.4f}, validation loss {row['val_loss']:.4f}, "
            f"AUC {row['val_auc']:.3f} ({row['seconds']:.1f} s)"
        )


def show_fitted(fitted: Fitted, speaker: Speaker) -> None:
    """Tell what a training made."""
    trained = fitted.trained
    for name, reason in fitted.problems:
        speaker.warn(f"{name} can't be used: {reason}")
    if fitted.kept:
        speaker.warn(
            f"{len(fitted.kept)} findings keep the threshold 0.5, since the validation split lacks scans with or "
            f"without them: {', '.join(fitted.kept[:5])}{', ...' if len(fitted.kept) > 5 else ''}"
        )
    speaker.say(
        f"Best epoch {trained.best_epoch} of {trained.epochs}: {trained.best_score:.3f} on {fitted.scans[1]} "
        f"validation scans, trained on {fitted.scans[0]}"
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
        }
    )
