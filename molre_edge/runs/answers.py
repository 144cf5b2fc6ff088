"""A scan's answers on disk: one NumPy archive, written whole."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from molre_edge.errors import RunError
from molre_edge.files import write_whole
from molre_edge.parity import Outputs
from molre_edge.parity.outputs import OUTPUT_NAMES
from molre_edge.regular import open_regular
from molre_edge.scans import Attended

__all__ = ["Record", "read_record", "read_records", "record_path", "write_record"]

_MAX_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Record:
    """A scan's answers.

    Attributes:
        scan: its id.
        engine: answers of the engine, n = 1.
        reference: of the reference, where it ran on this scan.
        engine_ms: milliseconds by phase.
        reference_ms: the same for the reference.
        warnings: codes and texts.
        facts: of the scan, without identifiers.
        attended: the slice that the model attended to most; None for a model that does not say.
    """

    scan: str
    engine: Outputs
    reference: Outputs | None
    engine_ms: Mapping[str, float]
    reference_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[tuple[str, str], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    attended: Attended | None = None


def write_record(path: Path, record: Record, *, clear: bool = True) -> None:
    """Write a scan's answers whole: arrays as they are, everything else as JSON in the array ``head``.

    Args:
        path: of the archive.
        record: to write.
        clear: as of :func:`molre_edge.files.write_whole`.
    """
    arrays: dict[str, Any] = {}
    for who, outputs in (("engine", record.engine), ("reference", record.reference)):
        if outputs is not None:
            arrays |= {f"{who}_{name}": array for name, array in outputs.arrays.items()}
    head = {
        "engine_ms": dict(record.engine_ms),
        "reference_ms": dict(record.reference_ms),
        "warnings": record.warnings,
        "facts": dict(record.facts),
        "attended": None if record.attended is None else record.attended.to_dict(),
    }
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    with write_whole(path, clear=clear) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def read_record(path: Path, scan: str) -> Record:
    """The inverse of :func:`write_record`.

    Raises:
        RunError: damaged.
    """
    try:
        with open_regular(path, largest=_MAX_BYTES) as file:
            data = _arrays(file.read())
        head = _checked(json.loads(bytes(data["head"]), parse_constant=_refuse_constant))
        outputs = {
            who: Outputs.of({name: data[f"{who}_{name}"] for name in OUTPUT_NAMES if f"{who}_{name}" in data})
            for who in ("engine", "reference")
            if f"{who}_logits" in data
        }
        attended = head.get("attended")  # records of earlier versions have none
        return Record(
            scan=scan,
            engine=outputs["engine"],
            reference=outputs.get("reference"),
            engine_ms=head["engine_ms"],
            reference_ms=head["reference_ms"],
            warnings=tuple((str(code), str(text)) for code, text in head["warnings"]),
            facts=head["facts"],
            attended=None if attended is None else Attended.from_dict(attended),
        )
    except Exception as error:  # a damaged archive raises all kinds
        raise RunError(
            f"{path}: damaged ({str(error)[:200]}). Continue the run with --resume, which runs this scan again"
        ) from error


def record_path(folder: Path, scan: str) -> Path:
    """Where a run keeps a scan's answers."""
    return folder / "outputs" / f"{scan}.npz"


def read_records(folder: Path, scans: Iterable[str]) -> Iterator[Record]:
    """Answers of a run, read one by one.

    Args:
        folder: of the run.
        scans: ids.

    Raises:
        RunError: one is damaged.
    """
    return (read_record(record_path(folder, scan), scan) for scan in scans)


def _arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an archive, as :func:`numpy.load` reads them, which takes six times as long for small ones.

    Ours are not compressed, so an archive that unpacks to more than its own size is none of ours.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("it unpacks to more bytes than the file has")
        return {entry.filename.removesuffix(".npy"): _array(_stored(content, entry)) for entry in entries}


def _stored(content: bytes, entry: zipfile.ZipInfo) -> bytes:
    """What an archive holds of an entry that is not compressed."""
    at = entry.header_offset
    if entry.compress_type != zipfile.ZIP_STORED or content[at : at + 4] != b"PK\3\4":
        raise ValueError(f"{entry.filename} is not stored as it is")
    start = at + 30 + sum(struct.unpack_from("<HH", content, at + 26))  # behind the name and what else is said
    data = content[start : start + entry.file_size]
    if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
        raise ValueError(f"the checksum of {entry.filename} is wrong")
    return data


def _array(data: bytes) -> npt.NDArray[Any]:
    start = npy.MAGIC_LEN + 2 + int.from_bytes(data[npy.MAGIC_LEN : npy.MAGIC_LEN + 2], "little")
    shape, fortran, dtype = _header(data[:start])
    flat: npt.NDArray[Any] = np.frombuffer(data, dtype, math.prod(shape), start)
    array: npt.NDArray[Any] = flat.reshape(shape, order="F" if fortran else "C").copy()
    return array


@lru_cache(64)
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array by its header, which most scans have in common."""
    file = io.BytesIO(data)
    if npy.read_magic(file) != (1, 0):
        raise ValueError("not an array as it was written")
    shape, fortran, dtype = npy.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    return shape, fortran, dtype


def _checked(head: Any) -> dict[str, Any]:
    """The head, if it has finite milliseconds by phase, pairs of words for warnings, and a table of facts."""
    times = [value for who in ("engine_ms", "reference_ms") for value in head[who].values()]
    if not all(type(value) in (int, float) and math.isfinite(value) for value in times):
        raise ValueError("a time is not a finite number")
    if not isinstance(head["facts"], dict) or not all(len(warning) == 2 for warning in head["warnings"]):
        raise ValueError("facts or warnings are malformed")
    return dict(head)


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not valid JSON")
