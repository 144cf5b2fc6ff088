"""One scan from its files to a volume on the model's grid, and how that goes from a reader to the run.

A reader is another process (pool.py), whose decoders may have been fed by anybody. So what it sends is a length, a
JSON and the plain values of one array of a known shape: nothing is unpickled.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ScanError
from molre_edge.scans import GridSlice, ScanSource, ScanWarning, SliceSource, map_slices, read_scan, resample
from molre_edge.specs import Grid

__all__ = [
    "READER_FAILED",
    "Prepared",
    "guarded",
    "pack",
    "pack_job",
    "prepare",
    "receive",
    "send",
    "unpack",
    "unpack_job",
]

READER_FAILED = "reader_failed"
"""The code of a scan on which our own code failed: a bug, and still no reason to stop a run."""

_T = TypeVar("_T")

_LENGTH_BYTES = 8
_MAX_HEAD_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan, ready for an engine.

    Attributes:
        volume: float16 [slices, rows, cols], HU, on the model's grid.
        warnings: what its user should know.
        facts: of the scan, without identifiers.
        read_ms: from opening its files to a checked volume.
        geometry_ms: from there to the grid.
        slices: the images of each slice of the grid. They identify a person: for ``slices.csv`` alone.
        idle_ms: how long its reader had waited before it began, since enough volumes waited to be taken.
    """

    volume: npt.NDArray[np.float16]
    warnings: tuple[ScanWarning, ...]
    facts: Mapping[str, Any]
    read_ms: float
    geometry_ms: float
    slices: tuple[GridSlice, ...] = ()
    idle_ms: float = 0.0


def prepare(source: ScanSource, grid: Grid) -> Prepared | ScanError:
    """Read a scan and bring it to the grid; why that failed is returned, not raised, since the run goes on."""

    def read() -> Prepared:
        start = time.perf_counter()
        volume = read_scan(source)
        checked = time.perf_counter()
        resampled, weights = resample(volume, grid)
        done = time.perf_counter()
        return Prepared(
            resampled,
            volume.warnings,
            volume.facts,
            1e3 * (checked - start),
            1e3 * (done - checked),
            map_slices(volume.sources, weights, volume.positions_mm),
        )

    return guarded(read)


def guarded(read: Callable[[], _T]) -> _T | ScanError:
    """What `read` makes of a scan, or why it can't be used: no file from outside ends a command with a trace."""
    try:
        return read()
    except ScanError as error:
        return error
    except Exception as error:
        # The error's own words may quote a header, so only its kind and place are told.
        place = traceback.extract_tb(error.__traceback__)[-1]
        return ScanError(
            READER_FAILED,
            f"a bug in reading it ({type(error).__name__} at {Path(place.filename).name}:{place.lineno}). Please "
            f"report it as docs/concepts/security.md says",
        )


def pack_job(source: ScanSource) -> bytes:
    """A scan to read, for a reader. Names that are not UTF-8 pass through JSON as they are."""
    return json.dumps(source.to_dict()).encode()


def unpack_job(raw: bytes) -> ScanSource:
    """The inverse of :func:`pack_job`."""
    return ScanSource.from_dict(json.loads(raw))


def pack(result: Prepared | ScanError) -> tuple[bytes, memoryview]:
    """A result as JSON and the array's bytes."""
    if isinstance(result, ScanError):
        return json.dumps({"code": result.code, "reason": str(result)}).encode(), memoryview(b"")
    head = {
        "warnings": [[warning.code, warning.text] for warning in result.warnings],
        "facts": result.facts,
        "milliseconds": [result.read_ms, result.geometry_ms],
        "slices": [
            [each.slice, each.share, str(source.path), source.sop_uid, source.frame, each.number, each.position_mm]
            for each in result.slices
            for source in (each.source,)
        ],
    }
    values = np.ascontiguousarray(result.volume, dtype="<f2")
    return json.dumps(head).encode(), values.data.cast("B")


def unpack(head: bytes, values: bytes, grid: Grid) -> Prepared | ScanError:
    """The inverse of :func:`pack`.

    Raises:
        ValueError: not what a reader sends for this grid.
    """
    try:
        data = json.loads(head)
        if "code" in data:
            return ScanError(str(data["code"]), str(data["reason"]))
        volume = np.frombuffer(values, "<f2").reshape(grid.shape)
        read_ms, geometry_ms = (float(value) for value in data["milliseconds"])
        warnings = tuple(ScanWarning(str(code), str(text)) for code, text in data["warnings"])
        slices = tuple(
            GridSlice(int(at), float(share), SliceSource(Path(path), str(uid), int(frame)), int(number), float(height))
            for at, share, path, uid, frame, number, height in data["slices"]
        )
        return Prepared(volume, warnings, dict(data["facts"]), read_ms, geometry_ms, slices)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise ValueError(f"not a reader's answer: {error}") from error


def send(stream: IO[bytes], *parts: bytes | memoryview) -> None:
    """Write parts, each after its length."""
    for part in parts:
        stream.write(len(part).to_bytes(_LENGTH_BYTES, "little"))
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes], most: int = _MAX_HEAD_BYTES) -> bytes:
    """Read one part.

    Raises:
        EOFError: the other side has gone, or says that more comes than `most` bytes.
    """
    size = int.from_bytes(_exactly(stream, _LENGTH_BYTES), "little")
    if size > most:
        raise EOFError("more than expected")
    return _exactly(stream, size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("the other side has gone")
    return content
