"""A folder of published weights: which files count, and whether its config.json is of the same architecture.

Folders often hold more than one set of weights: a moving average, an older format, a copy. The files that transformers
would read are read here too; where there are none of its names and several others, nobody can tell which one is meant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molre_edge.errors import CheckpointError, shown
from molre_edge.regular import open_regular

__all__ = ["PICKLED", "check_published", "weight_files"]

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
"""Suffixes of PyTorch files; a safetensors file may have one of them too (MedImageInsight's is a ``.pt``)."""

_LARGEST_JSON = 16 << 20  # bytes; an index of a thousand weights has a tenth of a megabyte


def weight_files(folder: Path, *, pickled: bool = True) -> dict[Path, frozenset[str] | None]:
    """The files that hold the folder's weights, and the names that count in each; None for all of them.

    As transformers: ``model.safetensors``, else what ``model.safetensors.index.json`` names, else the same with
    ``pytorch_model.bin``. A folder without any of these must hold exactly one ``*.safetensors``, or else exactly one
    PyTorch file.

    Args:
        folder: of the weights.
        pickled: whether PyTorch files count.

    Raises:
        CheckpointError: there is no such file, there are several and no index, or the index can't be followed.
    """
    for name, counts in (("model.safetensors", True), ("pytorch_model.bin", pickled)):
        if counts and (folder / name).exists():
            return {folder / name: None}
        if counts and (folder / f"{name}.index.json").exists():
            return _indexed(folder / f"{name}.index.json")
    names = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))
    if not names and pickled:
        names = sorted(path for path in folder.glob("*") if path.suffix in PICKLED)
    if not names:
        kinds = f"*.safetensors, or {', '.join(PICKLED)}" if pickled else "*.safetensors; pickled files are not read"
        raise CheckpointError(
            f"{folder}: there are no weight files. Expected a folder with the backbone's published weights ({kinds}). "
            f"Download them again, or name another folder"
        )
    if len(names) > 1:
        raise CheckpointError(
            f"{folder}: there are {len(names)} weight files ({', '.join(path.name for path in names[:4])}) and neither "
            f"model.safetensors nor an index that says which of them count. Fetch model.safetensors.index.json too, or "
            f"leave only one file in the folder"
        )
    return {names[0]: None}


def _indexed(index: Path) -> dict[Path, frozenset[str] | None]:
    """The shards of an index, and the weights that it places in each."""
    data = _json(index, "Fetch the index again")
    places = data.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index}: 'weight_map' is missing or empty. Expected weights -> files. Fetch it again")
    shards: dict[Path, set[str]] = {}
    for name, file in places.items():
        if not isinstance(file, str) or Path(file).name != file or "\0" in file:
            raise CheckpointError(f"{index}: {shown(name)}: expected the name of a file beside it, got {shown(file)}")
        shards.setdefault(index.parent / file, set()).add(name)
    absent = sorted(path.name for path in shards if not path.exists())
    if absent:
        raise CheckpointError(
            f"{index}: {len(absent)} of its {len(shards)} files are missing ({', '.join(absent[:3])[:200]}). Fetch them"
        )
    return {path: frozenset(names) for path, names in shards.items()}


def check_published(
    folder: Path,
    expected: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    model_types: tuple[str, ...] = (),
    required: bool = False,
) -> None:
    """Refuse a folder of another architecture, by the settings that weights' shapes and names do not show.

    Args:
        folder: may hold a ``config.json``, with the vision tower's part under ``vision_config`` or at the top.
        expected: settings of the backbone.
        defaults: what a setting is that config.json does not name; settings without a default are then not compared.
        model_types: allowed values of ``model_type``, if config.json has one; empty for any.
        required: refuse a folder without config.json, and a config.json without ``model_type``.

    Raises:
        CheckpointError: a setting differs, the weights are quantised, or config.json can't be read.
    """
    path = folder / "config.json"
    if not path.exists() and not required:
        return
    whole = _json(path, "Expected a Hugging Face folder with config.json and model.safetensors. Fetch it again")
    published = whole.get("vision_config", whole)
    if not isinstance(published, dict):
        raise CheckpointError(f"{path}: vision_config is {shown(published)}, expected a table. Fetch it again")
    if whole.get("quantization_config") or published.get("quantization_config"):
        raise CheckpointError(
            f"{path}: quantization_config says that the weights are quantised. Expected float weights. Give the "
            f"original release of the backbone"
        )
    kind = published.get("model_type")
    if model_types and kind not in model_types and (required or kind is not None):
        raise CheckpointError(
            f"{path}: model_type is {shown(kind)}, expected {' or '.join(map(repr, model_types))}. Give the weights of "
            f"the backbone that the checkpoint was trained on"
        )
    theirs = {**(defaults or {}), **published}
    for name, value in expected.items():
        if name in theirs and _plain(theirs[name]) != _plain(value):
            raise CheckpointError(
                f"{path}: {name} is {shown(theirs[name])}, the checkpoint's backbone has {value!r}. Give the weights "
                f"of the backbone that the checkpoint was trained on"
            )


def _plain(value: Any) -> Any:
    """A value to compare: 12 and [12, 12, 12] are one patch size, ``BATCH`` and ``batch`` one norm."""
    if isinstance(value, list | tuple):
        each = [_plain(item) for item in value]
        return each[0] if each and all(item == each[0] for item in each) else each
    return value.casefold() if isinstance(value, str) else value


def _json(path: Path, advice: str) -> dict[str, Any]:
    try:
        with open_regular(path, largest=_LARGEST_JSON) as file:
            data = json.loads(file.read())
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror or error}. {advice}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable JSON file ({error}). {advice}") from error
    return data
