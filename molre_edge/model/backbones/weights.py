"""Published weights in a local folder, put into a backbone under whatever prefix their file gives them.

The same tower lies in several models under several names: MedSigLIP's is ``vision_model.``, MedGemma's is
``vision_tower.vision_model.``, and a training script's file may have all of it under ``state_dict``.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molre_edge.errors import CheckpointError
from molre_edge.model.backbones.published import PICKLED, weight_files
from molre_edge.model.checkpoint_file import check_archive
from molre_edge.model.safetensors_file import open_safetensors
from molre_edge.regular import open_regular

__all__ = ["as_floats", "flat_tensors", "load_published", "place_weights", "published_tensors"]

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_MAX_ENTRIES = 100_000
"""Entries of a PyTorch file's tables at most: a short pickle can refer to one table a billion times."""


def published_tensors(folder: Path, *, pickled: bool = True) -> dict[str, Tensor]:
    """All tensors of a folder's weight files; nested dictionaries join their names with dots.

    Args:
        folder: see :func:`molre_edge.model.backbones.published.weight_files`. Of PyTorch files nothing is run
            (``weights_only``).
        pickled: whether PyTorch files count.

    Raises:
        CheckpointError: no such files, several of which none is named as the one, or one that can't be read.
    """
    tensors: dict[str, Tensor] = {}
    for path, names in weight_files(folder, pickled=pickled).items():
        read = _read(path)
        if names is not None:
            missing = sorted(names - set(read))
            if missing:
                raise CheckpointError(
                    f"{path}: {len(missing)} weights that the folder's index places here are missing "
                    f"({', '.join(missing[:3])[:300]}). Index and files are of two releases: fetch both again"
                )
            read = {name: read[name] for name in names}
        tensors |= read
    return tensors


def as_floats(source: Path | str, name: str, value: Tensor) -> Tensor:
    """A published weight as float32.

    Args:
        source: for the message, where the weight was read.
        name: of the weight, as its file has it.
        value: as its file has it.

    Raises:
        CheckpointError: the weight is not of a floating-point type, or holds NaN or infinity.
    """
    if value.dtype not in _FLOATS:
        raise CheckpointError(
            f"{source}: {name} has the type {str(value.dtype).removeprefix('torch.')}, as in quantised releases, which "
            f"mean nothing without their scales. Expected {', '.join(str(d).removeprefix('torch.') for d in _FLOATS)}. "
            f"Give the original release of the backbone"
        )
    result = value.float()
    if not bool(torch.isfinite(result).all()):
        raise CheckpointError(
            f"{source}: {name} holds NaN or infinity. Expected finite float32 numbers. The file is damaged or its "
            f"training failed: fetch it again"
        )
    return result


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
        CheckpointError: see :func:`place_weights`.
    """
    place_weights(module, published_tensors(folder), folder, their_name=their_name, change=change)


def place_weights(
    module: nn.Module,
    published: dict[str, Tensor],
    source: Path | str,
    *,
    their_name: Callable[[str], str] = lambda name: name,
    change: Callable[[str, Tensor], Tensor] = lambda name, value: value,
) -> None:
    """Put published tensors into a built backbone, as :func:`load_published` does with those of a folder.

    Args:
        module: the backbone; it may be on ``meta``.
        published: tensors by their published names.
        source: for messages, where they were read.
        their_name: see :func:`load_published`.
        change: see :func:`load_published`.

    Raises:
        CheckpointError: weights are missing, are not finite floating-point numbers, or have other shapes; the message
            names some.
    """
    published, own = dict(published), module.state_dict()
    wanted = {name: their_name(name) for name in own}
    prefix = _prefix(set(published), set(wanted.values()))
    counts = {name for name in own if name.endswith("num_batches_tracked")}
    for name in counts:  # a norm's count of batches: old files have none, and nothing depends on it
        published.setdefault(prefix + wanted[name], torch.zeros(()))
        published[prefix + wanted[name]] = published[prefix + wanted[name]].float()
    missing = sorted(theirs for theirs in wanted.values() if prefix + theirs not in published)
    if missing:
        raise CheckpointError(
            f"{source}: {len(missing)} of the backbone's {len(wanted)} weights are missing "
            f"({', '.join(missing[:3])}). The files have, for example, {', '.join(sorted(published)[:3])}. Pass the "
            f"folder of this backbone's weights"
        )
    values = {
        name: change(name, as_floats(source, prefix + theirs, published[prefix + theirs]))
        for name, theirs in wanted.items()
    }
    for name, value in values.items():
        if value.shape != own[name].shape:
            raise CheckpointError(
                f"{source}: {prefix}{wanted[name]}: expected shape {tuple(own[name].shape)}, got {tuple(value.shape)}; "
                f"published weights only fit the published sizes, grid and number of windows"
            )
    module.load_state_dict(values, assign=True)


def _prefix(published: set[str], wanted: set[str]) -> str:
    """The prefix under which most of the wanted names are there; the shortest of equals."""
    sample = min(wanted, key=lambda name: (-name.count("."), name))  # a deep name: it ends few others
    prefixes = {name.removesuffix(sample) for name in published if name.endswith(sample)} | {""}
    return min(prefixes, key=lambda prefix: (-sum(prefix + name in published for name in wanted), len(prefix)))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        try:
            with open_safetensors(path) as opened:
                return {name: opened.tensor(name) for name in opened.header.shapes}
        except ValueError as error:
            if path.suffix not in PICKLED:
                raise CheckpointError(f"{path}: not a readable safetensors file ({error}). Fetch it again") from error
        return _read_pytorch(path)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror or error}. Fetch it again") from error


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    with open_regular(path) as file:
        if zipfile.is_zipfile(file):
            check_archive(path, file)
        file.seek(0)
        try:
            return flat_tensors(torch.load(file, map_location="cpu", weights_only=True))
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"{path}: refused because loading it would run code; convert it to safetensors on a machine where you "
                f"trust it"
            ) from error
        except Exception as error:  # a damaged archive raises all kinds
            raise CheckpointError(f"{path}: not a readable PyTorch file ({type(error).__name__}: {error})") from error


def flat_tensors(data: Any) -> dict[str, Tensor]:
    """Tensors of nested tables, named by the way to them; anything else in them is left out.

    Raises:
        ValueError: the tables have more entries than any model's.
    """
    flat: dict[str, Tensor] = {}
    queue, seen = [("", data)], 0
    while queue:
        prefix, value = queue.pop()
        if isinstance(value, Tensor):
            flat[prefix.removesuffix(".")] = value
        elif isinstance(value, Mapping):
            seen += len(value)
            if seen > _MAX_ENTRIES:
                raise ValueError(f"it has more than {_MAX_ENTRIES} entries")
            queue.extend((f"{prefix}{name}.", item) for name, item in value.items())
    return flat
