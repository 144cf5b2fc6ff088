"""The folder that ``molre-edge reference`` writes: scans as another program needs them, and a place for its answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ConfigError, OwnModelError, shown
from molre_edge.files import read_regular, write_json
from molre_edge.own_model.array_file import read_arrays
from molre_edge.specs import Grid

__all__ = ["INPUTS", "HuVolume", "InputScan", "InputsFolder", "open_inputs"]

INPUTS = "inputs.json"

_FORMAT, _VERSION = "molre-edge-reference-inputs", 1
_MAX_JSON = 256 << 20
_MAX_VOLUME = 4 << 30
_SCAN = re.compile(r"scan-[0-9]{4,7}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AGAIN = "Run 'molre-edge reference' again"


@dataclass(frozen=True)
class InputScan:
    """One scan of the folder.

    Attributes:
        scan: its name, such as ``scan-0001``.
        path: the series' folder or file. It may carry the name of a patient.
        files: the files of the chosen series, as text.
        hu_sha256: SHA-256 of ``hu/<scan>.npz``.
        grid_sha256: SHA-256 of ``grid/<scan>.npz``.
    """

    scan: str
    path: str
    files: tuple[str, ...]
    hu_sha256: str
    grid_sha256: str

    @property
    def hu(self) -> str:
        """Name of the file with the HU volume, below the folder."""
        return f"hu/{self.scan}.npz"

    @property
    def grid(self) -> str:
        """Name of the file with the volume on the model's grid, below the folder."""
        return f"grid/{self.scan}.npz"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``inputs.json``."""
        return {**asdict(self), "files": list(self.files), "hu": self.hu, "grid": self.grid}


@dataclass(frozen=True, eq=False)
class HuVolume:
    """A scan as it was read.

    Attributes:
        hu: float32 [slices, rows, cols], HU.
        positions_mm: float64 [slices].
        thickness_mm: float64 [slices].
        pixel_mm: (row, col).
        range_mm: lower and upper end of the head along the slices, as far as the grid reaches. The grid of the default
            ``stack`` has the same ends.
        centre_mm: of the head along rows and cols, from the first pixel. The grid of the default ``plane`` has the same
            centre.
    """

    hu: npt.NDArray[np.float32]
    positions_mm: npt.NDArray[np.float64]
    thickness_mm: npt.NDArray[np.float64]
    pixel_mm: tuple[float, float]
    range_mm: tuple[float, float]
    centre_mm: tuple[float, float]


@dataclass(frozen=True)
class InputsFolder:
    """An open folder of inputs.

    Attributes:
        folder: its path.
        grid: the model's grid.
        scans: in the order of their names.
    """

    folder: Path
    grid: Grid
    scans: tuple[InputScan, ...]

    def check_grid(self, grid: Grid) -> None:
        """Refuse the grid of another checkpoint.

        Raises:
            ConfigError: it is not the one of this folder.
        """
        if self.grid != grid:
            raise ConfigError(
                f"{self.folder}: written for the grid {self.grid}, and the checkpoint has {grid}. Run 'molre-edge "
                f"reference' again with this checkpoint"
            )

    def write(self, about: Mapping[str, Any]) -> None:
        """Write ``inputs.json``.

        Args:
            about: more to say in it, plain data.
        """
        told = {"grid": self.grid.to_dict(), **about}
        scans = [scan.to_dict() for scan in self.scans]
        write_json(self.folder / INPUTS, {"format": _FORMAT, "version": _VERSION, **told, "scans": scans})

    def grid_volume(self, scan: InputScan) -> npt.NDArray[np.float16]:
        """A scan on the model's grid, float16 HU [slices, rows, cols].

        Raises:
            OwnModelError: the file is missing or altered, or has another shape.
        """
        arrays = self._arrays(scan.grid, scan.grid_sha256)
        volume = arrays.get("volume")
        if volume is None or volume.dtype != np.float16 or volume.shape != self.grid.shape:
            raise OwnModelError(
                f"{self.folder / scan.grid}: expected 'volume', float16 {list(self.grid.shape)}. {_AGAIN}"
            )
        return volume.astype(np.float16, copy=False)

    def hu_volume(self, scan: InputScan) -> HuVolume:
        """A scan as it was read, and where the head lies in it.

        Raises:
            OwnModelError: a file is missing or altered, or has another form.
        """
        read, field = self._arrays(scan.hu, scan.hu_sha256), self._arrays(scan.grid, scan.grid_sha256)
        try:
            hu = read["hu"].astype(np.float32)
            slices, pixel, ends, centre = (
                np.stack([read[name].astype(np.float64) for name in ("positions_mm", "thickness_mm")]),
                *(part.astype(np.float64) for part in (read["pixel_mm"], field["range_mm"], field["centre_mm"])),
            )
            if hu.ndim != 3 or slices.shape[1] != len(hu) or not len(pixel) == len(ends) == len(centre) == 2:
                raise ValueError("arrays of other shapes")
        except (KeyError, ValueError) as error:
            raise OwnModelError(f"{self.folder / scan.hu}: damaged ({error}). {_AGAIN}") from error
        return HuVolume(hu, slices[0], slices[1], *((float(a), float(b)) for a, b in (pixel, ends, centre)))

    def check_hu(self, scan: InputScan) -> None:
        """Refuse an HU volume that is not the one that was written.

        Raises:
            OwnModelError: the file is missing or altered.
        """
        self._content(scan.hu, scan.hu_sha256)

    def _content(self, name: str, sha256: str) -> bytes:
        path = self.folder / name
        try:
            content = read_regular(path, largest=_MAX_VOLUME, links=False)
        except OSError as error:
            raise OwnModelError(f"{path}: can't be read ({error.strerror}). {_AGAIN}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise OwnModelError(f"{path}: altered since it was written: its SHA-256 is not that of {INPUTS}. {_AGAIN}")
        return content

    def _arrays(self, name: str, sha256: str) -> dict[str, npt.NDArray[np.generic]]:
        path, content = self.folder / name, self._content(name, sha256)
        try:
            return read_arrays(content, ARRAYS, most_bytes=_MAX_VOLUME)
        except ValueError as error:
            raise OwnModelError(f"{path}: {error}. {_AGAIN}") from error


ARRAYS = (
    "hu",
    "volume",
    "positions_mm",
    "thickness_mm",
    "pixel_mm",
    "range_mm",
    "centre_mm",
    "units",
    "axes",
)
"""Arrays of the files of volumes; docs/guides/your-own-model.md describes them."""


def open_inputs(folder: Path) -> InputsFolder:
    """Read the folder's description; its volumes are checked when they are read.

    Raises:
        OwnModelError: no such folder, or a damaged description.
    """
    path = folder / INPUTS
    try:
        data = json.loads(read_regular(path, largest=_MAX_JSON, links=False))
    except OSError as error:
        raise OwnModelError(
            f"{folder}: not a folder of 'molre-edge reference' ({INPUTS} can't be read: {error.strerror}). Make one "
            f"with 'molre-edge reference SCANS --checkpoint CKPT -o {folder}'"
        ) from error
    except (ValueError, RecursionError) as error:
        raise OwnModelError(f"{path}: damaged, not JSON ({str(error)[:200]}). {_AGAIN}") from error
    if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (_FORMAT, _VERSION):
        raise OwnModelError(f"{path}: not of this version of molre-edge. {_AGAIN}")
    try:
        scans = tuple(_scan(each) for each in data["scans"])
        if not scans or len({scan.scan for scan in scans}) != len(scans):
            raise ValueError("scans: expected each one once")
        return InputsFolder(folder, Grid(**data["grid"]), scans)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise OwnModelError(f"{path}: damaged ({str(error)[:200]}). {_AGAIN}") from error


def _scan(data: Mapping[str, Any]) -> InputScan:
    name, hashes = data["scan"], (data["hu_sha256"], data["grid_sha256"])
    if not _SCAN.fullmatch(name) or not all(_SHA256.fullmatch(each) for each in hashes):
        raise ValueError(f"scans: unexpected entry {shown(name)}")
    files = tuple(str(file) for file in data["files"])
    return InputScan(name, str(data["path"]), files, *hashes)
