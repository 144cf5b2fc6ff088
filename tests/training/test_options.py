"""From a training's arguments to what it starts from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from molre_edge.errors import ConfigError, MolreEdgeError, UsageError
from molre_edge.model.config import ModelConfig, Routing
from molre_edge.model.defaults import default_config
from molre_edge.model.presets import PRESETS
from molre_edge.training.options import ModelOptions, has_installed_weights, model_config


def test_only_a_backbone_whose_weights_a_package_holds_has_them_without_a_folder() -> None:
    assert has_installed_weights(ModelOptions(backbone="efficientnet-lite0"))
    assert has_installed_weights(ModelOptions(backbone="i3resnet152"))
    assert not has_installed_weights(ModelOptions())
    with pytest.raises(ConfigError, match="unknown 'efficientnet-lite1'; did you mean efficientnet-lite0"):
        has_installed_weights(ModelOptions(backbone="efficientnet-lite1"))


def config(source: ModelConfig | None = None, **options: Any) -> ModelConfig:
    return model_config(ModelOptions(**{"backbone": "dinov3-tiny", **options}), source, ("mass",))


@pytest.mark.parametrize("adapter", ["molre", "lora"])
@pytest.mark.parametrize(("rank", "alpha"), [(8, 16.0), (2, 4.0), (5, 10.0)])
def test_alpha_is_twice_the_rank_as_in_a_default_configuration_unless_it_is_given(
    adapter: str, rank: int, alpha: float
) -> None:
    assert (
        config(adapter=adapter, rank=rank).adapter == default_config("dinov3-tiny", adapter=adapter, rank=rank).adapter
    )
    assert config(adapter=adapter, rank=rank).adapter.alpha == alpha
    assert config(adapter=adapter, rank=rank, alpha=3.0).adapter.alpha == 3.0


def test_without_options_a_training_has_the_default_configuration() -> None:
    assert config() == default_config("dinov3-tiny", findings=("mass",))


def test_a_matched_lora_keeps_the_scale_that_alpha_gives_the_experts() -> None:
    adapter = config(adapter="lora", match_parameters=True, rank=2, alpha=6.0).adapter
    assert adapter.experts == 1 and adapter.rank > 2 and adapter.alpha / adapter.rank == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"adapter": "none", "alpha": 4.0}, "--alpha: --adapter none has no experts"),
        (
            {"adapter": "lora", "router_level": "slice"},
            "--router-level: works only with --adapter molre and two experts or more",
        ),
        (
            {"adapter": "none", "temperature": 0.5},
            "--temperature: works only with --adapter molre and two experts or more",
        ),
        ({"adapter": "lora", "router_lr": 0.5}, "--router-lr: works only with --adapter molre and two experts or more"),
        ({"router_level": "token"}, "--router-level token: expected one of slice, volume"),
    ],
)
def test_an_option_that_an_adapter_does_not_use_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ModelOptions(**wrong)


def test_routers_get_the_level_and_temperature_asked_for() -> None:
    router = config(router_level="volume", temperature=0.5).router
    assert router == replace(default_config("dinov3-tiny").router, level=Routing.VOLUME, temperature=0.5)
    with pytest.raises(ConfigError, match=r"router\.temperature"):
        config(temperature=0.0)


def test_a_3d_backbone_has_no_slices_to_route() -> None:
    assert config(backbone="convnet3d-small", router_level="volume").router.level is Routing.VOLUME
    with pytest.raises(
        UsageError, match=r"--router-level slice: the backbone convnet3d-small is 3D .*use --router-level volume"
    ):
        config(backbone="convnet3d-small", router_level="slice")


def test_a_preset_brings_grid_windows_and_normalisation_of_a_published_model() -> None:
    merlin = config(backbone="convnet3d-small", preset="merlin")
    assert (merlin.grid, merlin.windows) == (PRESETS["merlin"].grid, PRESETS["merlin"].windows)
    assert merlin.normalisation == PRESETS["merlin"].normalisation
    without = config(preset="dinov3")
    assert without.windows == default_config("dinov3-tiny").windows and without.grid == PRESETS["dinov3"].grid
    smaller = config(preset="dinov3", grid=(8, 64, 64))
    assert smaller.grid == replace(PRESETS["dinov3"].grid, slices=8, rows=64, cols=64)


@pytest.mark.parametrize(
    ("name", "backbone", "words"),
    [
        ("merlyn", "dinov3-tiny", "did you mean merlin"),
        ("pillar-0", "dinov3-tiny", "there is none, since its windows"),
        ("merlin", "headct-vit3d-tiny", "--preset merlin: does not fit the backbone headct-vit3d-tiny: grid"),
        ("dinov3", "pillar0-tiny", "--preset dinov3: does not fit the windows of the backbone pillar0-tiny"),
    ],
)
def test_a_preset_that_is_unknown_or_does_not_fit_the_backbone_is_refused_with_the_reason(
    name: str, backbone: str, words: str
) -> None:
    with pytest.raises(MolreEdgeError, match=words):
        config(backbone=backbone, preset=name)


def test_a_preset_and_another_checkpoints_grid_exclude_each_other() -> None:
    source = default_config("dinov3-tiny", adapter="none", findings=("mass",))
    with pytest.raises(UsageError, match="--preset dinov3: --init has its own grid, windows and normalisation"):
        config(source, backbone=None, preset="dinov3")
