"""A LoRA that Hugging Face PEFT saved, put onto a checkpoint without adapters: a checkpoint with K = 1.

PEFT's folder has ``adapter_config.json`` and ``adapter_model.safetensors``, in which the matrices of a module are named
``base_model.model.<module>.lora_A.weight`` [r, d_in] and ``.lora_B.weight`` [d_out, r]
(https://huggingface.co/docs/peft/developer_guides/checkpoint). Only plain LoRA is supported; variants that
compute something else are refused by name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molre_edge.errors import CheckpointError, ConfigError, shown
from molre_edge.model.checkpoint import LoadedCheckpoint, plain_names
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import AdapterConfig
from molre_edge.model.peft_config import PeftConfig, read_peft_config
from molre_edge.model.safetensors_file import SafetensorsFile, open_safetensors

__all__ = ["ImportedLora", "put_lora_on"]

_WEIGHTS = "adapter_model.safetensors"
_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_OTHERS = {
    "lora_magnitude_vector": "of DoRA, which scales the sum of base and LoRA; train with use_dora=False",
    "lora_embedding": "of an embedding, which has no adapted form here; leave embeddings out of target_modules",
    ".bias": "a bias, which plain LoRA has not; train with bias='none' and lora_bias=False",
    "modules_to_save": "of a module trained in full; store its weights in the base checkpoint instead",
}


@dataclass(frozen=True, eq=False)
class ImportedLora:
    """A LoRA on its base.

    Attributes:
        model: in eval mode, on the CPU, K = 1.
        layers: PEFT's name of each adapted module -> the model's.
    """

    model: HeadCTClassifier
    layers: dict[str, str]


def put_lora_on(folder: Path, base: LoadedCheckpoint, *, budget: float | None = None) -> ImportedLora:
    """Add a LoRA to a checkpoint's model, so that its logits become those of the base with the LoRA.

    A module of PEFT's is the layer whose name ends its own, or that ends in it; ``backbone.`` does not count.

    Args:
        folder: that PEFT's ``save_pretrained`` wrote.
        base: without adapters (K = 0), with the backbone, pooling and head that the LoRA was trained on.
        budget: the largest share of added parameters; the base's by default.

    Raises:
        CheckpointError: the folder can't be read, is not plain LoRA, lacks weights, or does not fit the base.
    """
    if base.config.adapter.experts:
        raise CheckpointError(
            f"the base already has adapters (K = {base.config.adapter.experts}). Pass the checkpoint that the LoRA was "
            f"trained on, with K = 0 ('molre-edge train --adapter none' makes one)"
        )
    peft = read_peft_config(folder)
    with _opened(folder) as file:
        return _put_on(folder, file, peft, base, budget)


def _put_on(
    folder: Path, file: SafetensorsFile, peft: PeftConfig, base: LoadedCheckpoint, budget: float | None
) -> ImportedLora:
    shapes = _shapes(folder / _WEIGHTS, file)
    layers = _match(folder, sorted({module for module, _ in shapes}), base.model)
    _check_complete(folder, peft, shapes, layers, base.model)
    try:
        adapter = AdapterConfig(modules=tuple(layers.values()), experts=1, rank=peft.rank, alpha=peft.alpha)
        config = replace(base.config, adapter=adapter, budget=base.config.budget if budget is None else budget)
        with torch.device("meta"):  # refused before it takes memory
            HeadCTClassifier(config)
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    with torch.random.fork_rng(devices=[]):
        model = HeadCTClassifier(config).eval()
    own, frozen = model.state_dict(), base.model.state_dict()
    wanted = {(module, side): own[f"{layer}.lora_{side}"] for module, layer in layers.items() for side in ("A", "B")}
    for key, target in wanted.items():
        if shapes[key] != tuple(target.shape) and shapes[key] != (*target.shape, *(1,) * (len(shapes[key]) - 2)):
            raise CheckpointError(
                f"{folder}: {key[0]}.lora_{key[1]}: expected shape {tuple(target.shape)} as {layers[key[0]]} needs, "
                f"got {shapes[key]}; the LoRA was trained on another model"
            )
    with torch.no_grad():
        for name, plain in plain_names(model).items():
            if plain in frozen:
                own[name].copy_(frozen[plain])
        for key, value in _tensors(folder, file, wanted).items():
            wanted[key].copy_(value.reshape(wanted[key].shape))
    return ImportedLora(model, layers)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[SafetensorsFile]:
    path = folder / _WEIGHTS
    if not path.exists():
        pickled = folder / "adapter_model.bin"
        hint = (
            f"there is {pickled.name}, a pickle, which could run code and is never opened: save the adapter again with "
            f"safe_serialization=True"
            if pickled.exists()
            else "pass the folder that PEFT's save_pretrained wrote"
        )
        raise CheckpointError(f"{path}: no such file; {hint}")
    try:
        with open_safetensors(path) as file:
            yield file
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror or error}; copy it again") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); copy it again") from error


def _shapes(path: Path, file: SafetensorsFile) -> dict[tuple[str, str], tuple[int, ...]]:
    """(module, side) -> shape of every matrix; nothing is read of them yet."""
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    for name, shape in file.header.shapes.items():
        found = _NAME.fullmatch(name)
        if found is None:
            why = next((text for part, text in _OTHERS.items() if part in name), "not named like a LoRA matrix")
            raise CheckpointError(f"{path}: {shown(name)} is {why}")
        shapes[found["module"], found["side"]] = shape
    if not shapes:
        raise CheckpointError(f"{path}: holds no LoRA; save the adapter again with PEFT's save_pretrained")
    return shapes


def _tensors(folder: Path, file: SafetensorsFile, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Tensor]:
    values = {}
    for module, side in wanted:
        value = file.tensor(f"base_model.model.{module}.lora_{side}.weight")
        if not value.is_floating_point() or not bool(torch.isfinite(value.float()).all()):
            raise CheckpointError(f"{folder}: {module}.lora_{side}: expected finite floating-point numbers")
        values[module, side] = value.float()
    return values


def _match(folder: Path, modules: list[str], model: nn.Module) -> dict[str, str]:
    """PEFT's module -> the model's layer, one to one."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)]
    matched: dict[str, str] = {}
    for module in modules:
        ends = [name for name in layers if f".{module}".endswith(f".{name.removeprefix('backbone.')}")]
        found = ends or [name for name in layers if name.endswith(f".{module}")]
        if len(found) != 1:
            why = f"fits {len(found)} layers ({', '.join(found[:3])})" if found else "fits no layer"
            raise CheckpointError(
                f"{folder}: {shown(module)} {why} of the base, whose layers are, for example, {', '.join(layers[:3])}. "
                f"Pass the base that the LoRA was trained on, or rename the weights"
            )
        twin = next((other for other, layer in matched.items() if layer == found[0]), None)
        if twin is not None:
            raise CheckpointError(
                f"{folder}: {shown(twin)} and {shown(module)} both fit {found[0]}. A LoRA of two towers can't be "
                f"imported. Save only the LoRA of the vision tower"
            )
        matched[module] = found[0]
    return matched


def _check_complete(
    folder: Path, peft: PeftConfig, shapes: Mapping[tuple[str, str], Any], layers: dict[str, str], model: nn.Module
) -> None:
    """Refuse weights that are not exactly those that the configuration names.

    Args:
        folder: for the messages.
        peft: the configuration.
        shapes: of the matrices in the file.
        layers: PEFT's module -> the base's layer, for every module in the file.
        model: the base.

    Raises:
        CheckpointError: a matrix, a layer or all layers of a target are missing, or a layer is not named.
    """
    for module in layers:
        for side in ("A", "B"):
            if (module, side) not in shapes:
                raise CheckpointError(f"{folder}: {module}.lora_{side}.weight is missing; save the adapter again")
    names = {
        name: layer for name, layer in _their_names(layers, model, peft.kinds).items() if layer not in layers.values()
    }
    missing = sorted(peft.chosen(names))
    if missing:
        there = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        raise CheckpointError(
            f"{folder}: {_WEIGHTS} has no weights for {len(missing)} of the layers that target_modules names: {there}. "
            f"Expected lora_A and lora_B of each. Save the adapter again with PEFT's save_pretrained"
        )
    problem = peft.mismatch(layers)
    if problem:
        raise CheckpointError(
            f"{folder}: {problem}; adapter_config.json and {_WEIGHTS} come from different trainings. Save the adapter "
            f"again"
        )


def _their_names(layers: dict[str, str], model: nn.Module, kinds: tuple[str, ...]) -> dict[str, str]:
    """PEFT's name -> the base's layer, for all layers of these kinds in the base.

    What stands before a layer's name in PEFT's model, and what does here, is known from the layers in the file.
    """
    prefixes = set()
    for module, layer in layers.items():
        plain = layer.removeprefix("backbone.")
        common = plain if f".{module}".endswith(f".{plain}") else module
        prefixes.add((layer.removesuffix(common), module.removesuffix(common)))
    classes = tuple(getattr(nn, kind) for kind in kinds)
    return {
        theirs + name.removeprefix(ours): name
        for name, module in model.named_modules()
        if isinstance(module, classes)
        for ours, theirs in sorted(prefixes)
        if name.startswith(ours)
    }
