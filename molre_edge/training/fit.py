"""From a data folder to a checkpoint: volumes, training, thresholds, metrics."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from molre_edge.errors import ConfigError
from molre_edge.files import sha256_of, write_whole
from molre_edge.locks import hold
from molre_edge.model.checkpoint import save_checkpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.placement import count_parameters
from molre_edge.progress import SILENT, Progress, counter
from molre_edge.training.data_manifest import Manifest
from molre_edge.training.loop import Trained, TrainSettings, train_model
from molre_edge.training.resume import check_data, data_digest, is_finished, make_plan, take_back, take_up
from molre_edge.training.samples import FeatureSamples, has_fixed_features, make_samples, predict
from molre_edge.training.state import TrainingState, save_state
from molre_edge.training.thresholds import set_thresholds
from molre_edge.training.volumes import Volumes, prepare_volumes

__all__ = ["Fitted", "fit", "training_folder"]

_LONGEST_STEM = 240  # bytes; a file system allows 255 for the folder's whole name


@dataclass(frozen=True, eq=False)
class Fitted:
    """Result of a training.

    Attributes:
        checkpoint: the file.
        folder: metrics and state.
        trained: epochs and the best of them.
        scans: usable scans of the training and validation splits.
        problems: (scan, reason) of scans that could not be used.
        kept: findings whose threshold stays 0.5 because the validation split lacks a class.
        added: parameters of adapters and routers, and
        added_fraction: their share of all others.
        cached_features: whether the backbone ran only once per scan.
    """

    checkpoint: Path
    folder: Path
    trained: Trained
    scans: tuple[int, int]
    problems: tuple[tuple[str, str], ...]
    kept: tuple[str, ...]
    added: int
    added_fraction: float
    cached_features: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``train --json`` prints it."""
        return {
            "checkpoint": str(self.checkpoint),
            "folder": str(self.folder),
            "best_epoch": self.trained.best_epoch,
            "best_score": self.trained.best_score,
            "epochs": self.trained.epochs,
            "scans": {"train": self.scans[0], "val": self.scans[1]},
            "problems": [{"scan": name, "reason": reason} for name, reason in self.problems],
            "thresholds_kept": list(self.kept),
            "added_parameters": self.added,
            "added_fraction": self.added_fraction,
            "cached_features": self.cached_features,
        }


def training_folder(checkpoint: Path) -> Path:
    """Where a training keeps its state and metrics: beside its checkpoint, under its name, a long one cut."""
    stem = os.fsencode(checkpoint.stem)
    if len(stem) > _LONGEST_STEM:  # what is cut is told from others by its hash
        short = stem[: _LONGEST_STEM - 17].decode("utf-8", "ignore")
        return checkpoint.with_name(f"{short}-{hashlib.sha256(stem).hexdigest()[:16]}-training")
    return checkpoint.with_name(f"{checkpoint.stem}-training")


def fit(
    model: HeadCTClassifier,
    manifest: Manifest,
    out: Path,
    settings: TrainSettings,
    *,
    device: str = "cpu",
    sensitivity: float | None = None,
    with_backbone: bool = True,
    cache: Path | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Fitted:
    """Train, set the thresholds on the validation split, and write the checkpoint whole.

    Called again after a kill, it continues where it stopped and writes the same checkpoint. Called again after it
    finished, it reads no scan and returns the same result.

    Args:
        model: from :func:`molre_edge.training.start.new_model`, its findings those of the manifest; ends as the
            checkpoint has it.
        manifest: with scans in ``train`` and ``val``.
        out: the checkpoint.
        settings: of the loop.
        device: PyTorch's name of it.
        sensitivity: thresholds find this share of the positives; None for Youden's index.
        with_backbone: store the backbone's weights in the checkpoint.
        cache: folder of volumes and features; beside the checkpoint by default.
        force: replace another checkpoint or training.
        progress: receives events.

    Raises:
        ConfigError: a split is empty, or none of its scans can be used.
        RunError: another checkpoint or training exists there, or the loss was not finite.
        InUseError: another process is training there.
    """
    if model.config.findings != manifest.findings:
        raise ConfigError(
            f"{manifest.path}: its findings differ from the model's, or have another order; read it with the "
            f"model's findings"
        )
    folder = training_folder(out)
    cache, state_file = cache or folder / "cache", folder / "state.pt"
    asked = {"sensitivity": sensitivity, "with_backbone": with_backbone}
    plan = make_plan(model, manifest, settings)
    take_up(out, state_file, plan, asked, force=force)  # refuses before anything is made
    with hold(folder, "molre-edge train"):
        state = take_up(out, state_file, plan, asked, force=force)  # another training may just have ended
        if is_finished(state, out):
            take_back(model, out)
            for row in state.rows:
                _tell_epoch(row, settings.epochs, progress)
            return _fitted(model.eval(), out, state)
        for rest in folder.glob(".*.partial*"):  # of a file that a kill cut
            rest.unlink(missing_ok=True)
        splits = {split: _read(manifest, split, model, cache, progress) for split in ("train", "val")}
        state = check_data(state, data_digest(splits.values()), force=force)
        model.to(torch.device(device))
        model.backbone.requires_grad_(settings.train_backbone)
        samples = {}
        for split, volumes in splits.items():
            if has_fixed_features(model):
                progress.step(f"features ({split})")
            samples[split] = make_samples(model, volumes, cache, counter(progress, len(volumes), "scans"))

        def save(state: TrainingState) -> None:
            save_state(state_file, state)
            _write_metrics(folder / "metrics.csv", state.rows)

        progress.step("training")
        tell_epoch = partial(_tell_epoch, epochs=settings.epochs, progress=progress)
        trained = train_model(
            model,
            samples["train"],
            samples["val"],
            settings,
            state,
            save=save,
            on_epoch=tell_epoch,
        )
        answers = predict(model, samples["val"], settings.batch)
        thresholds, kept = set_thresholds(answers.probabilities, samples["val"].labels, sensitivity)
        model.to("cpu").eval()
        model.config = replace(model.config, thresholds=thresholds)
        _write_metrics(folder / "metrics.csv", trained.rows)
        _plot(folder / "metrics.png", trained)
        save_checkpoint(model, out, with_backbone=with_backbone)
        state.result = {
            "asked": asked,
            "checkpoint_sha256": sha256_of(out),
            "thresholds": list(thresholds),
            "kept": [model.config.findings[i] for i in kept],
            "scans": [len(splits["train"]), len(splits["val"])],
            "problems": [list(problem) for volumes in splits.values() for problem in volumes.problems],
            "cached_features": isinstance(samples["train"], FeatureSamples),
        }
        save_state(state_file, state)
        return _fitted(model, out, state)


def _read(manifest: Manifest, split: str, model: HeadCTClassifier, cache: Path, progress: Progress) -> Volumes:
    cases = manifest.of(split)
    if not cases:
        raise ConfigError(f"{manifest.path}: has no scans with split '{split}'; training needs 'train' and 'val'")
    progress.step(f"reading scans ({split})")
    volumes = prepare_volumes(cases, model.config.grid, cache, counter(progress, len(cases), "scans"))
    for name, reason in volumes.problems:
        progress.warn(f"{name} can't be used: {reason}")
    return volumes


def _tell_epoch(row: dict[str, float], epochs: int, progress: Progress) -> None:
    """Report an epoch: its count, and a line with its losses and the validation AUC."""
    progress.count(int(row["epoch"]), epochs, "epochs")
    progress.info(
        f"  epoch {row['epoch']:.0f}: loss {row['train_loss']:.4f}, validation loss {row['val_loss']:.4f}, "
        f"AUC {'–' if math.isnan(row['val_auc']) else format(row['val_auc'], '.3f')} ({row['seconds']:.1f} s)"
    )


def _fitted(model: HeadCTClassifier, out: Path, state: TrainingState) -> Fitted:
    """What the state says about the checkpoint; the model gets its thresholds."""
    assert state.result is not None
    result, count = state.result, count_parameters(model)
    model.config = replace(model.config, thresholds=tuple(result["thresholds"]))
    return Fitted(
        checkpoint=out,
        folder=training_folder(out),
        trained=Trained(state.best_epoch, state.best_score, state.epoch, tuple(state.rows)),
        scans=(result["scans"][0], result["scans"][1]),
        problems=tuple((name, reason) for name, reason in result["problems"]),
        kept=tuple(result["kept"]),
        added=count.added,
        added_fraction=count.fraction,
        cached_features=result["cached_features"],
    )


def _write_metrics(path: Path, rows: Sequence[dict[str, float]]) -> None:
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)  # an earlier release wrote fewer
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with write_whole(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def _plot(path: Path, trained: Trained) -> None:
    """Losses and validation AUC over the epochs, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, areas = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in trained.rows]

    def draw(axes: Any, names: Sequence[str], title: str) -> None:
        for name in names:
            axes.plot(epochs, [row[name] for row in trained.rows], label=name.replace("_", " "))
        axes.axvline(trained.best_epoch, color="grey", linewidth=0.8, linestyle="--", label="best epoch")
        axes.set(xlabel="epoch", title=title)
        axes.legend(frameon=False)

    draw(losses, ("train_loss", "val_loss"), "focal loss")
    draw(areas, ("val_auc",), "mean AUC on the validation split")
    with write_whole(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
