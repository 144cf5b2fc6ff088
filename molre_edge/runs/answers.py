"""A scan's answers on disk: one NumPy archive, written whole."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile

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
        with open_regular(path, largest=_MAX_BYTES) as file, _archive(file) as data:
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


def _archive(file: BinaryIO) -> NpzFile:
    """The arrays of an archive that unpacks to no more than its own size. Ours are not compressed, so they never do."""
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > os.fstat(file.fileno()).st_size:
            raise ValueError("it unpacks to more bytes than the file has")
    file.seek(0)
    found = np.load(file, allow_pickle=False)
    if not isinstance(found, NpzFile):
        raise ValueError("not an archive of arrays")
    return found


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
