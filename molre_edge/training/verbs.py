"""The verbs around checkpoints: train, import a LoRA, make a synthetic data set. torch is imported late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molre_edge.errors import MissingDependencyError, UsageError
from molre_edge.files import StrPath
from molre_edge.machine import usable_cores
from molre_edge.progress import SILENT, Progress, counter
from molre_edge.training.options import (
    ModelOptions,
    check_checkpoint_name,
    choose_device,
    has_installed_weights,
    model_config,
)

if TYPE_CHECKING:
    from molre_edge.model.classifier import HeadCTClassifier
    from molre_edge.training.data_manifest import Manifest
    from molre_edge.training.fit import Fitted

__all__ = [
    "ImportResult",
    "SynthesisResult",
    "import_peft",
    "synthesize_scans",
    "train_model",
]


def train_model(
    data: StrPath,
    out: StrPath = "ckpt.pt",
    *,
    backbone: str | None = None,
    backbone_weights: StrPath | None = None,
    init: StrPath | None = None,
    adapter: str = "molre",
    match_parameters: bool = False,
    modules: Sequence[str] | None = None,
    experts: int = 6,
    rank: int = 8,
    alpha: float | None = None,
    router_level: str | None = None,
    temperature: float | None = None,
    budget: float | None = None,
    findings: Sequence[str] | None = None,
    grid: tuple[int, int, int] | None = None,
    preset: str | None = None,
    epochs: int = 30,
    patience: int = 10,
    batch: int = 8,
    accumulate: int = 1,
    lr: float = 1e-3,
    router_lr: float | None = None,
    weight_decay: float = 0.01,
    seed: int = 0,
    sensitivity: float | None = None,
    train_backbone: bool = False,
    store_backbone: bool = True,
    cache: StrPath | None = None,
    device: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Fitted:
    """Train MoLRE, a LoRA or a frozen head on a folder of labelled scans, and write the checkpoint whole.

    Called again with the same arguments after a kill, it continues where it stopped and ends in the same checkpoint.

    Args:
        data: folder with ``manifest.csv``: columns ``scan``, ``split`` and one for each finding.
        out: the checkpoint, .pt or .safetensors; metrics and state lie beside it.
        backbone: an id of docs/reference/backbones.md; None for that of `init`, or else dinov3-vitb16.
        backbone_weights: folder with the backbone's public weights; None for those of the installed package that holds
            them, where there is one (extra ``weights``).
        init: a checkpoint whose backbone, grid, windows and normalisation are taken over, not its adapters.
        adapter: ``molre``, ``lora`` or ``none``.
        match_parameters: give a LoRA the rank that adds as many parameters as the MoLRE.
        modules: names, or ends of names, of the modules to adapt; None for the backbone's default.
        experts: K of a MoLRE.
        rank: r of each expert.
        alpha: the experts' sum is scaled by ``alpha / rank``; None for twice the rank.
        router_level: what shares one gate vector, ``slice`` or ``volume``; None for ``slice``, or ``volume`` in 3D.
        temperature: the routers' logits are divided by it; None for 1.
        budget: the largest share of added parameters; None for the paper's 0.005.
        findings: train on these columns only; None for all.
        grid: (slices, rows, cols) of the model; None for that of `preset`, of `init` or of the backbone.
        preset: a published model's grid, windows and normalisation, by its name in docs/reference/preprocessing.md;
            without `init`.
        epochs: at most.
        patience: epochs without a better validation AUC after which training stops.
        batch: scans in a step.
        accumulate: steps whose gradients are summed.
        lr: the largest learning rate.
        router_lr: likewise, of the routers; None for `lr`.
        weight_decay: of AdamW, on matrices.
        seed: of weights and order.
        sensitivity: thresholds find this share of the positives; None for Youden's index.
        train_backbone: let the backbone learn too.
        store_backbone: False stores the backbone's hash in the checkpoint, not its weights.
        cache: folder of prepared volumes; None for a folder beside the checkpoint.
        device: PyTorch's name of it; None for a GPU, if there is one.
        force: replace a checkpoint, or the training of something else.
        progress: receives events.

    Raises:
        UsageError: arguments that do not fit together.
        ConfigError: an unknown preset, no usable scans in a split, or a value out of its range.
        RunError: something else is there already.
        InUseError: another process is training there.
        MissingDependencyError: torch, or the package with the backbone's weights, is not installed.
    """
    data, out = Path(data), Path(out)
    options = ModelOptions(
        backbone=backbone,
        adapter=adapter,
        match_parameters=match_parameters,
        modules=modules,
        experts=experts,
        rank=rank,
        budget=budget,
        grid=grid,
        alpha=alpha,
        router_level=router_level,
        temperature=temperature,
        router_lr=router_lr,
        preset=preset,
    )
    try:
        from molre_edge.training.data_manifest import read_manifest
        from molre_edge.training.fit import fit
        from molre_edge.training.loop import TrainSettings
    except ImportError as error:
        raise MissingDependencyError("Training", str(error.name), "train") from error
    check_checkpoint_name(out)
    if sensitivity is not None and not 0 < sensitivity <= 1:
        raise UsageError(f"--sensitivity {sensitivity}: expected a share above 0, up to 1")
    given = bool(init or backbone_weights) or has_installed_weights(options)
    if not store_backbone and (train_backbone or not given):
        raise UsageError(
            "--without-backbone: the backbone's weights exist only in this training and would be lost; leave it out"
        )
    place = choose_device(device)
    manifest = read_manifest(data, findings)
    source = None if init is None else Path(init)
    weights = None if backbone_weights is None else Path(backbone_weights)
    model = _starting_model(options, source, weights, manifest, seed, progress)
    if not (given or train_backbone):
        progress.warn(
            f"{model.config.backbone.id} has random weights; pass public ones with --backbone-weights, or a checkpoint "
            f"with --init"
        )
    settings = TrainSettings(
        epochs=epochs,
        batch=batch,
        accumulate=accumulate,
        lr=lr,
        router_lr=router_lr,
        weight_decay=weight_decay,
        patience=patience,
        train_backbone=train_backbone,
        seed=seed,
    )
    return fit(
        model,
        manifest,
        out,
        settings,
        device=place,
        sensitivity=sensitivity,
        with_backbone=store_backbone,
        cache=None if cache is None else Path(cache),
        force=force,
        progress=progress,
    )


def _starting_model(
    options: ModelOptions,
    init: Path | None,
    backbone_weights: Path | None,
    manifest: Manifest,
    seed: int,
    progress: Progress,
) -> HeadCTClassifier:
    """The model before training, with its backbone's weights."""
    from molre_edge.model.checkpoint import load_checkpoint
    from molre_edge.training.start import copy_backbone, load_backbone, new_model

    source = None if init is None else load_checkpoint(init, backbone_weights=backbone_weights)
    config = model_config(options, None if source is None else source.config, manifest.findings)
    model = new_model(config, seed=seed)
    if source is not None:
        if source.config.adapter.experts:
            progress.warn(f"{init}: only its backbone is used; its adapters are ignored")
        copy_backbone(source.model, model)
    elif backbone_weights is not None or has_installed_weights(options):
        load_backbone(model, backbone_weights)
    return model


@dataclass(frozen=True)
class ImportResult:
    """A checkpoint made from a LoRA of PEFT.

    Attributes:
        checkpoint: the file.
        layers: PEFT's name of each adapted module, and ours.
        rank: r.
        alpha: the scale is alpha / r.
        added_parameters: of the LoRA.
        added_fraction: their share of all others.
    """

    checkpoint: Path
    layers: Mapping[str, str]
    rank: int
    alpha: float
    added_parameters: int
    added_fraction: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``import-peft --json`` prints it."""
        return {**vars(self), "checkpoint": str(self.checkpoint), "layers": dict(self.layers)}


def import_peft(
    folder: StrPath,
    base: StrPath,
    out: StrPath = "ckpt.pt",
    *,
    backbone_weights: StrPath | None = None,
    budget: float | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> ImportResult:
    """Put a LoRA that Hugging Face PEFT saved onto a checkpoint without adapters; PEFT itself is not needed.

    Args:
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``.
        base: the checkpoint that the LoRA was trained on, with K = 0.
        out: the new checkpoint, with K = 1.
        backbone_weights: Hugging Face folder, for a base without the backbone's weights; `out` has none either.
        budget: the largest share of added parameters; None for the base's.
        force: replace `out`.
        progress: receives events.

    Raises:
        UsageError: `out` exists, or is not a checkpoint's name.
        CheckpointError: the LoRA is not a plain one, is incomplete, or does not fit the base.
        MissingDependencyError: torch is not installed.
    """
    out = Path(out)
    try:
        from molre_edge.model.checkpoint import load_checkpoint, save_checkpoint
        from molre_edge.model.peft import put_lora_on
        from molre_edge.model.placement import count_parameters
    except ImportError as error:
        raise MissingDependencyError("Importing a LoRA", str(error.name), "export") from error
    check_checkpoint_name(out)
    if out.exists() and not force:
        raise UsageError(f"--out {out}: already exists; choose another name, or replace it with --force")
    progress.step("loading")
    weights = None if backbone_weights is None else Path(backbone_weights)
    loaded = load_checkpoint(Path(base), backbone_weights=weights)
    progress.step("the LoRA")
    imported = put_lora_on(Path(folder), loaded, budget=budget)
    save_checkpoint(imported.model, out, with_backbone=loaded.has_backbone)
    progress.warn("the thresholds are those of the base; set them again on a validation set")
    adapter, count = imported.model.config.adapter, count_parameters(imported.model)
    return ImportResult(out, imported.layers, adapter.rank, adapter.alpha, count.added, count.fraction)


@dataclass(frozen=True)
class SynthesisResult:
    """A synthetic data set: its folder, with ``manifest.csv``, and the number of its scans."""

    folder: Path
    scans: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``synthesize --json`` prints it."""
        return {"folder": str(self.folder), "scans": self.scans}


def synthesize_scans(
    folder: StrPath,
    *,
    scans: int = 240,
    seed: int = 0,
    findings: Sequence[str] | None = None,
    prevalence: float = 0.3,
    shape: tuple[int, int, int] = (16, 128, 128),
    processes: int | None = 1,
    progress: Progress = SILENT,
) -> SynthesisResult:
    """Make synthetic head CTs with findings, and the manifest for training: 60 % train, 20 % val, 20 % test.

    Args:
        folder: a new or empty folder.
        scans: number of scans, at least 10.
        seed: two seeds share no head.
        findings: draw each of these by itself, and write these columns only; None for plausible draws of all.
        prevalence: of each of `findings`, in each split.
        shape: (slices, rows, cols) of a scan.
        processes: number of processes that make scans; None for one on each core. With more than one, a script needs
            ``if __name__ == "__main__":`` around its own code, since each process imports it.
        progress: receives events.

    Raises:
        UsageError: the folder holds something.
        ConfigError: a finding that synthetic heads can't have.
    """
    folder = Path(folder)
    try:
        from molre_edge.training.dataset import make_dataset
    except ImportError as error:
        raise MissingDependencyError("Making a data set", str(error.name), "train") from error
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: already exists and is not empty; name a new folder")
    progress.step("scans")
    make_dataset(
        folder,
        scans=scans,
        seed=seed,
        shape=shape,
        findings=findings,
        prevalence=prevalence,
        processes=usable_cores() if processes is None else processes,
        on_scan=counter(progress, scans, "scans"),
    )
    return SynthesisResult(folder, scans)
