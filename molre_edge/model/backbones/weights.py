"""Published weights in a local folder, put into a backbone under whatever prefix their file gives them.

The same tower lies in several models under several names: MedSigLIP's is ``vision_model.``, MedGemma's is
``vision_tower.vision_model.``, and a training script's file may have all of it under ``state_dict``.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molre_edge.errors import CheckpointError

__all__ = ["check_published", "load_published", "published_tensors"]

_PICKLED = (".pt", ".pth", ".bin", ".ckpt")


def published_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's weight files; nested dictionaries join their names with dots.

    Args:
        folder: holds ``*.safetensors``, or else PyTorch files, of which nothing is run (``weights_only``). A
            safetensors file may have any of the suffixes (MedImageInsight's is a ``.pt``).

    Raises:
        CheckpointError: no such files, or one that can't be read.
    """
    paths = sorted(folder.glob("*.safetensors")) or sorted(p for p in folder.glob("*") if p.suffix in _PICKLED)
    if not paths:
        raise CheckpointError(
            f"{folder}: expected a folder with the backbone's published weights "
            f"(*.safetensors, or {', '.join(_PICKLED)}), found none"
        )
    tensors: dict[str, Tensor] = {}
    for path in paths:
        tensors |= _read(path)
    return tensors


def check_published(folder: Path, expected: Mapping[str, Any]) -> None:
    """Refuse a Hugging Face folder of another architecture. A folder without config.json is left to the shapes.

    Args:
        folder: may hold a ``config.json``, with the vision tower's part under ``vision_config`` or at the top.
        expected: settings of the backbone; those that config.json does not name are not compared.

    Raises:
        CheckpointError: a setting differs, or config.json can't be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        return
    try:
        published = json.loads(path.read_text(encoding="utf-8"))
        published = published.get("vision_config", published)
        theirs = {name: published.get(name, value) for name, value in expected.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a readable Hugging Face configuration ({error})") from error
    for name, value in expected.items():
        if theirs[name] != value:
            raise CheckpointError(
                f"{path}: {name} is {theirs[name]!r}, the checkpoint's backbone has {value!r}; give the weights of the "
                f"backbone that the checkpoint was trained on"
            )


def load_published(
    module: nn.Module,
    folder: Path,
    *,
    their_name: Callable[[str], str] = lambda name: name,
    change: Callable[[str, Tensor], Tensor] = lambda name, value: value,
) -> None:
    """Load a folder's weights into a built backbone. What it has no place for (text towers, heads) is left out.

    Args:
        module: the backbone; it may be on ``meta``.
        folder: see :func:`published_tensors`.
        their_name: the module's name of a weight -> its name in the files, but for a prefix common to all.
        change: (the module's name, the published value) -> the value as the module has it.

    Raises:
        CheckpointError: weights are missing or have other shapes; the message names some.
    """
    published, own = published_tensors(folder), module.state_dict()
    wanted = {name: their_name(name) for name in own}
    prefix = _prefix(set(published), set(wanted.values()))
    for name, theirs in wanted.items():
        if name.endswith(
            "num_batches_tracked"
        ):  # a norm's count of batches: old files have none, nothing depends on it
            published.setdefault(prefix + theirs, torch.zeros(()))
    missing = sorted(theirs for theirs in wanted.values() if prefix + theirs not in published)
    if missing:
        raise CheckpointError(
            f"{folder}: {len(missing)} of the backbone's {len(wanted)} weights are not there "
            f"({', '.join(missing[:3])}); the files have, for example, {', '.join(sorted(published)[:3])}"
        )
    values = {name: change(name, published[prefix + theirs].float()) for name, theirs in wanted.items()}
    for name, value in values.items():
        if value.shape != own[name].shape:
            raise CheckpointError(
                f"{folder}: {prefix}{wanted[name]}: expected shape {tuple(own[name].shape)}, got {tuple(value.shape)}; "
                f"published weights fit the published sizes, grid and number of windows"
            )
    module.load_state_dict(values, assign=True)


def _prefix(published: set[str], wanted: set[str]) -> str:
    """The prefix under which most of the wanted names are there; the shortest of equals."""
    sample = min(wanted, key=lambda name: (-name.count("."), name))  # a deep name: it ends few others
    prefixes = {name.removesuffix(sample) for name in published if name.endswith(sample)} | {""}
    return min(prefixes, key=lambda prefix: (-sum(prefix + name in published for name in wanted), len(prefix)))


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        if path.suffix not in _PICKLED:
            raise CheckpointError(f"{path}: not a readable safetensors file ({error}); fetch it again") from error
    try:
        return _flat(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, since loading it would run code; convert it to safetensors where you trust it"
        ) from error
    except Exception as error:  # a damaged archive raises all kinds
        raise CheckpointError(f"{path}: not a readable PyTorch file ({type(error).__name__}: {error})") from error


def _flat(data: Any, prefix: str = "") -> dict[str, Tensor]:
    if isinstance(data, Tensor):
        return {prefix.removesuffix("."): data}
    if not isinstance(data, Mapping):
        return {}
    flat: dict[str, Tensor] = {}
    for name, value in data.items():
        flat |= _flat(value, f"{prefix}{name}.")
    return flat
