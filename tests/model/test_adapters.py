"""The stacked form is the sum over experts; K = 1 is LoRA; with B at zero nothing changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from molre_edge.model.adapters import AdaptedLayer, MoLREConv2d, MoLREConv3d, MoLRELinear, adapt_layer
from molre_edge.model.config import Routing
from molre_edge.model.routing import Router, RoutingState, Site

small = st.integers(1, 4)
seeds = st.integers(0, 2**31)
examples = settings(max_examples=20)


def adapted(base: nn.Module, *, experts: int, rank: int, alpha: float, level: Routing = Routing.SLICE) -> AdaptedLayer:
    """A layer on its own, of double precision, whose experts and router are drawn at random; units are slices."""
    layer = adapt_layer(base, experts=experts, rank=rank, alpha=alpha, site=Site.SLICES, group=0).double()
    nn.init.normal_(layer.lora_B)
    router = Router(layer.in_width, 3, experts).double()
    for parameter in router.parameters():
        nn.init.normal_(parameter)
    layer.router = nn.ModuleList([router])  # kept for the test's own sum
    state = RoutingState(level, layer.router)
    state.start(1)
    layer.listen_to(state)
    return layer


def sum_over_experts(layer: AdaptedLayer, x: Tensor, gates: Tensor, apply: Any) -> Tensor:
    """The formula as it is written; `apply(k)` is B_k A_k x and `gates` [units, K]."""
    h = layer.base(x)
    for unit in range(x.shape[0]):
        for k in range(layer.experts):
            h[unit] += gates[unit, k] * layer.scale * apply(k)[unit]
    return h


@examples
@given(small, st.lists(small, max_size=2), small, small, st.integers(2, 5), st.integers(1, 3), st.booleans(), seeds)
def test_a_stacked_linear_layer_is_the_sum_over_its_experts(
    units: int, between: list[int], d_in: int, d_out: int, experts: int, rank: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = adapted(nn.Linear(d_in, d_out, bias=bias), experts=experts, rank=rank, alpha=3.0)
    x = torch.randn(units, *between, d_in, dtype=torch.float64)

    def expert(k: int) -> Tensor:
        rows = slice(k * rank, (k + 1) * rank)
        return x @ layer.lora_A[rows].T @ layer.lora_B[:, rows].T

    gates = layer.router[0](x.reshape(units, -1, d_in).mean(1))
    torch.testing.assert_close(layer(x), sum_over_experts(layer, x, gates, expert), rtol=0, atol=1e-10)


@examples
@given(
    st.sampled_from([2, 3]), small, small, small, st.integers(2, 4), st.integers(1, 3), st.booleans(),
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2)), seeds,
)  # fmt: skip
def test_a_stacked_convolution_is_the_sum_over_its_experts(
    dims: int, units: int, c_in: int, c_out: int, experts: int, rank: int, bias: bool,
    geometry: tuple[int, int, int, int], seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    kernel, stride, padding, dilation = geometry
    kind, convolve = (nn.Conv2d, F.conv2d) if dims == 2 else (nn.Conv3d, F.conv3d)
    base = kind(c_in, c_out, kernel, stride, padding, dilation, bias=bias)
    layer = adapted(base, experts=experts, rank=rank, alpha=3.0)
    x = torch.randn(units, c_in, *(5, 6, 5)[:dims], dtype=torch.float64)

    def expert(k: int) -> Tensor:
        rows = slice(k * rank, (k + 1) * rank)
        down = convolve(x, layer.lora_A[rows], None, stride, padding, dilation)
        return torch.einsum("ur...,or->uo...", down, layer.lora_B[:, rows])

    gates = layer.router[0](x.flatten(2).mean(2))
    torch.testing.assert_close(layer(x), sum_over_experts(layer, x, gates, expert), rtol=0, atol=1e-10)


@examples
@given(small, small, small, small, st.integers(2, 4), seeds)
def test_with_token_routing_each_token_has_its_own_sum(
    units: int, tokens: int, d_in: int, d_out: int, experts: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = adapted(nn.Linear(d_in, d_out), experts=experts, rank=2, alpha=3.0, level=Routing.TOKEN)
    x = torch.randn(units, tokens, d_in, dtype=torch.float64)
    got = layer(x)
    for token in range(tokens):
        alone = x[:, token]
        gates = layer.router[0](alone)
        parts = [alone @ a.T @ b.T for a, b in zip(layer.lora_A.split(2), layer.lora_B.split(2, dim=1), strict=True)]
        want = layer.base(alone) + sum(gates[:, [k]] * layer.scale * part for k, part in enumerate(parts))
        torch.testing.assert_close(got[:, token], want, rtol=0, atol=1e-10)


@examples
@given(small, small, small, st.integers(1, 4), st.floats(0.1, 64), seeds)
def test_one_expert_is_lora(tokens: int, d_in: int, d_out: int, rank: int, alpha: float, seed: int) -> None:
    torch.manual_seed(seed)
    base = nn.Linear(d_in, d_out).double()
    layer = adapt_layer(base, experts=1, rank=rank, alpha=alpha, site=Site.SLICES, group=0).double()
    nn.init.normal_(layer.lora_B)
    merged = base.weight + alpha / rank * layer.lora_B @ layer.lora_A
    x = torch.randn(2, tokens, d_in, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.linear(x, merged, base.bias), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d])
def test_one_expert_is_lora_in_convolutions_too(kind: type[nn.Conv2d | nn.Conv3d]) -> None:
    torch.manual_seed(0)
    base = kind(2, 3, 3, padding=1).double()
    layer = adapt_layer(base, experts=1, rank=2, alpha=4.0, site=Site.VOLUME, group=0).double()
    nn.init.normal_(layer.lora_B)
    x = torch.randn(2, 2, *(4, 5, 6)[: layer.lora_A.dim() - 2], dtype=torch.float64)
    answer = layer(x)
    base.weight += 4.0 / 2 * torch.einsum("or,r...->o...", layer.lora_B, layer.lora_A)
    torch.testing.assert_close(answer, base(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("experts", [1, 4])
@pytest.mark.parametrize(
    ("base", "shape"),
    [(nn.Linear(5, 4), (3, 7, 5)), (nn.Conv2d(2, 3, 3), (3, 2, 6, 6)), (nn.Conv3d(2, 3, 3), (3, 2, 6, 6, 6))],
    ids=["Linear", "Conv2d", "Conv3d"],
)
def test_a_new_adapter_changes_nothing(base: nn.Module, shape: tuple[int, ...], experts: int) -> None:
    x = torch.randn(shape)
    before = base(x)
    layer = adapt_layer(base, experts=experts, rank=2, alpha=16.0, site=Site.SLICES, group=0)
    state = RoutingState(Routing.SLICE, nn.ModuleList([Router(layer.in_width, 3, experts)]))
    state.start(1)
    layer.listen_to(state)
    assert torch.count_nonzero(layer.lora_B) == 0
    assert torch.count_nonzero(layer.lora_A) == layer.lora_A.numel()
    assert torch.equal(layer(x), before)


def test_experts_learn_and_the_adapted_layer_does_not() -> None:
    layer = adapt_layer(nn.Linear(5, 4), experts=2, rank=2, alpha=16.0, site=Site.SLICES, group=0)
    assert {name for name, p in layer.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_every_expert_starts_as_peft_starts_lora() -> None:
    torch.manual_seed(0)
    layer = adapt_layer(nn.Linear(100, 4), experts=6, rank=8, alpha=16.0, site=Site.SLICES, group=0)
    for expert in layer.lora_A.split(8):  # uniform within 1 / sqrt(d_in)
        assert 0.09 < expert.abs().max() <= 0.1


@pytest.mark.parametrize(
    ("base", "form"),
    [(nn.Linear(2, 2), MoLRELinear), (nn.Conv2d(2, 2, 1), MoLREConv2d), (nn.Conv3d(2, 2, 1), MoLREConv3d)],
)
def test_each_kind_of_layer_has_its_adapted_form(base: nn.Module, form: type[AdaptedLayer]) -> None:
    assert type(adapt_layer(base, experts=2, rank=1, alpha=1.0, site=Site.SLICES, group=0)) is form


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (nn.Conv1d(2, 2, 1), "Conv1d can't be adapted; Linear, Conv2d and Conv3d can"),
        (nn.LayerNorm(2), "LayerNorm can't be adapted"),
        (nn.Conv2d(2, 2, 1, groups=2), "groups = 1"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "numeric zero padding"),
        (nn.Conv3d(2, 2, 3, padding="same"), "numeric zero padding"),
    ],
)
def test_other_layers_are_refused_by_name(base: nn.Module, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        adapt_layer(base, experts=2, rank=1, alpha=1.0, site=Site.SLICES, group=0)


def test_a_layer_that_nobody_routes_says_so() -> None:
    layer = adapt_layer(nn.Linear(2, 2), experts=2, rank=1, alpha=1.0, site=Site.SLICES, group=0)
    with pytest.raises(RuntimeError, match="no routing state"):
        layer(torch.zeros(1, 2))
