"""What a checkpoint is. A ``.pt`` is read by torch with weights_only; of a ``.safetensors`` the header is enough."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molre_edge.errors import CheckpointError, ConfigError, MissingDependencyError
from molre_edge.files import sha256_of
from molre_edge.inspection.findings import Inspection, dig, megabytes, plain
from molre_edge.inspection.model import model_words
from molre_edge.regular import open_regular
from molre_edge.safetensors_header import read_header

__all__ = ["inspect_checkpoint"]

_METADATA, _FORMAT = "molre_edge", "molre-edge-checkpoint"


def inspect_checkpoint(path: Path) -> Inspection:
    """Say what a checkpoint is; its weights are counted and not held against its configuration, as ``export`` does.

    Raises:
        MissingDependencyError: a ``.pt`` without torch.
        CheckpointError: not a checkpoint of ours, or one that would run code.
    """
    config, backbone_sha256, shapes = _of_safetensors(path) if path.suffix == ".safetensors" else _of_pt(path)
    problems = _problems(config)
    state = {name: shape for name, shape in shapes.items() if not name.startswith("backbone.:")}
    added = sum(math.prod(shape) for name, shape in state.items() if _is_added(name))
    backbone = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("backbone.:"))
    rest = sum(math.prod(shape) for name, shape in state.items() if not _is_added(name)) + backbone
    adapted = sum(name.endswith(".lora_A") for name in state)
    routers = len({name.split(".")[1] for name in state if name.startswith("routers.")})
    fraction, budget = added / rest if backbone and rest else None, dig(config, "budget")
    if fraction is not None and isinstance(budget, float) and fraction > budget:
        problems.append(f"adds {fraction:.2%} of parameters, more than its budget of {budget:.2%}; export refuses it")
    count = f"{added:,}".replace(",", " ")
    limit = f"{budget:.2%}" if isinstance(budget, float) else plain(budget)
    share = f", {fraction:.2%} of the rest; the budget is {limit}" if fraction is not None else ""
    absent = "not in the file: --backbone-weights, or the extra 'weights' for backbones that it has"
    weights = f"{backbone / 1e6:.1f} M parameters, in the file" if backbone else absent
    words = [
        *model_words(config),
        ("layers adapted", f"{adapted}, with {routers} routers"),
        ("added parameters", count + share),
        ("backbone's weights", weights),
        ("backbone's SHA-256", plain(backbone_sha256 or "not told")),
        ("size", megabytes(path.stat().st_size)),
    ]
    digest = sha256_of(path)
    facts = {
        "path": str(path),
        "sha256": digest,
        "config": config,
        "backbone_sha256": backbone_sha256,
        "adapted_layers": adapted,
        "routers": routers,
        "parameters": {"added": added, "rest": rest if backbone else None, "added_fraction": fraction},
        "bytes": path.stat().st_size,
    }
    name = plain(dig(config, "backbone", "id"))
    words.append(("SHA-256", digest))
    return Inspection("checkpoint", f"a checkpoint of molre-edge on {name}", facts, tuple(words), (), tuple(problems))


def _is_added(name: str) -> bool:
    # a router's mean and std are constants of its input, no parameters
    router = name.startswith("routers.") and not name.endswith((".mean", ".std"))
    return name.endswith((".lora_A", ".lora_B")) or router


def _problems(config: Mapping[str, Any]) -> list[str]:
    from molre_edge.model.config import ModelConfig

    try:
        ModelConfig.from_dict(config)
    except ConfigError as error:
        return [f"its configuration is not one of this version: {plain(str(error))}"]
    return []


Found = tuple[Mapping[str, Any], "str | None", "dict[str, tuple[int, ...]]"]
"""Configuration, the backbone's SHA-256, and shapes by name; the backbone's begin with ``backbone.:``."""


def _of_pt(path: Path) -> Found:
    try:
        from molre_edge.model.checkpoint_file import read_checkpoint_file
    except ImportError as error:
        raise MissingDependencyError("Inspecting a .pt checkpoint", "torch", "export") from error
    file = read_checkpoint_file(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in file.state.items()}
    shapes |= {f"backbone.:{name}": tuple(tensor.shape) for name, tensor in (file.backbone or {}).items()}
    return file.config, file.backbone_sha256, shapes


def _of_safetensors(path: Path) -> Found:
    """The header alone: a length (8 bytes, little-endian) and JSON with names, shapes and metadata."""
    try:
        with open_regular(path) as file:
            header = read_header(file)
        metadata, shapes = json.loads(header.metadata.get(_METADATA, "{}")), header.shapes
        if metadata.get("format") != _FORMAT or not isinstance(metadata.get("config"), dict):
            raise ValueError(f"its metadata have no valid entry {_METADATA!r}")
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a checkpoint of molre-edge ({plain(str(error))}); "
            f"docs/reference/checkpoint.md says what one holds"
        ) from error
    renamed = {}
    for name, shape in shapes.items():
        part, _, rest = name.partition(".")
        renamed[rest if part == "state" else f"backbone.:{rest}"] = shape
    sha256 = metadata.get("backbone_sha256")
    return metadata["config"], sha256 if isinstance(sha256, str) else None, renamed
