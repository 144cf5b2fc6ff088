"""Tiny classifiers: two blocks of 64 features, slices of 32 x 32 pixels, two findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig, PoolingConfig, RouterConfig
from molre_edge.model.routing import Router
from molre_edge.specs import Grid

O_PROJ = "layer.1.attention.o_proj"


def make_config(*modules: str, experts: int = 3, router: RouterConfig | None = None, **changes: Any) -> ModelConfig:
    config = ModelConfig(
        backbone=BackboneConfig(id="dinov3-tiny"),
        grid=Grid(slices=3, rows=32, cols=32),
        adapter=AdapterConfig(modules=modules or (O_PROJ,), experts=experts, rank=2, alpha=4.0),
        router=router or RouterConfig(hidden=4),
        pooling=PoolingConfig(hidden=8),
        findings=("bleed", "shift"),
        budget=1e3,  # one adapter is far more than 0.5 % of a model as small as this
    )
    return replace(config, **changes)


def wake(model: nn.Module, seed: int = 0) -> None:
    """Experts and routers far from zero, so that what they do can be seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, AdaptedLayer):
                module.lora_B.normal_(generator=generator)
            elif isinstance(module, Router):
                module.fc1.weight.normal_(generator=generator)
                module.fc2.weight.normal_(generator=generator)


@pytest.fixture
def tiny_config() -> Callable[..., ModelConfig]:
    """A configuration: the names of the adapted modules, and what differs."""
    return make_config


@pytest.fixture
def tiny_model() -> Callable[..., HeadCTClassifier]:
    """A model whose experts and routers take part; arguments as of `tiny_config`."""

    def make(*modules: str, **changes: Any) -> HeadCTClassifier:
        torch.manual_seed(0)
        model = HeadCTClassifier(make_config(*modules, **changes)).eval()
        wake(model)
        return model

    return make


@pytest.fixture
def volumes() -> Tensor:
    """Two volumes of HU, no two slices alike: [2, 3, 32, 32]."""
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 60 + 30


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tiny models run faster so, by far where other work keeps the cores busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
