"""The configuration that a backbone's name alone stands for."""

from __future__ import annotations

import pytest
import torch

from molre_edge.errors import ConfigError
from molre_edge.findings import default_findings
from molre_edge.model.backbones.registry import backbone_entry, backbone_ids
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import ModelConfig, Routing
from molre_edge.model.defaults import default_config
from molre_edge.model.placement import count_parameters
from molre_edge.specs import Grid

FULL = tuple(name for name in backbone_ids() if backbone_entry(name).parameters is not None)
ADAPTED = tuple(name for name in FULL if backbone_entry(name).adapted)
BASELINES = tuple(name for name in FULL if not backbone_entry(name).adapted)


@pytest.mark.parametrize("name", FULL)
def test_a_full_backbone_has_as_many_parameters_as_its_definition(name: str) -> None:
    entry = backbone_entry(name)
    with torch.device("meta"):
        backbone = entry.build(entry.grid, len(entry.windows), {})
    assert sum(p.numel() for p in backbone.parameters()) == entry.parameters


@pytest.mark.parametrize("name", ADAPTED)
def test_the_default_placement_adds_something_and_less_than_half_a_percent(name: str) -> None:
    with torch.device("meta"):
        count = count_parameters(HeadCTClassifier(default_config(name)))
    assert 0.003 < count.fraction < 0.005


@pytest.mark.parametrize("name", backbone_ids())
def test_each_name_alone_gives_a_configuration_that_survives_a_checkpoint(name: str) -> None:
    config = default_config(name, adapter="molre" if backbone_entry(name).adapted else "none")
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert len(config.findings) == len(default_findings())
    assert config.windows == backbone_entry(name).windows


@pytest.mark.parametrize("name", backbone_ids())
def test_slices_are_routed_in_2d_and_volumes_in_3d(name: str) -> None:
    level = default_config(name, adapter="none").router.level
    assert level is {2: Routing.SLICE, 3: Routing.VOLUME}[backbone_entry(name).dimensions]


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_without_a_placement_refuses_adapters(name: str) -> None:
    with pytest.raises(ConfigError, match="Choose adapter 'none'"):
        default_config(name)


def test_lora_is_one_expert_of_the_given_rank_at_the_same_places() -> None:
    molre, lora = default_config("dinov3-tiny"), default_config("dinov3-tiny", adapter="lora", rank=5)
    assert (lora.adapter.experts, lora.adapter.rank, lora.adapter.modules) == (1, 5, molre.adapter.modules)


def test_a_grid_and_findings_can_be_given() -> None:
    grid = Grid(slices=2, rows=32, cols=32)
    config = default_config("dinov3-tiny", grid=grid, findings=("mass",), experts=3, rank=2)
    assert (config.grid, config.findings, config.adapter.experts, config.adapter.rank) == (grid, ("mass",), 3, 2)


def test_an_unknown_adapter_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected molre, lora or none, got 'dora'"):
        default_config("dinov3-tiny", adapter="dora")
