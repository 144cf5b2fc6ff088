"""The whole model: what it answers, in every form of routing, and what adapting leaves alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.backbones import registry
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import BackboneConfig, ModelConfig, RouterConfig, RouterSharing, Routing
from molre_edge.specs import Grid

TinyModel = Callable[..., HeadCTClassifier]
TinyConfig = Callable[..., ModelConfig]
O_PROJ, POOLING, HEAD = "layer.1.attention.o_proj", "pooling.project", "head"


class Cubes(nn.Module):
    """A 3D backbone: a convolution over cubes, tokens through a linear layer, their mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed_dim = 4
        self.stem = nn.Conv3d(channels, 4, (1, 8, 8), (1, 8, 8))
        self.mix = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # [batch, tokens, 4]
        return self.mix(tokens).mean(1)


@pytest.fixture
def cubes(monkeypatch: pytest.MonkeyPatch) -> BackboneConfig:
    """A 3D backbone in the registry, for one test."""

    def build(grid: Grid, channels: int, options: Mapping[str, Any]) -> nn.Module:
        return Cubes(channels)

    def load(module: nn.Module, folder: Path) -> None:
        raise NotImplementedError

    entry = registry.BackboneEntry(
        id="cubes", dimensions=3, parameters=None, grid=Grid(slices=3, rows=32, cols=32), mean=(0.5,), std=(0.5,),
        adapted=("mix",), build=build, load=load, source="this test",
    )  # fmt: skip
    monkeypatch.setitem(registry.ENTRIES, entry.id, entry)
    return BackboneConfig(id=entry.id)


def level(name: str, sharing: RouterSharing = RouterSharing.BLOCK) -> RouterConfig:
    return RouterConfig(level=Routing(name), sharing=sharing, hidden=4)


@pytest.mark.parametrize(
    ("routing", "modules", "slices", "routers"),
    [
        ("slice", (O_PROJ,), 3, 1),
        ("volume", (O_PROJ,), 1, 1),
        ("token", (O_PROJ,), 3, 1),
        ("slice", (POOLING,), 3, 1),
        ("volume", (POOLING,), 1, 1),
        ("token", (POOLING,), 3, 1),
        ("slice", (HEAD,), 1, 1),
        ("volume", (HEAD,), 1, 1),
        ("token", (HEAD,), 1, 1),
        ("slice", (O_PROJ, POOLING, HEAD), 3, 3),
        ("volume", (O_PROJ, POOLING, HEAD), 1, 3),
        ("token", (O_PROJ, POOLING, HEAD), 3, 3),
        ("slice", ("patch_embeddings", "*.q_proj", "*.v_proj", "*.o_proj"), 3, 3),
    ],
)
def test_gates_have_an_entry_for_each_slice_or_one_for_the_volume(
    tiny_model: TinyModel, volumes: Tensor, routing: str, modules: tuple[str, ...], slices: int, routers: int
) -> None:
    answer = tiny_model(*modules, router=level(routing))(volumes)
    assert answer.logits.shape == (2, 2)
    assert answer.embedding.shape == (2, 64)
    assert answer.gates is not None
    assert answer.gates.shape == (2, slices, routers, 3)
    torch.testing.assert_close(answer.gates.sum(-1), torch.ones(2, slices, routers))


@pytest.mark.parametrize("routing", ["slice", "volume"])
def test_a_3d_backbone_has_one_gate_vector_a_volume(
    tiny_model: TinyModel, cubes: BackboneConfig, volumes: Tensor, routing: str
) -> None:
    answer = tiny_model("stem", "mix", "head", backbone=cubes, router=level(routing))(volumes)
    assert answer.gates is not None
    assert answer.gates.shape == (2, 1, 3, 3)
    assert answer.embedding.shape == (2, 4)


def test_a_3d_backbone_with_token_routing_reports_the_volumes_mean(
    tiny_model: TinyModel, cubes: BackboneConfig, volumes: Tensor
) -> None:
    gates = tiny_model("mix", backbone=cubes, router=level("token"))(volumes).gates
    assert gates is not None
    assert gates.shape == (2, 1, 1, 3)


def test_gates_after_the_pooling_repeat_along_the_slices(tiny_model: TinyModel, volumes: Tensor) -> None:
    gates = tiny_model(O_PROJ, HEAD)(volumes).gates
    assert gates is not None
    assert torch.equal(gates[:, :1, 1].expand(-1, 3, -1), gates[:, :, 1])
    assert not torch.equal(gates[:, :1, 0].expand(-1, 3, -1), gates[:, :, 0])


def test_gates_follow_the_volume(tiny_model: TinyModel, volumes: Tensor) -> None:
    for routing in Routing:
        gates = tiny_model(O_PROJ, router=RouterConfig(level=routing, hidden=4))(volumes).gates
        assert gates is not None
        assert (gates[0] - gates[1]).abs().max() > 1e-4


def test_a_router_reads_the_adapted_modules_own_input(tiny_model: TinyModel, volumes: Tensor) -> None:
    model = tiny_model(O_PROJ)
    seen: list[Tensor] = []
    model.get_submodule(f"backbone.{O_PROJ}").register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    gates = model(volumes).gates
    assert gates is not None
    torch.testing.assert_close(gates[:, :, 0], model.routers[0](seen[0].mean(1)).reshape(2, 3, 3))


@pytest.mark.parametrize("modules", [(O_PROJ,), ("patch_embeddings", "*_proj"), (O_PROJ, POOLING, HEAD)])
@pytest.mark.parametrize("experts", [1, 6])
def test_new_adapters_change_no_answer(
    tiny_config: TinyConfig, volumes: Tensor, modules: tuple[str, ...], experts: int
) -> None:
    torch.manual_seed(0)
    plain = HeadCTClassifier(tiny_config(experts=0)).eval()
    # the rank and the routers' sharing let all projections be adapted at once
    router = RouterConfig(hidden=4, sharing=RouterSharing.MODULE)
    adapted = HeadCTClassifier(tiny_config(*modules, experts=experts, router=router)).eval()
    weights = plain.state_dict()
    own = adapted.state_dict()
    adapted.load_state_dict(own | {name: weights[name.replace(".base.", ".")] for name in own if ".base." in name}
                            | {name: weights[name] for name in own if name in weights})  # fmt: skip
    want, got = plain(volumes), adapted(volumes)
    assert any(isinstance(module, AdaptedLayer) for module in adapted.modules())
    assert torch.equal(got.logits, want.logits)
    assert torch.equal(got.embedding, want.embedding)


def test_without_experts_there_are_no_gates_and_no_adapted_layer(tiny_model: TinyModel, volumes: Tensor) -> None:
    model = tiny_model(O_PROJ, experts=0)
    assert model(volumes).gates is None
    assert not any(isinstance(module, AdaptedLayer) for module in model.modules())
    assert len(model.routers) == 0


def test_one_expert_has_gates_of_one_and_no_router(tiny_model: TinyModel, volumes: Tensor) -> None:
    model = tiny_model(O_PROJ, HEAD, experts=1)
    gates = model(volumes).gates
    assert gates is not None
    assert torch.equal(gates, torch.ones(2, 1, 2, 1))
    assert sum(p.numel() for p in model.routers.parameters()) == 0


def test_one_expert_is_lora_merged_into_the_frozen_weights(tiny_model: TinyModel, volumes: Tensor) -> None:
    model = tiny_model(O_PROJ, experts=1)
    answer = model(volumes)
    layer = model.get_submodule(f"backbone.{O_PROJ}")
    assert isinstance(layer, AdaptedLayer)
    assert isinstance(layer.base, nn.Linear)
    layer.base.weight += 4.0 / 2 * layer.lora_B @ layer.lora_A  # alpha / r
    layer.lora_B.zero_()
    torch.testing.assert_close(answer.logits, model(volumes).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("routing", list(Routing))
@pytest.mark.parametrize("sharing", list(RouterSharing))
def test_a_volumes_answer_does_not_depend_on_its_batch(
    tiny_model: TinyModel, volumes: Tensor, routing: Routing, sharing: RouterSharing
) -> None:
    model = tiny_model("*.o_proj", POOLING, HEAD, router=RouterConfig(level=routing, sharing=sharing, hidden=4))
    together = model(volumes)
    for i in range(2):
        alone = model(volumes[i : i + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[i], rtol=1e-4, atol=1e-5)
        assert alone.gates is not None and together.gates is not None
        torch.testing.assert_close(alone.gates[0], together.gates[i], rtol=1e-4, atol=1e-5)


def test_layers_that_share_a_router_share_its_gates(tiny_model: TinyModel, volumes: Tensor) -> None:
    """The second layer of the group takes the gates of the first, so its own input does not route."""
    model = tiny_model("*.o_proj", router=level("slice", RouterSharing.MODEL))
    first: list[Tensor] = []
    model.get_submodule("backbone.layer.0.attention.o_proj").register_forward_pre_hook(
        lambda module, args: first.append(args[0])
    )
    gates = model(volumes).gates
    assert gates is not None
    assert gates.shape[2] == 1
    torch.testing.assert_close(gates[:, :, 0], model.routers[0](first[0].mean(1)).reshape(2, 3, 3))


def test_one_pass_leaves_nothing_to_the_next(tiny_model: TinyModel, volumes: Tensor) -> None:
    model = tiny_model(O_PROJ, HEAD)
    first = model(volumes)
    model(volumes.flip(0)[:, :2])  # another number of slices between
    again = model(volumes)
    assert torch.equal(again.logits, first.logits)
    assert first.gates is not None and again.gates is not None
    assert torch.equal(again.gates, first.gates)


def test_a_copy_routes_with_its_own_routers(tiny_model: TinyModel, volumes: Tensor) -> None:
    model = tiny_model(O_PROJ)
    twin = copy.deepcopy(model)
    before = model(volumes).logits
    twin.routers[0].fc2.bias += torch.tensor([9.0, 0.0, 0.0])
    gates = twin(volumes).gates
    assert gates is not None
    assert gates[..., 0].min() > 0.9
    assert torch.equal(model(volumes).logits, before)


def test_features_and_classify_are_the_whole_in_two_steps(tiny_model: TinyModel, volumes: Tensor) -> None:
    model = tiny_model(POOLING, HEAD)
    assert model.features_are_frozen
    whole, parts = model(volumes), model.classify(model.features(volumes))
    assert torch.equal(parts.logits, whole.logits)
    assert whole.gates is not None and parts.gates is not None
    assert torch.equal(parts.gates, whole.gates)
    assert not tiny_model(O_PROJ, HEAD).features_are_frozen


def test_only_the_pretrained_backbone_is_frozen(tiny_model: TinyModel) -> None:
    model = tiny_model(O_PROJ, POOLING, HEAD)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    backbone = {name for name, _ in model.named_parameters() if name.startswith("backbone.")}
    assert frozen == backbone - {f"backbone.{O_PROJ}.lora_A", f"backbone.{O_PROJ}.lora_B"}


def test_slices_are_pooled_whatever_their_order(tiny_model: TinyModel, volumes: Tensor) -> None:
    model = tiny_model(O_PROJ)
    torch.testing.assert_close(model(volumes).logits, model(volumes.flip(1)).logits, rtol=1e-4, atol=1e-5)


def test_other_windows_than_three_get_the_mean_normalisation(tiny_config: TinyConfig, volumes: Tensor) -> None:
    config = replace(tiny_config(), windows=((40.0, 80.0),))
    model = HeadCTClassifier(config)
    assert model.intensity.mean.flatten().tolist() == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert model(volumes).logits.shape == (2, 2)
