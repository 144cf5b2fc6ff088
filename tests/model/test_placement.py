"""Which modules are adapted, which routers they share, and what that adds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from molre_edge.errors import ConfigError
from molre_edge.model.adapters import AdaptedLayer, MoLREConv3d
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import AdapterConfig, ModelConfig, RouterConfig, RouterSharing, Routing
from molre_edge.model.placement import count_parameters, match_modules, place_adapters
from molre_edge.model.routing import Router, Site

TinyConfig = Callable[..., ModelConfig]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.up = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width)


class Model(nn.Module):
    """The three children that a classifier has; the backbone has stages of blocks, as hierarchical ones do."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.stem = nn.Conv3d(3, width, 2, 2)
        self.backbone.stages = nn.ModuleList(nn.ModuleList(Block(width) for _ in range(2)) for _ in range(2))
        self.pooling = nn.Module()
        self.pooling.project = nn.Linear(width, 6)
        self.head = nn.Linear(width, 2)


def place(config: ModelConfig, *, volumetric: bool = False) -> tuple[Model, nn.ModuleList]:
    model = Model()
    return model, place_adapters(model, config, volumetric=volumetric)


def groups(model: nn.Module) -> dict[str, int]:
    return {name: m.group for name, m in model.named_modules() if isinstance(m, AdaptedLayer)}


def sites(model: nn.Module) -> dict[str, Site]:
    return {name: m.site for name, m in model.named_modules() if isinstance(m, AdaptedLayer)}


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("backbone.stages.0.1.q", ["backbone.stages.0.1.q"]),
        ("0.1.q", ["backbone.stages.0.1.q"]),
        ("stages.1.*.up", ["backbone.stages.1.0.up", "backbone.stages.1.1.up"]),
        ("head", ["head"]),
        ("stem", ["backbone.stem"]),
        ("pooling.*", ["pooling.project"]),
    ],
)
def test_a_pattern_is_a_name_or_its_end_with_stars(pattern: str, chosen: list[str]) -> None:
    assert list(match_modules(Model(), (pattern,))) == chosen


def test_layers_come_in_the_models_order_and_each_once() -> None:
    chosen = match_modules(Model(), ("head", "*.q", "backbone.stages.1.0.q"))
    assert chosen == (*(f"backbone.stages.{i}.{j}.q" for i in range(2) for j in range(2)), "head")


def test_only_layers_that_can_be_adapted_are_found() -> None:
    assert len(match_modules(Model(), ("*",))) == 1 + 8 + 2  # the stem, the blocks' linears, pooling and head


def test_a_name_ends_at_a_dot() -> None:
    with pytest.raises(ConfigError, match="'tem' matches no layer"):
        match_modules(Model(), ("tem",))


def test_a_pattern_without_a_match_is_refused_with_near_names() -> None:
    with pytest.raises(
        ConfigError, match=r"'pooling.projekt' matches no layer; layers here are, for example, pooling.project"
    ):
        match_modules(Model(), ("*.q", "pooling.projekt"))


@pytest.mark.parametrize("pattern", ["[qk]", "stages.?.q"])
def test_no_other_wildcard_than_the_star_is_taken(pattern: str) -> None:
    with pytest.raises(ConfigError, match="only '\\*' is a wildcard"):
        match_modules(Model(), (pattern,))


@pytest.mark.parametrize("pattern", ["(a+)+$" * 40, "*a" * 128, "*" * 256, "(.*)*b", "*." * 128])
def test_a_pattern_made_to_hang_does_not(pattern: str) -> None:
    start = time.process_time()
    with contextlib.suppress(ConfigError):
        match_modules(Model(), (pattern,))
    assert time.process_time() - start < 2


def test_where_a_layer_sits_follows_from_its_name(tiny_config: TinyConfig) -> None:
    model, _ = place(tiny_config("0.0.q", "pooling.project", "head"))
    assert sites(model) == {
        "backbone.stages.0.0.q": Site.SLICES,
        "pooling.project": Site.POOLING,
        "head": Site.VOLUME,
    }


def test_a_3d_backbone_routes_per_volume(tiny_config: TinyConfig) -> None:
    model, routers = place(tiny_config("stem", "0.0.q"), volumetric=True)
    assert set(sites(model).values()) == {Site.VOLUME}
    assert isinstance(model.backbone.stem, MoLREConv3d)
    assert routers[0].fc1.in_features == 3  # a convolution's router reads channels


def test_by_default_a_block_has_one_router_and_blocks_may_lie_in_stages(tiny_config: TinyConfig) -> None:
    model, routers = place(tiny_config("*.q", "*.up", "pooling.project", "head"))
    numbers = groups(model)
    assert len(routers) == 4 + 2
    for i, block in enumerate(("0.0", "0.1", "1.0", "1.1")):
        assert numbers[f"backbone.stages.{block}.q"] == numbers[f"backbone.stages.{block}.up"] == i
    assert (numbers["pooling.project"], numbers["head"]) == (4, 5)


def test_each_module_can_have_its_own_router(tiny_config: TinyConfig) -> None:
    model, routers = place(tiny_config("0.*.q", "0.*.up", router=RouterConfig(sharing=RouterSharing.MODULE)))
    assert sorted(groups(model).values()) == [0, 1, 2, 3]
    assert len(routers) == 4


def test_a_backbone_can_share_one_router_but_pooling_and_head_keep_theirs(tiny_config: TinyConfig) -> None:
    shared = RouterConfig(sharing=RouterSharing.MODEL)
    model, routers = place(tiny_config("*.q", "*.up", "pooling.project", "head", router=shared))
    assert len(routers) == 3
    assert {number for name, number in groups(model).items() if name.startswith("backbone.")} == {0}
    assert groups(model)["pooling.project"] == 1
    assert groups(model)["head"] == 2


def test_modules_of_different_width_can_not_share_a_router(tiny_config: TinyConfig) -> None:
    shared = RouterConfig(sharing=RouterSharing.MODEL)
    with pytest.raises(
        ConfigError,
        match=r"stages.0.0.q has inputs of width 4, .* have 3, so they can't share a router; set",
    ):
        place(tiny_config("stem", "*.q", router=shared), volumetric=True)
    place(tiny_config("stem", "*.q", router=shared, experts=1), volumetric=True)  # LoRA has no routers


def test_a_router_has_the_configured_size_and_temperature(tiny_config: TinyConfig) -> None:
    _, routers = place(tiny_config("0.0.q", experts=5, router=RouterConfig(hidden=7, temperature=2.0)))
    (router,) = routers
    assert isinstance(router, Router)
    assert (router.fc1.in_features, router.fc1.out_features, router.fc2.out_features) == (4, 7, 5)
    assert router.temperature == 2.0


def test_token_routing_refuses_convolutions(tiny_config: TinyConfig) -> None:
    token = RouterConfig(level=Routing.TOKEN)
    with pytest.raises(ConfigError, match=r"'token' needs linear layers, but backbone\.stem is a convolution"):
        place(tiny_config("stem", router=token), volumetric=True)
    place(tiny_config("stem", router=token, experts=1), volumetric=True)


def test_a_layer_that_has_no_adapted_form_is_named(tiny_config: TinyConfig) -> None:
    model = Model()
    model.backbone.depthwise = nn.Conv2d(4, 4, 3, groups=4)
    with pytest.raises(ConfigError, match=r"adapter.modules: backbone.depthwise: only convolutions with groups = 1"):
        place_adapters(model, tiny_config("depthwise"), volumetric=False)


def test_added_parameters_are_experts_and_routers(tiny_config: TinyConfig) -> None:
    model = Model()
    before = sum(p.numel() for p in model.parameters())
    config = tiny_config("stem", "0.0.q", "0.0.up", "head", router=RouterConfig(hidden=5))
    model.routers = place_adapters(model, config, volumetric=True)
    experts = 3 * 2  # K * r
    by_hand = (
        experts * (3 * 8 + 4)  # the stem: 3 channels, a kernel of 8, 4 outputs
        + experts * (4 + 4)  # q
        + experts * (4 + 8)  # up
        + experts * (4 + 2)  # the head
        + (3 * 5 + 5 + 5 * 3 + 3)  # the stem's router
        + 2 * (4 * 5 + 5 + 5 * 3 + 3)  # one for q and up, one for the head
    )
    count = count_parameters(model)
    assert (count.added, count.rest) == (by_hand, before)
    assert count.fraction == by_hand / before


@pytest.mark.parametrize(
    ("backbone", "hidden", "sharing", "percent"),
    [
        ("dinov3-vitb16", 8, RouterSharing.BLOCK, 0.47),
        ("dinov3-vitb16", 16, RouterSharing.BLOCK, 0.50),
        ("dinov3-vitb16", 768 // 4, RouterSharing.MODEL, 0.60),
    ],
)
def test_five_layers_of_dinov3_b_add_what_the_design_says(
    tiny_config: TinyConfig, backbone: str, hidden: int, sharing: RouterSharing, percent: float
) -> None:
    from molre_edge.model.defaults import default_config

    config = default_config(backbone)
    with torch.device("meta"):
        wide = ModelConfig(
            backbone=config.backbone,
            grid=config.grid,
            adapter=config.adapter,
            router=RouterConfig(hidden=hidden, sharing=sharing),
            budget=1.0,
        )
        count = count_parameters(HeadCTClassifier(wide))
    pooling_and_head = (768 * 128 + 128 + 128 + 1) + (768 * 75 + 75)
    routers = 5 if sharing is RouterSharing.BLOCK else 1
    assert len(config.adapter.modules) == 5
    assert count.rest == 85_660_416 + pooling_and_head
    assert count.added == 5 * 6 * 8 * 2 * 768 + routers * (768 * hidden + hidden + hidden * 6 + 6)
    assert round(100 * count.fraction, 2) == percent


def test_fourteen_layers_of_dinov3_l_with_a_router_each_stay_below_half_a_percent() -> None:
    from molre_edge.model.defaults import default_config

    config = default_config("dinov3-vitl16")
    with torch.device("meta"):
        count = count_parameters(HeadCTClassifier(config))
    assert len(config.adapter.modules) == 14
    assert count.added == 14 * (6 * 8 * 2 * 1024 + 1024 * 8 + 8 + 8 * 6 + 6)
    assert count.rest == 303_129_600 + (1024 * 128 + 128 + 128 + 1) + (1024 * 75 + 75)
    assert 0.0049 < count.fraction <= 0.005


def test_more_than_the_budget_is_refused_unless_asked_for(tiny_config: TinyConfig) -> None:
    from molre_edge.model.defaults import default_config

    base = default_config("dinov3-vitb16")
    six = AdapterConfig(modules=tuple(f"layer.{i}.attention.o_proj" for i in range(6, 12)))
    with torch.device("meta"):
        with pytest.raises(ConfigError, match=r"add 479,604 parameters to 85,816,652, 0.56%, but the budget is 0.50%"):
            HeadCTClassifier(ModelConfig(backbone=base.backbone, grid=base.grid, adapter=six))
        asked = HeadCTClassifier(ModelConfig(backbone=base.backbone, grid=base.grid, adapter=six, budget=0.006))
    assert count_parameters(asked).added == 479_604


def test_a_frozen_model_adds_nothing(tiny_config: TinyConfig) -> None:
    model = HeadCTClassifier(tiny_config(experts=0, budget=0.0))
    assert count_parameters(model).added == 0
