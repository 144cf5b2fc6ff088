"""An adapter's file: a safetensors file whose metadata hold one JSON. Reading one runs no code and trusts nothing.

``<name>.adapter`` can come from anywhere, so it is read once, as a whole and of limited size; its hash is that of the
bytes that are used. The format is read here with NumPy: an edge box has no library for it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.fit_facts import FitFacts
from molre_edge.adapters.tensors import PREFIX
from molre_edge.errors import AdapterError, shown
from molre_edge.files import read_regular, write_whole
from molre_edge.findings import checked_names, checked_thresholds
from molre_edge.parity import Outputs
from molre_edge.safetensors_header import MAX_HEADER_BYTES, SafetensorsHeader, read_header

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MAX_ADAPTER_BYTES",
    "SUFFIX",
    "Adapter",
    "adapter_name",
    "parse_adapter",
    "read_adapter",
    "read_adapter_file",
    "serialised",
    "write_adapter",
]

FORMAT, FORMAT_VERSION = "molre-edge-adapter", 1
SUFFIX = ".adapter"
MAX_ADAPTER_BYTES = 1 << 30
"""The experts of the largest backbones take some tens of megabytes."""

_METADATA_KEY = "molre_edge_adapter"
_GOLDEN = "golden."
_DTYPES: Mapping[str, str] = {"F32": "<f4", "F16": "<f2"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_TRAINING = 1 << 20
_HALF_SUFFIXES = (".A", ".B")

Tensors = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Adapter:
    """What was trained, and what is needed to tell where it may run and whether it answers there as it should.

    Attributes:
        name: what users call it.
        tensors: float32, by the names of a graph's inputs (``adapter.head.weight`` and so on).
        findings: names of its outputs.
        thresholds: float64 [findings], probabilities.
        fit: what it was trained for.
        golden: what the PyTorch model answered to a bundle's golden volumes.
        golden_volumes: SHA-256 of those volumes, as :attr:`molre_edge.bundle.golden.GoldenSet.sha256` gives it.
        checkpoint_sha256: of the checkpoint that it was made of.
        training: where it comes from, for people: plain data.
        own_golden: who gave the golden answers, if the user's own model did; else None.
        digest: SHA-256 of its file; empty before it is written.
    """

    name: str
    tensors: Tensors
    findings: tuple[str, ...]
    thresholds: npt.NDArray[np.float64]
    fit: FitFacts
    golden: Outputs
    golden_volumes: str
    checkpoint_sha256: str
    training: Mapping[str, Any] = field(default_factory=dict)
    own_golden: Mapping[str, Any] | None = None
    digest: str = ""

    @property
    def words(self) -> str:
        """For messages: its name and the start of its digest."""
        return f"{self.name} ({self.digest[:12]})"


def adapter_name(name: str) -> str:
    """The name, if an adapter can have it.

    Raises:
        AdapterError: it can't.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise AdapterError(
            f"adapter {shown(name)}: expected a name of up to 64 letters, digits, '_' and '-', with a letter or a "
            f"digit first"
        )
    return name


def write_adapter(adapter: Adapter, path: Path, *, half_experts: bool = False) -> Adapter:
    """Write an adapter, whole or not at all; the same adapter gives the same bytes.

    Args:
        adapter: to write.
        path: of the file.
        half_experts: store the experts' matrices as float16. Half the size, and then no longer exact in float32.

    Returns:
        The adapter with its digest.

    Raises:
        AdapterError: a value is NaN, infinite, or too large for float16.
        OSError: the file can't be written.
    """
    content = serialised(adapter, half_experts)
    with write_whole(path) as partial:
        partial.write_bytes(content)
    return replace(adapter, digest=hashlib.sha256(content).hexdigest())


def serialised(adapter: Adapter, half_experts: bool = False) -> bytes:
    """The bytes of an adapter's file; see :func:`write_adapter`."""
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in adapter.tensors.items()}
    arrays |= {f"{_GOLDEN}{name}": value for name, value in _answers(adapter.golden).items()}
    entries, blocks, place = dict[str, Any](), list[bytes](), 0
    for name in sorted(arrays):
        half = half_experts and name.startswith(PREFIX) and name.endswith(_HALF_SUFFIXES)
        with np.errstate(over="ignore"):  # what float16 can't hold is refused just below
            array = np.ascontiguousarray(arrays[name], dtype="<f2" if half else "<f4")
        if not np.isfinite(array).all():
            raise AdapterError(f"adapter {adapter.name}: {name} has values that can't be stored as {array.dtype}")
        blocks.append(array.tobytes())
        offsets = [place, place + array.nbytes]
        entries[name] = {"dtype": "F16" if half else "F32", "shape": list(array.shape), "data_offsets": offsets}
        place += array.nbytes
    told = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "name": adapter_name(adapter.name),
        "findings": list(adapter.findings),
        "thresholds": [float(value) for value in adapter.thresholds],
        "fit": adapter.fit.to_dict(),
        "golden": {"volumes_sha256": adapter.golden_volumes, "answers": adapter.own_golden},
        "checkpoint": {"sha256": adapter.checkpoint_sha256},
        "training": dict(adapter.training),
    }
    metadata = {_METADATA_KEY: json.dumps(told, sort_keys=True, allow_nan=False)}
    header = json.dumps({"__metadata__": metadata, **entries}).encode()
    header += b" " * (-len(header) % 8)  # the values begin at a multiple of 8
    if len(header) > MAX_HEADER_BYTES:
        raise AdapterError(f"adapter {adapter.name}: its description takes {len(header)} bytes, too many to be read")
    return b"".join([len(header).to_bytes(8, "little"), header, *blocks])


def _answers(golden: Outputs) -> dict[str, npt.NDArray[np.floating]]:
    return golden.arrays


def read_adapter(path: Path) -> Adapter:
    """Read and check an adapter's file; see :func:`read_adapter_file`."""
    return read_adapter_file(path)[0]


def read_adapter_file(path: Path) -> tuple[Adapter, bytes]:
    """Read and check an adapter's file; with the bytes that were read and checked.

    Raises:
        AdapterError: it can't be read, is no regular file, is too large or cut short, has another format, or holds
            impossible values. The message names what is wrong.
    """
    try:
        content = read_regular(path, largest=MAX_ADAPTER_BYTES)
    except OSError as error:
        raise AdapterError(
            f"{path}: can't be read ({error.strerror or error}); expected an adapter's file, which 'molre-edge adapter "
            f"pack CHECKPOINT' writes"
        ) from error
    try:
        return parse_adapter(content), content
    except ValueError as error:
        raise AdapterError(f"{path}: not a whole adapter ({error}). Copy it again, or pack it again") from error


def parse_adapter(content: bytes) -> Adapter:
    """The adapter that a file's bytes hold.

    Raises:
        ValueError: the reason why they hold none.
    """
    header = read_header(io.BytesIO(content))
    arrays = _arrays(content, header)
    told = _told(header)
    try:
        name, golden = adapter_name(told["name"]), told["golden"]
        findings = checked_names(told["findings"])
        thresholds = checked_thresholds(told["thresholds"], len(findings))
        fit = FitFacts.from_dict(told["fit"])
        volumes, checkpoint, training = golden["volumes_sha256"], told["checkpoint"]["sha256"], told["training"]
        own = golden.get("answers")
        if not all(isinstance(each, str) and _SHA256.fullmatch(each) for each in (volumes, checkpoint)):
            raise ValueError("golden.volumes_sha256, checkpoint.sha256: expected SHA-256")
        if not isinstance(training, dict) or not isinstance(own, dict | None):
            raise ValueError("training, golden.answers: expected tables")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its description lacks {shown(str(error))}") from error
    except AdapterError as error:
        raise ValueError(str(error)) from error
    if len(findings) != fit.findings:
        raise ValueError(f"{len(findings)} findings, and fit.findings says {fit.findings}")
    return Adapter(
        name=name,
        tensors={key: value for key, value in arrays.items() if key.startswith(PREFIX)},
        findings=findings,
        thresholds=np.array(thresholds, dtype=np.float64),
        fit=fit,
        golden=_golden(arrays, fit),
        golden_volumes=volumes,
        checkpoint_sha256=checkpoint,
        training=training,
        own_golden=own,
        digest=hashlib.sha256(content).hexdigest(),
    )


def _arrays(content: bytes, header: SafetensorsHeader) -> dict[str, npt.NDArray[np.float32]]:
    """All tensors as float32. They must lie one after the other and fill the file."""
    arrays, place = dict[str, npt.NDArray[np.float32]](), 0
    for name, told in sorted(header.places.items(), key=lambda item: (item[1].begin, item[1].end)):
        if not name.startswith((PREFIX, _GOLDEN)) or told.dtype not in _DTYPES:
            kinds = " or ".join(_DTYPES)
            raise ValueError(f"unexpected tensor {shown(name)} of {shown(told.dtype)}: expected 'adapter.' in {kinds}")
        dtype = np.dtype(_DTYPES[told.dtype])
        size = math.prod(header.shapes[name]) * dtype.itemsize
        end = header.start + told.end
        if told.begin != place or told.end - told.begin != size or end > len(content):
            raise ValueError(f"the values of {shown(name)} are not where its header says; the file is cut or altered")
        values = np.frombuffer(content, dtype, size // dtype.itemsize, header.start + told.begin)
        if not np.isfinite(values).all():
            raise ValueError(f"{shown(name)} holds NaN or infinity")
        arrays[name] = values.reshape(header.shapes[name]).astype(np.float32)
        place = told.end
    if header.start + place != len(content):
        raise ValueError("it is longer than its header says")
    return arrays


def _told(header: SafetensorsHeader) -> dict[str, Any]:
    text = header.metadata.get(_METADATA_KEY, "")
    try:
        told = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata have no JSON under {_METADATA_KEY!r}") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ValueError(f"expected 'format' to be {FORMAT!r}")
    if told.get("version") != FORMAT_VERSION:
        raise ValueError(f"format version {shown(told.get('version'))}; this molre-edge reads {FORMAT_VERSION}")
    return told


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not valid JSON")


def _golden(arrays: Mapping[str, npt.NDArray[np.float32]], fit: FitFacts) -> Outputs:
    """The golden answers, if their shapes are those of a model that fits `fit`."""
    answers = {name.removeprefix(_GOLDEN): value for name, value in arrays.items() if name.startswith(_GOLDEN)}
    wanted = {"logits", "embedding"} | ({"gates"} if fit.experts else set())
    if set(answers) - ({"attention"} if fit.pooling else set()) != wanted:  # those of earlier versions have none
        raise ValueError(f"golden answers: expected {', '.join(sorted(wanted))}, got {', '.join(sorted(answers))}")
    logits, embedding, gates = answers["logits"], answers["embedding"], answers.get("gates")
    attention = answers.get("attention")
    count, routers = len(logits) if logits.ndim else 0, 1 + max(fit.groups, default=-1)
    sound = count > 0 and logits.shape == (count, fit.findings) and embedding.shape == (count, fit.width)
    if gates is not None:
        sound &= gates.ndim == 4 and gates.shape[1] in (1, fit.grid.slices)
        sound &= (gates.shape[0], *gates.shape[2:]) == (count, routers, fit.experts)
    if attention is not None:
        sound &= attention.shape == (count, fit.grid.slices)
    if not sound:
        raise ValueError("golden answers: their shapes fit neither each other nor the description")
    return Outputs.of(answers)
