"""Checkpoints: plain data and tensors. Loading one never runs code from the file.

``ckpt.pt`` is a dictionary that ``torch.load(weights_only=True)`` accepts; ``.safetensors`` holds the same tensors with
the rest as JSON in its metadata. docs/reference/checkpoint.md describes the format; checkpoint_file.py reads the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.files import write_whole
from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.checkpoint_file import (
    BACKBONE_PREFIX,
    FORMAT,
    FORMAT_VERSION,
    METADATA_KEY,
    STATE_PREFIX,
    CheckpointFile,
    read_checkpoint_file,
)
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import ModelConfig

__all__ = [
    "LoadedCheckpoint",
    "backbone_digest",
    "load_checkpoint",
    "plain_names",
    "save_checkpoint",
    "weights_digest",
]


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A loaded and checked checkpoint.

    Attributes:
        model: in eval mode, on the CPU, float32.
        config: the model's configuration.
        sha256: SHA-256 of the file.
        has_backbone: whether the file holds the backbone's weights.
    """

    model: HeadCTClassifier
    config: ModelConfig
    sha256: str
    has_backbone: bool = True


def save_checkpoint(model: HeadCTClassifier, path: Path, *, with_backbone: bool = True) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        model: the classifier; weights are stored as float32.
        path: ``.pt`` or ``.safetensors``.
        with_backbone: also store the frozen backbone's weights. Without, only their SHA-256 is stored, and loading
            the checkpoint needs the public weights: a folder, or the installed package that holds them.

    Raises:
        CheckpointError: the path does not end in .pt or .safetensors.
    """
    if path.suffix not in (".pt", ".safetensors"):
        raise CheckpointError(f"{path}: expected a name that ends in .pt or .safetensors")
    state, backbone = (
        {name: tensor.detach().to("cpu", torch.float32).contiguous().clone() for name, tensor in part.items()}
        for part in _split(model)
    )
    header: dict[str, Any] = {"format": FORMAT, "version": FORMAT_VERSION, "config": model.config.to_dict()}
    header["backbone_sha256"] = weights_digest(backbone)
    header = json.loads(json.dumps(header))  # a pickle tells equal words from one and the same: here none is shared
    if path.suffix == ".pt":
        data = {**header, "state": state}
        if with_backbone:
            data["backbone"] = backbone
        with write_whole(path) as partial, partial.open("wb") as target:
            torch.save(data, target)  # given a name, it would write that of the temporary file into the archive
    else:
        from safetensors.torch import save_file

        tensors = {STATE_PREFIX + name: tensor for name, tensor in state.items()}
        if with_backbone:
            tensors |= {BACKBONE_PREFIX + name: tensor for name, tensor in backbone.items()}
        with write_whole(path) as partial:
            save_file(tensors, partial, metadata={METADATA_KEY: json.dumps(header)})


def load_checkpoint(path: Path, *, backbone_weights: Path | None = None) -> LoadedCheckpoint:
    """Read a checkpoint and build its model.

    Args:
        path: ``.pt`` or ``.safetensors``.
        backbone_weights: a local Hugging Face folder with the public weights, for a checkpoint that only has their
            hash; None for those of the installed package, where there is one. Ignored if the checkpoint has the
            weights.

    Raises:
        CheckpointError: the file can't be read without running code, has another format, or its weights do not fit
            its configuration.
        MissingDependencyError: the package with the backbone's weights is not installed.
    """
    file = read_checkpoint_file(path)
    with torch.random.fork_rng(devices=[]):  # building draws weights that are overwritten: leave the caller's seed
        try:
            config = ModelConfig.from_dict(file.config)
            # first on `meta`, so that a model of another size than the file's is refused before it takes memory
            with torch.device("meta"):
                want_state, want_backbone = _split(HeadCTClassifier(config))
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from error
        state = _checked(path, "state", file.state, want_state)
        backbone = _checked(path, "backbone", _backbone_of(path, file, config, backbone_weights), want_backbone)
        model = HeadCTClassifier(config)
    full = {**state, **{BACKBONE_PREFIX + name: tensor for name, tensor in backbone.items()}}
    model.load_state_dict({name: full[plain] for name, plain in plain_names(model).items()})
    return LoadedCheckpoint(model.eval(), config, file.sha256, file.backbone is not None)


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and little-endian float32 values, whatever the file format or order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}:{tuple(value.shape)};".encode())
        digest.update(value.numpy().astype("<f4", copy=False).data)
    return digest.hexdigest()


def backbone_digest(model: HeadCTClassifier) -> str:
    """:func:`weights_digest` of a model's frozen backbone, whatever is adapted in it."""
    return weights_digest(_split(model)[1])


def _split(model: HeadCTClassifier) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State (adapters, routers, pooling, head) and backbone weights, under names without the adapters' ``base.``."""
    state: dict[str, Tensor] = {}
    backbone: dict[str, Tensor] = {}
    names = plain_names(model)
    for name, tensor in model.state_dict().items():
        plain = names[name]
        if plain.startswith(BACKBONE_PREFIX) and not plain.endswith((".lora_A", ".lora_B")):
            backbone[plain.removeprefix(BACKBONE_PREFIX)] = tensor
        else:
            state[plain] = tensor
    return state, backbone


def plain_names(model: HeadCTClassifier) -> dict[str, str]:
    """Map the model's parameter names to those of the unadapted model, as checkpoints store them."""
    names = {name: name for name in model.state_dict()}
    for layer, module in model.named_modules():
        if isinstance(module, AdaptedLayer):
            for name in names:
                if name.startswith(f"{layer}.base."):
                    names[name] = f"{layer}." + name.removeprefix(f"{layer}.base.")
    return names


def _backbone_of(path: Path, file: CheckpointFile, config: ModelConfig, folder: Path | None) -> Mapping[str, Tensor]:
    """Return the backbone's weights from the file or the folder, after checking their digest."""
    expected, entry = file.backbone_sha256, backbone_entry(config.backbone.id)
    if file.backbone is not None:
        if expected is not None and weights_digest(file.backbone) != expected:
            raise CheckpointError(
                f"{path}: the backbone's weights do not match 'backbone_sha256' ({expected[:12]}...). The file is "
                f"damaged, or mixes two models. Save the checkpoint again"
            )
        return file.backbone
    if expected is None:
        raise CheckpointError(
            f"{path}: the file has neither 'backbone' (weights) nor 'backbone_sha256' (their hash). Store one of them; "
            f"docs/reference/checkpoint.md shows how"
        )
    if folder is None and entry.installed is None:
        raise CheckpointError(
            f"{path}: the file has a hash of its backbone's weights, but not the weights. Pass the public weights of "
            f"{config.backbone.id} with --backbone-weights FOLDER"
        )
    with torch.device("meta"):
        plain = entry.build(config.grid, len(config.windows), config.backbone.options)
    entry.load_weights(plain, folder)
    weights: dict[str, Tensor] = plain.state_dict()
    digest = weights_digest(weights)
    if digest != expected:
        raise CheckpointError(
            f"{folder or entry.installed}: these are not the weights that {path} was trained on (SHA-256 over names "
            f"and values is {digest[:12]}..., expected {expected[:12]}...). Pass the release of {config.backbone.id} "
            f"used in training"
        )
    return weights


def _checked(path: Path, part: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as float32 after checking names, shapes and values against the model."""
    missing, surplus = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or surplus:
        raise CheckpointError(
            f"{path}: '{part}' does not fit its configuration: {len(missing)} missing "
            f"({', '.join(missing[:3]) or 'none'}), {len(surplus)} unknown ({', '.join(surplus[:3])[:300] or 'none'}); "
            f"docs/reference/checkpoint.md lists the names"
        )
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"{path}: {part} {name}: expected shape {tuple(wanted[name].shape)}, got {tuple(tensor.shape)}; the "
                f"weights and 'config' come from different models"
            )
    values = {name: tensor.float() for name, tensor in given.items()}
    for name, value in values.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path}: {part} {name}: expected finite numbers, found NaN or infinity. "
                "Training failed or the file is damaged; use an earlier checkpoint"
            )
        if name.startswith("routers.") and name.endswith(".std") and not bool((value > 0).all()):
            raise CheckpointError(
                f"{path}: {part} {name}: expected standard deviations above 0; a router divides by them"
            )
    return values
