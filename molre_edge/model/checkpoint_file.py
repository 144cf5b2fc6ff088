"""Reads a checkpoint file. Nothing in it is run or trusted, and it can't take more memory than the file has bytes."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from molre_edge.errors import CheckpointError, shown
from molre_edge.model.safetensors_file import open_safetensors
from molre_edge.regular import open_regular, sha256_of_open
from molre_edge.safetensors_header import MAX_TENSORS

__all__ = [
    "BACKBONE_PREFIX",
    "FORMAT",
    "FORMAT_VERSION",
    "METADATA_KEY",
    "STATE_PREFIX",
    "CheckpointFile",
    "check_archive",
    "read_checkpoint_file",
]

FORMAT = "molre-edge-checkpoint"
FORMAT_VERSION = 1

STATE_PREFIX, BACKBONE_PREFIX = "state.", "backbone."
"""What the tensors' names begin with in a safetensors file."""
METADATA_KEY = "molre_edge"
"""Where a safetensors file's metadata keep the rest, as JSON."""

_HEADER_KEYS = {"format", "version", "config", "backbone_sha256"}
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_MAX_VALUES, _MAX_DEPTH, _MAX_TEXT = 100_000, 16, 1_000
_MAX_PICKLE = 2 << 20  # bytes; a checkpoint of a thousand tensors has a tenth of it
_HOW = "save it with molre_edge.model.checkpoint.save_checkpoint, or follow docs/reference/checkpoint.md"


@dataclass(frozen=True)
class CheckpointFile:
    """Content of a checkpoint file. Format, types and sizes are checked; configuration and tensor names are not.

    Attributes:
        config: plain data (dict, list, str, int, float, bool, None) of limited size.
        backbone_sha256: digest of the backbone's weights, if the file names one.
        state: tensors of adapters, routers, pooling and head.
        backbone: the backbone's tensors, if the file has them.
        sha256: of the file, from the same open handle.
    """

    config: Mapping[str, Any]
    backbone_sha256: str | None
    state: dict[str, Tensor]
    backbone: dict[str, Tensor] | None
    sha256: str


def read_checkpoint_file(path: Path) -> CheckpointFile:
    """Read ``.safetensors``, and anything else as a PyTorch file. The file is opened once.

    Raises:
        CheckpointError: the file is not a regular file, would run code when loaded, or has another format.
    """
    read = _read_safetensors if path.suffix == ".safetensors" else _read_pt
    try:
        return read(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; expected a checkpoint (.pt or .safetensors)") from error
    except OSError as error:
        raise CheckpointError(
            f"{path}: can't be read: {error.strerror or error}; expected a checkpoint file"
        ) from error


def _checked(path: Path, file: BinaryIO, header: dict[Any, Any], state: Any, backbone: Any) -> CheckpointFile:
    """Return the content of the open file after checking format, types and sizes."""
    _check_plain(path, header)
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a molre-edge checkpoint (expected 'format' to be {FORMAT!r}, got "
            f"{shown(header.get('format'))}); {_HOW}"
        )
    if header.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: the format version is {shown(header.get('version'))}, and this release reads version "
            f"{FORMAT_VERSION}. Install the release that wrote the checkpoint, or save it again with this one"
        )
    unknown = sorted(set(header) - _HEADER_KEYS)
    if unknown:
        raise CheckpointError(
            f"{path}: unknown key {shown(unknown[0])}. A checkpoint has only {', '.join(sorted(_HEADER_KEYS))}, state "
            f"and backbone. Store other training data in another file"
        )
    config, digest = header.get("config"), header.get("backbone_sha256")
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: has no configuration ('config'); {_HOW}")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise CheckpointError(f"{path}: backbone_sha256: expected 64 hexadecimal digits; {_HOW}")
    _check_tensors(path, "state", state)
    if backbone is not None:
        _check_tensors(path, "backbone", backbone)
    every = [*state.values(), *(backbone or {}).values()]
    if sum(tensor.numel() * tensor.element_size() for tensor in every) > os.fstat(file.fileno()).st_size:
        # several tensors, or several elements of one, that lie on the same bytes
        raise CheckpointError(
            f"{path}: its tensors are larger than the file; store each tensor contiguous, without sharing bytes"
        )
    return CheckpointFile(config, digest, state, backbone, sha256_of_open(file))


def _read_pt(path: Path) -> CheckpointFile:
    with open_regular(path) as file:
        check_archive(path, file)
        try:
            data = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL (\S{1,100})", str(error))
            raise CheckpointError(
                f"{path}: refused because it holds more than plain data and tensors"
                f"{f' ({named[1]})' if named else ''}, and loading it could run code; {_HOW}"
            ) from error
        except Exception as error:  # a damaged archive raises all kinds
            raise CheckpointError(
                f"{path}: not a readable PyTorch file ({type(error).__name__}: {error}); copy it again"
            ) from error
        if not isinstance(data, dict):
            raise CheckpointError(f"{path}: expected a dictionary, got {type(data).__name__}; {_HOW}")
        return _checked(path, file, data, data.pop("state", {}), data.pop("backbone", None))


def check_archive(path: Path, file: BinaryIO) -> None:
    """Refuse an archive that is not one of ``torch.save``, is larger inside than outside, or has too many entries.

    Args:
        path: for the messages.
        file: open; its position is at the start afterwards.

    Raises:
        CheckpointError: any of these.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path}: not a whole torch.save file ({error}). It is cut short, has another format, or is a bare pickle, "
            f"which could run code and is never opened; copy it again, or {_HOW}"
        ) from error
    if sum(entry.file_size for entry in entries) > size:  # compressed, or entries on the same bytes
        raise CheckpointError(f"{path}: the archive unpacks to more bytes than the file has; {_HOW}")
    pickled = max((entry.file_size for entry in entries if entry.filename.endswith("data.pkl")), default=0)
    if len(entries) > MAX_TENSORS or pickled > _MAX_PICKLE:  # many tensors may also lie on one entry
        raise CheckpointError(
            f"{path}: has {len(entries)} entries and {pickled} bytes of names and structure; the limits are "
            f"{MAX_TENSORS} and {_MAX_PICKLE}; {_HOW}"
        )
    file.seek(0)


def _read_safetensors(path: Path) -> CheckpointFile:
    try:
        with open_safetensors(path) as opened:
            tensors = {name: opened.tensor(name) for name in opened.header.shapes}
            header = _header_of(path, opened.header.metadata)
            state, backbone = _parts(path, tensors)
            return _checked(path, opened.file, header, state, backbone or None)
    except ValueError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); copy it again, or {_HOW}") from error


def _header_of(path: Path, metadata: Mapping[str, str]) -> dict[Any, Any]:
    try:
        header = json.loads(metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata {METADATA_KEY!r} is not JSON ({error}); {_HOW}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its metadata {METADATA_KEY!r} is not a JSON object; {_HOW}")
    return header


def _parts(path: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State and backbone, by the prefixes of their names."""
    lost = sorted(name for name in tensors if not name.startswith((STATE_PREFIX, BACKBONE_PREFIX)))
    if lost:
        raise CheckpointError(
            f"{path}: unknown tensor {shown(lost[0])}; names begin with {STATE_PREFIX!r} or {BACKBONE_PREFIX!r}; {_HOW}"
        )
    state = {n.removeprefix(STATE_PREFIX): t for n, t in tensors.items() if n.startswith(STATE_PREFIX)}
    backbone = {n.removeprefix(BACKBONE_PREFIX): t for n, t in tensors.items() if n.startswith(BACKBONE_PREFIX)}
    return state, backbone


def _check_plain(path: Path, header: Mapping[Any, Any]) -> None:
    """Refuse values that are not plain data, or too many: a short pickle can refer to one list a billion times."""
    queue: list[tuple[Any, int]] = [(header, 0)]
    seen = 0
    while queue:
        value, depth = queue.pop()
        if isinstance(value, dict | list | tuple):
            seen += len(value)
            if seen > _MAX_VALUES or depth > _MAX_DEPTH:
                raise CheckpointError(f"{path}: its configuration is larger or deeper than any model's; {_HOW}")
            inner = value.values() if isinstance(value, dict) else value
            queue.extend((each, depth + 1) for each in inner)
        if not _is_plain(value):
            raise CheckpointError(
                f"{path}: expected plain data beside the tensors (dictionaries with string keys, lists, strings, "
                f"numbers), found a {type(value).__name__} that is not allowed or too long; {_HOW}"
            )


def _is_plain(value: Any) -> bool:
    """Whether the value is plain data of a sensible size; items of lists and dictionaries are not checked here."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and len(key) <= _MAX_TEXT for key in value)
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT
    if isinstance(value, int):
        return abs(value) < 1 << 63
    return value is None or isinstance(value, list | tuple | float)


def _check_tensors(path: Path, part: str, tensors: Any) -> None:
    """Refuse anything but a dictionary of dense floating-point tensors."""
    if not isinstance(tensors, dict) or not all(isinstance(name, str) for name in tensors):
        raise CheckpointError(f"{path}: expected {part!r} to map names to tensors; {_HOW}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.is_nested:
            raise CheckpointError(f"{path}: {part} {name[:100]}: expected a dense tensor; {_HOW}")
        if tensor.dtype not in _DTYPES or tensor.device.type != "cpu":
            kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
            raise CheckpointError(
                f"{path}: {part} {name[:100]}: expected one of {kinds} with values, got {tensor.dtype} on "
                f"{tensor.device.type}"
            )
