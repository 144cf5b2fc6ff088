"""Checkpoints: plain data and tensors, loaded without running anything that they bring.

``ckpt.pt`` is a dictionary that ``torch.load(weights_only=True)`` accepts; ``.safetensors`` holds the same tensors with
the rest as JSON in its metadata. docs/checkpoint.md is the format's description.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molre_edge.errors import CheckpointError, ConfigError
from molre_edge.files import sha256_of, write_whole
from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import ModelConfig

__all__ = ["FORMAT", "FORMAT_VERSION", "LoadedCheckpoint", "load_checkpoint", "save_checkpoint", "weights_digest"]

FORMAT = "molre-edge-checkpoint"
FORMAT_VERSION = 1

_STATE, _BACKBONE = "state.", "backbone."


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint, read and checked.

    Attributes:
        model: in eval mode, on the CPU, float32.
        config: its configuration.
        sha256: of the file.
    """

    model: HeadCTClassifier
    config: ModelConfig
    sha256: str


def save_checkpoint(model: HeadCTClassifier, path: Path, *, with_backbone: bool = True) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        model: the classifier; weights are stored as float32.
        path: ``.pt`` or ``.safetensors``.
        with_backbone: store the frozen backbone's weights too; else only their SHA-256, and whoever loads the
            checkpoint gives a folder with the public weights.

    Raises:
        CheckpointError: another suffix.
    """
    state, backbone = _split(model)
    header: dict[str, Any] = {"format": FORMAT, "version": FORMAT_VERSION, "config": model.config.to_dict()}
    header["backbone_sha256"] = weights_digest(backbone)
    if path.suffix == ".pt":
        data = {**header, "state": state}
        if with_backbone:
            data["backbone"] = backbone
        with write_whole(path) as partial:
            torch.save(data, partial)
    elif path.suffix == ".safetensors":
        from safetensors.torch import save_file

        tensors = {_STATE + name: tensor for name, tensor in state.items()}
        if with_backbone:
            tensors |= {_BACKBONE + name: tensor for name, tensor in backbone.items()}
        with write_whole(path) as partial:
            save_file(tensors, partial, metadata={"molre_edge": json.dumps(header)})
    else:
        raise CheckpointError(f"{path}: expected a name that ends in .pt or .safetensors")


def load_checkpoint(path: Path, *, backbone_weights: Path | None = None) -> LoadedCheckpoint:
    """Read a checkpoint and build its model.

    Args:
        path: ``.pt`` or ``.safetensors``.
        backbone_weights: a local Hugging Face folder with the public weights, for a checkpoint that only has their
            hash.

    Raises:
        CheckpointError: not readable without running code, not of this format, or weights that do not fit.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint (.pt or .safetensors)")
    header, state, backbone = _read(path)
    config = _config_of(path, header)
    try:
        with torch.random.fork_rng(devices=[]):  # building draws weights that are overwritten: leave the caller's seed
            model = HeadCTClassifier(config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    _fill(path, model, state, backbone, header, backbone_weights)
    return LoadedCheckpoint(model.eval(), config, sha256_of(path))


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values, whatever the file format or order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}:{tuple(value.shape)};".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()


def _split(model: HeadCTClassifier) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State (adapters, routers, pooling, head) and backbone weights, under names without the adapters' ``base.``."""
    state: dict[str, Tensor] = {}
    backbone: dict[str, Tensor] = {}
    plain_names = _plain_names(model)
    for name, tensor in model.state_dict().items():
        value = tensor.detach().to("cpu", torch.float32).contiguous().clone()
        plain = plain_names[name]
        if plain.startswith(_BACKBONE) and not name.endswith((".lora_A", ".lora_B")):
            backbone[plain.removeprefix(_BACKBONE)] = value
        else:
            state[plain] = value
    return state, backbone


def _plain_names(model: HeadCTClassifier) -> dict[str, str]:
    """The model's names -> names as in the unadapted model, so that a backbone keeps its own."""
    adapted = {f"{name}.base." for name, module in model.named_modules() if isinstance(module, AdaptedLayer)}
    names = {name: name for name in model.state_dict()}
    for prefix in adapted:
        for name in names:
            if name.startswith(prefix):
                names[name] = prefix.removesuffix("base.") + name.removeprefix(prefix)
    return names


def _read(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor], dict[str, Tensor] | None]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, since loading it would run code or it holds more than plain data and tensors. "
            f"Write it with molre_edge.model.checkpoint.save_checkpoint, or as docs/checkpoint.md describes"
        ) from error
    except Exception as error:  # a damaged archive raises all kinds
        raise CheckpointError(f"{path}: not a readable PyTorch file ({type(error).__name__}: {error})") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a dictionary, got {type(data).__name__}; see docs/checkpoint.md")
    state, backbone = data.get("state"), data.get("backbone")
    if data.get("format") == FORMAT:
        for name, part in (("state", state), ("backbone", backbone)):
            if not (name == "backbone" and part is None) and not _is_tensors(part):
                raise CheckpointError(f"{path}: expected {name!r} to map names to tensors")
    return data, state or {}, backbone


def _is_tensors(part: Any) -> bool:
    return isinstance(part, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in part.items())


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor], dict[str, Tensor] | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
        header = json.loads(metadata.get("molre_edge", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its metadata 'molre_edge' is not a JSON object")
    state = {n.removeprefix(_STATE): t for n, t in tensors.items() if n.startswith(_STATE)}
    backbone = {n.removeprefix(_BACKBONE): t for n, t in tensors.items() if n.startswith(_BACKBONE)}
    return header, state, backbone or None


def _config_of(path: Path, header: Mapping[str, Any]) -> ModelConfig:
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a molre-edge checkpoint (expected 'format' to be {FORMAT!r}, got {header.get('format')!r}); "
            f"docs/checkpoint.md says how to write one"
        )
    if header.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {header.get('version')!r}; this molre-edge reads version {FORMAT_VERSION}"
        )
    config = header.get("config")
    if not isinstance(config, Mapping):
        raise CheckpointError(f"{path}: has no configuration ('config'); see docs/checkpoint.md")
    try:
        return ModelConfig.from_dict(config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _fill(
    path: Path,
    model: HeadCTClassifier,
    state: Mapping[str, Tensor],
    backbone: Mapping[str, Tensor] | None,
    header: Mapping[str, Any],
    folder: Path | None,
) -> None:
    """Put the weights into the model; every one of them, each of the right shape and finite."""
    want_state, want_backbone = _split(model)
    full: dict[str, Tensor] = dict(_checked(path, "state", state, want_state))
    if backbone is None:
        if folder is None:
            raise CheckpointError(
                f"{path}: holds no backbone weights, only their hash; give the public weights of "
                f"{model.config.backbone.id} with --backbone-weights FOLDER"
            )
        plain = backbone_entry(model.config.backbone.id).build(
            model.config.grid, len(model.config.windows), model.config.backbone.options
        )
        backbone_entry(model.config.backbone.id).load(plain, folder)
        backbone = {name: tensor.float() for name, tensor in plain.state_dict().items()}
        if weights_digest(backbone) != header.get("backbone_sha256"):
            raise CheckpointError(
                f"{folder}: these are not the weights that {path} was trained on (SHA-256 over names and values is "
                f"{weights_digest(backbone)[:12]}..., expected {str(header.get('backbone_sha256'))[:12]}...)"
            )
    full |= {_BACKBONE + n: t for n, t in _checked(path, "backbone", backbone, want_backbone).items()}
    model.load_state_dict({name: full[plain] for name, plain in _plain_names(model).items()})


def _checked(path: Path, part: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    missing, surplus = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or surplus:
        raise CheckpointError(
            f"{path}: '{part}' does not fit its configuration: {len(missing)} missing"
            f"{' (' + ', '.join(missing[:3]) + ')' if missing else ''}, {len(surplus)} unknown"
            f"{' (' + ', '.join(surplus[:3]) + ')' if surplus else ''}"
        )
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"{path}: {part} {name}: expected shape {tuple(wanted[name].shape)}, got {tuple(tensor.shape)}"
            )
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {part} {name}: expected finite floating-point numbers")
    return {name: tensor.float() for name, tensor in given.items()}
