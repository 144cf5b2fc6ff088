"""What was trained, in adapter form: the model computes the same from it, and no number is left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from molre_edge.errors import AdapterError
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import RouterConfig
from molre_edge.model.trained import adapter_form, load_trained, trained_specs, trained_states, trained_tensors

MODULES = ("layer.1.attention.o_proj", "patch_embeddings", "pooling.project", "head")
MakeModel = Callable[..., HeadCTClassifier]


def test_names_are_the_modules_sorted_and_cover_all_but_the_frozen_backbone(tiny_model: MakeModel) -> None:
    model = tiny_model(*MODULES)
    names = list(trained_tensors(model))
    assert names == sorted(names) == [spec.name for spec in trained_specs(model)]
    assert {name.split(".")[1] for name in names} == {"backbone", "routers", "pooling", "head"}
    of_backbone = [name for name in names if name.startswith("adapter.backbone.")]
    assert {name.rpartition(".")[2] for name in of_backbone} == {"A", "B"} and len(of_backbone) == 4
    assert {"adapter.head.A", "adapter.pooling.project.bias", "adapter.routers.3.std"} <= {*names}


@pytest.mark.parametrize("temperature", [1.0, 0.4])
@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("experts", [1, 3])
def test_a_model_in_adapter_form_answers_as_it_did(
    temperature: float, standardise: bool, experts: int, tiny_model: MakeModel, volumes: Tensor
) -> None:
    router = RouterConfig(hidden=4, temperature=temperature, standardise=standardise)
    model = tiny_model(*MODULES, router=router, experts=experts)
    before, tensors = model(volumes), trained_tensors(model)
    other = copy.deepcopy(model)
    for value in other.parameters():
        if value.requires_grad:
            value.add_(1.0)
    assert not torch.allclose(other(volumes).logits, before.logits)
    load_trained(other, tensors)
    after = other(volumes)
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after.gates, before.gates, rtol=1e-5, atol=1e-6)
    assert all(np.array_equal(value, tensors[name]) for name, value in trained_tensors(other).items())


def test_alpha_over_r_is_in_b_and_the_temperature_in_the_last_layer(tiny_model: MakeModel) -> None:
    model = tiny_model(router=RouterConfig(hidden=4, temperature=0.5))
    tensors, state = trained_tensors(model), model.state_dict()
    expert = "backbone.layer.1.attention.o_proj"
    assert np.array_equal(tensors[f"adapter.{expert}.B"], 2.0 * state[f"{expert}.lora_B"].numpy())  # alpha 4, r 2
    assert np.array_equal(tensors[f"adapter.{expert}.A"], state[f"{expert}.lora_A"].numpy())
    assert np.array_equal(tensors["adapter.routers.0.fc2.weight"], 2.0 * state["routers.0.fc2.weight"].numpy())
    assert np.array_equal(tensors["adapter.routers.0.fc1.weight"], state["routers.0.fc1.weight"].numpy())


def test_the_form_ends_with_its_block_and_the_tensors_are_copies(tiny_model: MakeModel, volumes: Tensor) -> None:
    model = tiny_model(router=RouterConfig(hidden=4, temperature=0.5, standardise=False))
    before, names = model(volumes).logits, [*model.state_dict()]
    with pytest.raises(RuntimeError, match="on purpose"), adapter_form(model):
        assert "adapter.routers.0.mean" in trained_states(model)
        raise RuntimeError("on purpose")
    tensors = trained_tensors(model)
    for value in tensors.values():
        value[...] = 9.0
    assert [*model.state_dict()] == names
    assert torch.equal(model(volumes).logits, before)


def test_an_adapter_of_another_model_is_refused_and_changes_nothing(tiny_model: MakeModel, volumes: Tensor) -> None:
    model, other = tiny_model(), tiny_model(*MODULES)
    before = model(volumes).logits
    with pytest.raises(AdapterError, match=r"does not fit the PyTorch model: 0 tensors are missing .* unknown"):
        load_trained(model, trained_tensors(other))
    assert torch.equal(model(volumes).logits, before)
