"""Generated files give the voxels that they gave before reading was made faster: hashes that were recorded then."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from molre_edge.scans import HeadVolume, find_scans, read_scan


def fractional(dataset: Dataset, _: int) -> None:
    stored = np.frombuffer(dataset.PixelData, "<i2").astype(float)
    dataset.RescaleSlope, dataset.RescaleIntercept = "0.75", "-1000.5"
    dataset.PixelData = np.rint((stored + 1000.5) / 0.75).astype("<i2").tobytes()


def unsigned(dataset: Dataset, _: int) -> None:
    stored = np.frombuffer(dataset.PixelData, "<i2").astype(int) + 1024
    dataset.PixelRepresentation, dataset.RescaleIntercept, dataset.BitsStored, dataset.HighBit = 0, "-1024", 12, 11
    stored[::3] |= 0xF000  # an old overlay
    dataset.PixelData = stored.astype("<u2").tobytes()


def padded(dataset: Dataset, _: int) -> None:
    stored = np.frombuffer(dataset.PixelData, "<i2").reshape(128, 128).copy()
    stored[:4] = stored[-4:] = 0
    dataset.add_new(0x00280120, "SS", 0)
    dataset.PixelData = stored.tobytes()


def tilted(dataset: Dataset, index: int) -> None:
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y + 0.37 * index, z]


def from_above(dataset: Dataset, index: int) -> None:
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, -z]


def turned(dataset: Dataset, _: int) -> None:
    dataset.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


CASES = {"plain": lambda *_: None, "fractional": fractional, "unsigned": unsigned, "padded": padded, "tilted": tilted,
         "from above": from_above, "turned": turned}  # fmt: skip
RECORDED = {
    "plain": "906efa0a751e8dcb",
    "fractional": "ecd89954deeb96c3",
    "unsigned": "906efa0a751e8dcb",
    "padded": "8c805770db75f1a4",
    "tilted": "8653988721840bdc",
    "from above": "33e0ba3800ce4db6",
    "turned": "d4e7ce3f18364531",
}
"""SHA-256 of the volumes as float32, by the reader of November 2026, which went through pydicom and float64."""


def digest(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def read(folder: Path) -> HeadVolume:
    return read_scan(find_scans(folder).scans[0])


@pytest.mark.parametrize("case", CASES)
def test_voxels_are_those_that_were_recorded(
    case: str, tmp_path: Path, write_series: Callable[..., list[Path]]
) -> None:
    write_series(tmp_path / "series", edit=CASES[case])
    volume = read(tmp_path / "series")
    assert digest(volume.hu.astype(np.float32)) == RECORDED[case]
    assert (volume.hu.dtype == np.int16) == (case not in ("fractional", "tilted"))
