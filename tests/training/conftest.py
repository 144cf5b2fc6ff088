"""A tiny data set of synthetic heads and tiny models, real from the files on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from molre_edge.model.classifier import ClassifierOutput, HeadCTClassifier
from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig, RouterConfig, Routing
from molre_edge.specs import Grid
from molre_edge.training.data_manifest import Manifest, read_manifest
from molre_edge.training.start import new_model

FINDINGS = ("intraparenchymal_hemorrhage", "craniotomy_or_craniectomy")
GRID = Grid(slices=4, rows=32, cols=32)
MODULES = ("blocks.0.conv2", "blocks.1.conv2")

Configure = Callable[..., ModelConfig]


@dataclass(frozen=True, eq=False)
class ArraySamples:
    """Samples in memory, for the loop alone."""

    volumes: torch.Tensor
    labels: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.volumes)

    def answer(self, model: HeadCTClassifier, indices: Sequence[int]) -> ClassifierOutput:
        answer: ClassifierOutput = model(self.volumes[list(indices)])
        return answer


@pytest.fixture(scope="session")
def data(tiny_data: Path) -> Path:
    return tiny_data


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared volumes of `data`, so that each scan is read once in all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def manifest(data: Path) -> Manifest:
    return read_manifest(data, FINDINGS)


@pytest.fixture
def configure() -> Configure:
    """A tiny residual network: MoLRE of two experts, LoRA (K = 1) or nothing (K = 0) on it."""

    def config(experts: int = 2, *, dimensions: int = 2, **changes: Any) -> ModelConfig:
        adapter = AdapterConfig(modules=MODULES, experts=experts, rank=2) if experts else AdapterConfig(experts=0)
        values: dict[str, Any] = {
            "backbone": BackboneConfig(id=f"convnet{dimensions}d-small", options={"width": 4, "blocks": 2}),
            "grid": GRID,
            "adapter": adapter,
            "router": RouterConfig(
                level=Routing.SLICE if dimensions == 2 else Routing.VOLUME, hidden=4, standardise=True
            ),
            "findings": FINDINGS,
            "budget": 10.0,
        }
        return ModelConfig(**{**values, **changes})

    return config


@pytest.fixture
def model(configure: Configure) -> HeadCTClassifier:
    return new_model(configure(), seed=0)


@pytest.fixture
def samples() -> ArraySamples:
    """12 volumes; the first finding is a bright block, the second a dark one; three labels are unknown."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (12, 2)).astype(np.float32)
    labels[:2] = [[1, 0], [0, 1]]
    volumes = torch.from_numpy(rng.normal(30, 5, (12, *GRID.shape)).astype(np.float32))
    volumes[:, :, 4:12, 4:12] += 40 * torch.from_numpy(labels[:, :1, None, None])
    volumes[:, :, 20:28, 20:28] -= 40 * torch.from_numpy(labels[:, 1:, None, None])
    labels[[3, 4, 5], [0, 1, 0]] = np.nan
    return ArraySamples(volumes, labels)
