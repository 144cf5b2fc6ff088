"""A LoRA that Hugging Face PEFT saved, put onto a checkpoint without adapters: a checkpoint with K = 1.

PEFT's folder has ``adapter_config.json`` and ``adapter_model.safetensors``, in which the matrices of a module are named
``base_model.model.<module>.lora_A.weight`` [r, d_in] and ``.lora_B.weight`` [d_out, r]
(https://huggingface.co/docs/peft/developer_guides/checkpoint). Only plain LoRA is taken; what computes something else
is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
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

__all__ = ["ImportedLora", "import_peft"]

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


def import_peft(folder: Path, base: LoadedCheckpoint, *, budget: float | None = None) -> ImportedLora:
    """Put a LoRA onto a checkpoint's model; its logits become those of the base with the LoRA.

    A module of PEFT's is the layer whose name ends its own, or that ends in it; ``backbone.`` does not count.

    Args:
        folder: that PEFT's ``save_pretrained`` wrote.
        base: without adapters (K = 0), with the backbone, pooling and head that the LoRA was trained on.
        budget: the largest share of added parameters; the base's by default.

    Raises:
        CheckpointError: the folder can't be read, is of something else than plain LoRA, or does not fit the base.
    """
    if base.config.adapter.experts:
        raise CheckpointError(
            f"the base has adapters already (K = {base.config.adapter.experts}); give the checkpoint that the LoRA was "
            f"trained on, with K = 0 ('molre-edge train --adapter none' makes such)"
        )
    peft = read_peft_config(folder)
    shapes = _shapes(folder)
    layers = _match(folder, sorted({module for module, _ in shapes}), base.model)
    _check_complete(folder, peft, shapes)
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
    names = plain_names(model)
    wanted = {(module, side): own[f"{layer}.lora_{side}"] for module, layer in layers.items() for side in ("A", "B")}
    for key, target in wanted.items():
        if shapes[key] != tuple(target.shape) and shapes[key] != (*target.shape, *(1,) * (len(shapes[key]) - 2)):
            raise CheckpointError(
                f"{folder}: {key[0]}.lora_{key[1]}: expected shape {tuple(target.shape)} as {layers[key[0]]} needs, "
                f"got {shapes[key]}; the LoRA was trained on another model"
            )
    with torch.no_grad():
        for name, plain in names.items():
            if plain in frozen:
                own[name].copy_(frozen[plain])
        for key, value in _tensors(folder, wanted).items():
            wanted[key].copy_(value.reshape(wanted[key].shape))
    return ImportedLora(model, layers)


def _shapes(folder: Path) -> dict[tuple[str, str], tuple[int, ...]]:
    """(module, side) -> shape of every matrix; nothing is read of them yet."""
    path = folder / _WEIGHTS
    if not path.is_file():
        pickled = folder / "adapter_model.bin"
        hint = (
            f"there is {pickled.name}, a pickle, which could run code and is never opened: save the adapter again with "
            f"safe_serialization=True"
            if pickled.exists()
            else "give the folder that PEFT's save_pretrained wrote"
        )
        raise CheckpointError(f"{path}: no such file; {hint}")
    from safetensors import SafetensorError, safe_open

    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (not a dictionary)
                found = _NAME.fullmatch(name)
                if found is None:
                    why = next((text for part, text in _OTHERS.items() if part in name), "no LoRA matrix by its name")
                    raise CheckpointError(f"{path}: {shown(name)} is {why}")
                shapes[found["module"], found["side"]] = tuple(file.get_slice(name).get_shape())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); copy it again") from error
    if not shapes:
        raise CheckpointError(f"{path}: holds no LoRA; save the adapter again with PEFT's save_pretrained")
    return shapes


def _tensors(folder: Path, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Tensor]:
    from safetensors import safe_open

    values = {}
    with safe_open(folder / _WEIGHTS, framework="pt") as file:
        for module, side in wanted:
            value = file.get_tensor(f"base_model.model.{module}.lora_{side}.weight")
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
                f"{folder}: {shown(module)} {why} of the base, whose layers are, for example, {', '.join(layers[:3])}; "
                f"give the base that the LoRA was trained on, or rename the weights"
            )
        twin = next((other for other, layer in matched.items() if layer == found[0]), None)
        if twin is not None:
            raise CheckpointError(
                f"{folder}: {shown(twin)} and {shown(module)} both fit {found[0]}; a LoRA of two towers can't be "
                f"imported: save that of the vision tower alone"
            )
        matched[module] = found[0]
    return matched


def _check_complete(folder: Path, peft: PeftConfig, shapes: Mapping[tuple[str, str], Any]) -> None:
    """Refuse weights that are not those that the configuration names."""
    modules = {module for module, _ in shapes}
    for module in sorted(modules):
        for side in ("A", "B"):
            if (module, side) not in shapes:
                raise CheckpointError(f"{folder}: {module}.lora_{side}.weight is missing; save the adapter again")
    problem = peft.mismatch(modules)
    if problem:
        raise CheckpointError(
            f"{folder}: {problem}; adapter_config.json and {_WEIGHTS} are of two trainings: save the adapter again"
        )
