"""The golden set: volumes and the PyTorch reference's answers to them, as a file of a bundle.

It is a NumPy archive (.npz). Its hash protects against accidents, not against malice, so sizes and shapes are compared
with the manifest before anything is unpacked, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import BundleError
from molre_edge.files import write_whole
from molre_edge.parity import Outputs

__all__ = ["MAX_GOLDEN_BYTES", "GoldenSet", "read_golden", "write_golden"]

MAX_GOLDEN_BYTES = 2 << 30
"""Of all arrays together: 40 volumes of the largest grids in use (32 x 896 x 896)."""

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, eq=False)
class GoldenSet:
    """Volumes and the PyTorch reference's answers to them.

    Attributes:
        volumes: float16 [n, slices, rows, cols], HU.
        outputs: the reference's answers.
    """

    volumes: npt.NDArray[np.float16]
    outputs: Outputs

    @property
    def sha256(self) -> str:
        """SHA-256 of the volumes, shape and values, whatever was answered to them."""
        digest = hashlib.sha256(f"{self.volumes.shape}".encode())
        digest.update(np.ascontiguousarray(self.volumes, dtype="<f2").tobytes())
        return digest.hexdigest()


def write_golden(path: Path, golden: GoldenSet) -> None:
    """Write a golden set, completely or not at all. The same set gives the same bytes.

    Raises:
        BundleError: it is larger than :data:`MAX_GOLDEN_BYTES`.
    """
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "volumes": golden.volumes,
        **golden.outputs.arrays,
    }
    size = sum(array.nbytes for array in arrays.values())
    if size > MAX_GOLDEN_BYTES:
        raise BundleError(
            f"the golden volumes take {size / 1e9:.1f} GB; expected at most {MAX_GOLDEN_BYTES / 1e9:.1f} GB. Choose "
            f"fewer with --golden-volumes"
        )
    with write_whole(path) as partial, partial.open("wb") as file:
        plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        np.savez_compressed(file, **plain)  # type: ignore[arg-type]  # no name is one of its own options


def read_golden(content: bytes, shapes: Mapping[str, tuple[int | None, ...]]) -> GoldenSet:
    """Read a golden set whose shapes are known.

    Args:
        content: of the file.
        shapes: of ``volumes`` and of the graphs' outputs; None for the number of volumes, which is the same for all.

    Raises:
        ValueError: the file has another format; the message says what is wrong.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            if sorted(entries) != sorted(f"{name}.npy" for name in shapes):
                raise ValueError(f"expected the arrays {', '.join(sorted(shapes))}")
            if sum(entry.file_size for entry in entries.values()) > MAX_GOLDEN_BYTES:
                raise ValueError(f"larger than {MAX_GOLDEN_BYTES} bytes when unpacked")
            arrays = {name: _array(archive, entries[f"{name}.npy"], name, shape) for name, shape in shapes.items()}
    except ValueError:
        raise
    except Exception as error:  # a damaged archive raises all kinds
        raise ValueError(f"not a NumPy archive: {type(error).__name__}: {error}") from error
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"its arrays hold {', '.join(map(str, sorted(counts)))} volumes")
    return GoldenSet(arrays["volumes"], Outputs.of(arrays))


def _array(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, shape: tuple[int | None, ...]
) -> npt.NDArray[np.floating]:
    """One array. Its header is compared with `shape` before its values are read."""
    dtype = np.dtype("<f2" if name == "volumes" else "<f4")
    if entry.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name}: an unknown compression")
    with archive.open(entry) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name}: an unknown version of NumPy's format")
        found, by_columns, kind = np.lib.format.read_array_header_1_0(file)
        fits = len(found) == len(shape) and all(
            want is None or want == got for want, got in zip(shape, found, strict=True)
        )
        if not fits or kind != dtype or by_columns:
            wanted = ", ".join("n" if axis is None else str(axis) for axis in shape)
            raise ValueError(f"{name}: expected {dtype} [{wanted}], got {kind} {list(found)}")
        size = math.prod(found) * dtype.itemsize
        if size > entry.file_size:
            raise ValueError(f"{name}: shorter than its header says")
        values: npt.NDArray[np.floating] = np.frombuffer(file.read(size), dtype).reshape(found)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite numbers")
    return values
