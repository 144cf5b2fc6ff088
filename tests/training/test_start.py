"""What a training starts from: seeded weights, a backbone's weights, a LoRA of equal size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from installed_weights import install_weights, stored

from molre_edge.errors import ConfigError
from molre_edge.model.backbones.entry import ENTRIES
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig, NormalisationConfig
from molre_edge.model.defaults import default_config
from molre_edge.model.placement import count_parameters
from molre_edge.specs import Grid
from molre_edge.training.start import copy_backbone, load_backbone, match_rank, new_model

GRID = Grid(slices=4, rows=32, cols=32)
Configure = Callable[..., ModelConfig]


def embeddings(model: HeadCTClassifier) -> torch.Tensor:
    volume = torch.rand(2, *model.config.grid.shape, generator=torch.Generator().manual_seed(0)) * 80
    with torch.no_grad():
        return model.features(volume)


def test_weights_come_from_the_seed_and_the_callers_random_state_stays(configure: Configure) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (new_model(configure(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


@pytest.mark.parametrize("there", [0, 1, 2])
@pytest.mark.parametrize("here", [0, 1, 2])
def test_a_backbone_is_taken_over_whatever_either_side_has_adapted(there: int, here: int, configure: Configure) -> None:
    source, target = new_model(configure(there), seed=1), new_model(configure(here), seed=2)
    head = target.head.weight.clone()
    assert not torch.allclose(embeddings(source), embeddings(target))
    copy_backbone(source, target)
    torch.testing.assert_close(embeddings(source), embeddings(target))  # B is zero at first, so A does not show
    assert torch.equal(target.head.weight, head)


def test_batch_norms_statistics_come_along(configure: Configure) -> None:
    source, target = new_model(configure(0), seed=0), new_model(configure(0), seed=0)
    source.backbone.norm.running_mean.fill_(0.7)
    copy_backbone(source, target)
    assert bool((target.backbone.norm.running_mean == 0.7).all())


def test_another_backbone_or_other_windows_are_refused(configure: Configure) -> None:
    source = new_model(configure(0), seed=0)
    wider = BackboneConfig(id="convnet2d-small", options={"width": 8, "blocks": 2})
    other = {"normalisation": NormalisationConfig(mean=(0.5,), std=(0.5,))}
    for change in ({"backbone": wider}, {"windows": ((40.0, 80.0),)}, other):
        with pytest.raises(ConfigError, match="another backbone, other windows or another normalisation"):
            copy_backbone(source, new_model(configure(0, **change), seed=0))


def test_another_grid_is_taken_where_no_weight_hangs_on_it(configure: Configure) -> None:
    size = {"num_hidden_layers": 1, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 64}
    rotary = BackboneConfig(id="dinov3-vits16", options=size)
    for backbone in (configure().backbone, rotary):
        source = new_model(configure(0, backbone=backbone), seed=1)
        grid = Grid(slices=2, rows=64, cols=48)
        target, fresh = (new_model(configure(0, backbone=backbone, grid=grid), seed=seed) for seed in (2, 1))
        copy_backbone(source, target)
        torch.testing.assert_close(embeddings(target), embeddings(fresh))  # positions are those of the new grid


def test_another_grid_is_refused_where_a_table_of_positions_hangs_on_it() -> None:
    config = default_config("siglip-tiny", adapter="none", findings=("a",))
    larger = replace(config.grid, rows=2 * config.grid.rows, cols=2 * config.grid.cols)
    source, target = new_model(config, seed=0), new_model(replace(config, grid=larger), seed=0)
    with pytest.raises(ConfigError, match=r"position_embedding.*use the training grid \(\d+ x \d+ x \d+\)"):
        copy_backbone(source, target)


@pytest.mark.parametrize("experts", [2, 6])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_matched_lora_is_the_nearest_of_all(experts: int, dimensions: int, configure: Configure) -> None:
    config = configure(dimensions=dimensions)
    molre = replace(config, adapter=AdapterConfig(modules=config.adapter.modules, experts=experts, rank=3, alpha=12.0))
    lora = match_rank(molre)
    wanted = count_parameters(HeadCTClassifier(molre)).added

    def distance(rank: int) -> int:
        adapter = replace(lora.adapter, rank=rank)
        return abs(count_parameters(HeadCTClassifier(replace(lora, adapter=adapter))).added - wanted)

    assert lora.adapter.experts == 1
    assert lora.adapter.alpha / lora.adapter.rank == 4.0  # the scale stays
    assert min(range(1, 40), key=distance) == lora.adapter.rank
    assert replace(lora, adapter=molre.adapter) == molre  # nothing else changes


def test_a_matched_lora_stays_within_the_budget_that_the_molre_keeps(configure: Configure) -> None:
    free = configure(6)
    over = match_rank(free)
    count = count_parameters(HeadCTClassifier(free))
    assert count_parameters(HeadCTClassifier(over)).fraction > count.fraction  # rounded up
    tight = match_rank(replace(free, budget=count.fraction))
    assert tight.adapter.rank == over.adapter.rank - 1
    HeadCTClassifier(tight)  # its budget is checked here


def test_the_paper_s_placement_has_a_lora_of_equal_size() -> None:
    molre = default_config("dinov3-vitb16", grid=GRID)
    lora = match_rank(molre)
    with torch.device("meta"):
        two = [count_parameters(HeadCTClassifier(config)).added for config in (molre, lora)]
    assert abs(two[0] - two[1]) / two[0] < 0.02


def test_without_a_folder_the_installed_weights_are_loaded_and_adapters_change_nothing_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = backbone_entry("efficientnet-lite-tiny")
    trained = new_model(default_config(entry.id, adapter="none"), seed=1)
    weights = install_weights(tmp_path, monkeypatch, stored(trained.backbone))
    monkeypatch.setitem(ENTRIES, entry.id, replace(entry, installed=weights))
    model = new_model(default_config(entry.id), seed=2)
    assert not torch.equal(embeddings(model), embeddings(trained))
    load_backbone(model, None)
    assert torch.equal(embeddings(model), embeddings(trained))
