"""``steps/<scan>.npz``: values between the steps, as the user's own program saved them. Every array is optional."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import OwnModelError
from molre_edge.files import read_regular
from molre_edge.own_model.array_file import MAX_ARRAY_BYTES, read_arrays

__all__ = ["STEPS", "OwnSteps", "read_steps"]

STEPS = "steps"
"""The folder beside ``answers.npz``."""

_AXES = {
    "hu": "slices, rows, cols",
    "grid": "slices, rows, cols",
    "windowed": "slices, channels, rows, cols",
    "normalised": "slices, channels, rows, cols",
    "gates": "slices or 1, routers, experts",
    "features": "slices, d",
    "embedding": "d",
}


@dataclass(frozen=True, eq=False)
class OwnSteps:
    """What the user's own program saved of one scan.

    Attributes:
        files: names of the files in the order of the slices; None if not saved.
        values: point of the chain -> float32 array.
    """

    files: tuple[str, ...] | None
    values: dict[str, npt.NDArray[np.float32]]


def read_steps(folder: Path, scan: str) -> OwnSteps | None:
    """The saved values of a scan; None if there are none. Python objects are never unpacked.

    Args:
        folder: of ``molre-edge reference``.
        scan: its name.

    Raises:
        OwnModelError: the file has another format; the message names the array.
    """
    path = folder / STEPS / f"{scan}.npz"
    if not path.exists():
        return None
    try:
        arrays = read_arrays(read_regular(path, largest=MAX_ARRAY_BYTES), ("files", *_AXES))
        files = arrays.pop("files", None)
        if files is not None and (files.dtype.kind != "U" or files.ndim != 1):
            raise ValueError(f"files: expected a list of texts, got {files.dtype} {list(files.shape)}")
        values = {name: _checked(name, array) for name, array in arrays.items()}
    except OSError as error:
        raise OwnModelError(f"{path}: can't be read ({error.strerror})") from error
    except ValueError as error:
        raise OwnModelError(
            f"{path}: {error}. save_steps() of answer_scans.py shows how to write it; each array may be left out"
        ) from error
    return OwnSteps(None if files is None else tuple(str(name) for name in files), values)


def _checked(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    axes = _AXES[name]
    # features of 3D backbones are [d]
    counts = {axes.count(",") + 1} | ({1} if name == "features" else set())
    if array.dtype.kind == "U" or array.ndim not in counts or not array.size:
        raise ValueError(f"{name}: expected numbers [{axes}], got {array.dtype} {list(array.shape)}")
    numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name}: NaN or infinity")
    return numbers
