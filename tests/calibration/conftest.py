"""The tiny bundle, calibrated once for all tests of this folder, and what calibrating altered copies of it takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.calibration.layers import Layer, find_layers
from molre_edge.calibration.run import CalibrationResult, calibrate
from molre_edge.calibration.samples import LabelsOf
from molre_edge.calibration.settings import CalibrationSettings
from molre_edge.export.routing_trace import trace_routers
from molre_edge.parity import ParityLimits
from molre_edge.progress import Silent
from molre_edge.scans import find_scans
from molre_edge.specs import RangeMethod

LOOSE = ParityLimits("loose", max_abs_dp=0.1, max_flips_fraction=0.1, min_cosine=0.97, max_routing_l1=0.15)
"""A model as narrow as the tiny one loses more to INT8 than a real one."""


@dataclass
class Events(Silent):
    """A progress that keeps its events."""

    steps: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    counts: list[tuple[int, int | None, str]] = field(default_factory=list)

    def step(self, name: str) -> None:
        self.steps.append(name)

    def info(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def count(self, done: int, total: int | None, unit: str) -> None:
        self.counts.append((done, total, unit))


Run = Callable[..., tuple[CalibrationResult, Events]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Calibrate a bundle on scans, with one way to choose ranges and one thread."""

    def go(
        bundle: Path,
        scans: Path,
        limits: ParityLimits = LOOSE,
        labels: LabelsOf = lambda source: None,
        **settings: object,
    ) -> tuple[CalibrationResult, Events]:
        events = Events()
        asked = CalibrationSettings(**{"method": RangeMethod.MSE, **settings})  # type: ignore[arg-type]
        result = calibrate(
            Bundle.open(bundle), find_scans(scans), asked, limits, labels=labels, threads=1, progress=events
        )
        return result, events

    return go


@pytest.fixture(scope="session")
def calibrated(
    run: Run, tiny_bundle: Path, tiny_scans: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CalibrationResult, Events]:
    """The tiny bundle with an int8 graph; its folder is shared, so copy what you alter."""
    folder = tmp_path_factory.mktemp("calibrated") / "edge-bundle"
    shutil.copytree(tiny_bundle, folder)
    return run(folder, tiny_scans)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle"))


@pytest.fixture(scope="session")
def _raw(tiny_bundle: Path) -> bytes:
    return (tiny_bundle / "graphs/fp32.onnx").read_bytes()


@pytest.fixture
def model(_raw: bytes) -> IndexedModel:
    """A copy of the tiny bundle's float32 graph."""
    return IndexedModel(onnx.load_from_string(_raw))


@pytest.fixture
def layers(model: IndexedModel) -> tuple[Layer, ...]:
    """The layers of that graph."""
    return find_layers(model, trace_routers(model.model, routers=2, layers=2, experts=3, rank=2))
