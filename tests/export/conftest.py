"""A tiny model and its bundle, exported once for all tests of this folder; graphs are handed out as copies."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import nn
from traced import traced

from molre_edge.export.exporter import ExportResult, export_bundle
from molre_edge.export.golden import extreme_volume
from molre_edge.export.graph import check_graph
from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import (
    AdapterConfig,
    BackboneConfig,
    ModelConfig,
    NormalisationConfig,
    PoolingConfig,
    RouterConfig,
    RouterSharing,
    Routing,
)
from molre_edge.model.routing import Router
from molre_edge.model.standardisation import standardise_routers
from molre_edge.specs import Grid

GRID = Grid(slices=3, rows=32, cols=48)

MODELS: dict[str, dict[str, Any]] = {
    "slice": {"modules": ("attention.o_proj", "pooling.project", "head")},
    "volume": {"modules": ("attention.o_proj", "pooling.project", "head"), "level": "volume", "rank": 16, "experts": 4},
    "token": {"modules": ("attention.q_proj", "attention.v_proj"), "level": "token", "sharing": "module"},
    "one router for all": {"modules": ("layer.1.attention.q_proj", "layer.1.attention.o_proj"), "sharing": "model"},
    "standardised": {"modules": ("attention.o_proj", "head"), "standardise": True},
    "standardised token": {"modules": ("attention.v_proj",), "level": "token", "standardise": True},
    "convolution": {"modules": ("patch_embeddings",)},
    "lora": {"modules": ("attention.o_proj",), "experts": 1, "normalisation": ((0.5, 0.4, 0.3), (0.25,))},
    "frozen": {"modules": (), "experts": 0},
}
"""What is exported in these tests; rank 16 times 4 experts is as wide as the model, 64."""


def draw_model(
    modules: tuple[str, ...],
    experts: int = 3,
    rank: int = 4,
    level: str = "slice",
    sharing: str = "block",
    standardise: bool = False,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> HeadCTClassifier:
    """A classifier of two blocks whose weights, experts and routers are far from zero, so that what they do is seen."""
    config = ModelConfig(
        backbone=BackboneConfig(id="dinov3-tiny"),
        grid=GRID,
        normalisation=normalisation and NormalisationConfig(mean=normalisation[0], std=normalisation[1]),
        adapter=AdapterConfig(modules=modules, experts=experts, rank=rank),
        router=RouterConfig(level=Routing(level), sharing=RouterSharing(sharing), standardise=standardise),
        pooling=PoolingConfig(hidden=16),
        budget=1e3,  # one adapter is far more than 0.5 % of a model as small as this
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = HeadCTClassifier(config).eval()
        for module in model.backbone.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
        for module in model.modules():
            if isinstance(module, AdaptedLayer):
                nn.init.normal_(module.lora_B, std=0.2)
            elif isinstance(module, Router):
                nn.init.normal_(module.fc1.weight, std=0.5)
                nn.init.normal_(module.fc2.weight, std=0.5)
        scans = torch.from_numpy(np.stack([extreme_volume(GRID, seed) for seed in range(6)]).astype(np.float32))
        standardise_routers(model, lambda: model(scans))
    return model


@functools.cache
def _exported(name: str) -> tuple[HeadCTClassifier, bytes]:
    model = draw_model(**MODELS[name])
    graph = traced(model)
    check_graph(graph, model)
    return model, graph.SerializeToString()


@pytest.fixture(scope="session")
def draw() -> Callable[..., HeadCTClassifier]:
    """See :func:`draw_model`."""
    return draw_model


@pytest.fixture(scope="session")
def export_model() -> Callable[[str], tuple[HeadCTClassifier, onnx.ModelProto]]:
    """A model of :data:`MODELS` and a copy of its float32 graph, which was checked; each is exported once."""

    def export(name: str) -> tuple[HeadCTClassifier, onnx.ModelProto]:
        model, raw = _exported(name)
        return model, onnx.load_from_string(raw)

    return export


@pytest.fixture(scope="session")
def volumes() -> npt.NDArray[np.float16]:
    """Six different volumes on the tiny model's grid."""
    return np.stack([extreme_volume(GRID, seed) for seed in range(6)])


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    """The model "slice", saved and loaded."""
    path = tmp_path_factory.mktemp("checkpoint") / "ckpt.pt"
    save_checkpoint(draw_model(**MODELS["slice"]), path)
    return load_checkpoint(path)


@pytest.fixture(scope="session")
def result(
    checkpoint: LoadedCheckpoint, volumes: npt.NDArray[np.float16], tmp_path_factory: pytest.TempPathFactory
) -> ExportResult:
    """The export of that checkpoint; its bundle is shared, so copy what you alter."""
    folder = tmp_path_factory.mktemp("exported") / "edge-bundle"
    return export_bundle(checkpoint, folder, volumes, golden_origin="blocks, seeds 0 to 5", adapters="constants")


@pytest.fixture
def graph(result: ExportResult) -> onnx.ModelProto:
    """A copy of the bundle's float32 graph."""
    return onnx.load(result.folder / "graphs" / "fp32.onnx")


@pytest.fixture
def half(result: ExportResult) -> onnx.ModelProto:
    """A copy of the bundle's float16 graph."""
    return onnx.load(result.folder / "graphs" / "fp16.onnx")


@pytest.fixture
def listing() -> Callable[[Path], list[str]]:
    """All names in a folder, hidden and partial ones too."""
    return lambda folder: sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
