"""Reads NumPy archives (.npz) that other programs wrote: arrays of numbers and texts, never Python objects.

Every header is checked, and every size is bounded, before an array is unpacked.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_ARRAY_BYTES", "read_arrays"]

MAX_ARRAY_BYTES = 2 << 30
"""Of all arrays of a file together, unpacked."""

_MAX_ENTRIES = 64
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_KINDS = {"f": "numbers", "i": "numbers", "u": "numbers", "b": "numbers", "U": "texts"}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(
    content: bytes, names: Collection[str], *, most_bytes: int = MAX_ARRAY_BYTES
) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of a NumPy archive.

    Args:
        content: of the file.
        names: arrays that it may have.
        most_bytes: the largest allowed size of all arrays together, unpacked.

    Returns:
        Arrays by name, of floats, integers, booleans or texts.

    Raises:
        ValueError: the file has another format, an unknown array, or more than allowed; the message says which.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            if len(entries) != len(archive.infolist()) or len(entries) > _MAX_ENTRIES:
                raise ValueError("the same array twice, or too many arrays")
            for name in entries:
                if name not in names:
                    raise ValueError(f"unknown array {name[:60]!r}; expected some of {', '.join(sorted(names))}")
            size = sum(entry.file_size for entry in entries.values())
            if size > most_bytes:
                raise ValueError(f"{size} bytes when unpacked; at most {most_bytes} are read")
            return {name: _array(archive, entry, name) for name, entry in entries.items()}
    except ValueError:
        raise
    except Exception as error:  # a damaged archive raises all kinds
        raise ValueError(f"not a NumPy archive ({type(error).__name__}: {str(error)[:200]})") from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> npt.NDArray[np.generic]:
    """One array. Its header is checked before its values are read."""
    if entry.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name}: an unknown compression")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{name}: an unknown version of NumPy's format")
        shape, by_columns, dtype = _HEADERS[version](file)
        if dtype.hasobject or dtype.kind not in _KINDS or dtype.shape:
            raise ValueError(
                f"{name}: expected numbers or texts, got dtype {str(dtype)[:60]}; Python objects are never unpacked. "
                f"Convert it with np.asarray(..., dtype=float) or np.asarray(..., dtype=str)"
            )
        if not dtype.itemsize:  # any number of them takes no byte of the file
            raise ValueError(f"{name}: texts of no length")
        size = math.prod(shape) * dtype.itemsize
        if size > entry.file_size:
            raise ValueError(f"{name}: shorter than its header says")
        raw = file.read(size)
    array: npt.NDArray[np.generic] = np.frombuffer(raw, dtype).reshape(shape, order="F" if by_columns else "C")
    return array.astype(dtype.newbyteorder("="), order="C", copy=False)
