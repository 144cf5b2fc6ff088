"""Gates: where they come from, what they sum to, and what the model reports of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from molre_edge.model.config import Routing
from molre_edge.model.routing import Router, RoutingState, Site

WIDTH, EXPERTS, BATCH, SLICES, TOKENS = 5, 3, 2, 4, 6


def drawn_router(seed: int = 0, temperature: float = 1.0) -> Router:
    """The same router for the same seed, so that a test can ask the one that a state holds."""
    router = Router(WIDTH, 4, EXPERTS, temperature)
    generator = torch.Generator().manual_seed(seed)
    for parameter in router.parameters():
        parameter.normal_(generator=generator)
    return router


def drawn_state(level: Routing, routers: int = 1) -> RoutingState:
    state = RoutingState(level, nn.ModuleList([drawn_router(seed) for seed in range(routers)]))
    state.start(SLICES)
    return state


def slices_of_tokens() -> Tensor:
    return torch.randn(BATCH * SLICES, TOKENS, WIDTH, generator=torch.Generator().manual_seed(7))


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3), st.floats(0, 1e6))
def test_gates_sum_to_one_whatever_the_input(seed: int, temperature: float, scale: float) -> None:
    router = drawn_router(seed, temperature)
    gates = router(torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(seed)) * scale)
    assert gates.shape == (4, EXPERTS)
    assert bool((gates >= 0).all())
    torch.testing.assert_close(gates.sum(-1), torch.ones(4))


def test_a_router_is_two_layers_and_a_softmax() -> None:
    router, x = drawn_router(), torch.randn(4, WIDTH)
    hidden = x @ router.fc1.weight.T + router.fc1.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))  # the exact GELU
    e = torch.exp(hidden @ router.fc2.weight.T + router.fc2.bias)
    torch.testing.assert_close(router(x), e / e.sum(-1, keepdim=True))


def test_a_temperature_divides_the_logits() -> None:
    x = torch.randn(4, WIDTH)
    plain, warm = drawn_router()(x), drawn_router(temperature=3.0)(x)
    torch.testing.assert_close(warm, torch.softmax(torch.log(plain) / 3.0, dim=-1))
    assert bool((warm.max(-1).values < plain.max(-1).values).all())


def test_a_standardised_router_subtracts_and_divides_first() -> None:
    x, plain, router = torch.randn(4, WIDTH), drawn_router(), Router(WIDTH, 4, EXPERTS, standardise=True)
    router.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(router(x), plain(x))  # mean 0 and deviation 1 until they are measured
    router.mean.copy_(torch.randn(WIDTH))
    router.std.copy_(torch.rand(WIDTH) + 0.1)
    torch.testing.assert_close(router(x), plain((x - router.mean) / router.std))


def test_under_autocast_gates_are_computed_in_float32() -> None:
    state, x = drawn_state(Routing.SLICE), slices_of_tokens() + 100.0  # bfloat16 keeps nothing after the point here
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gates = state.gates(0, x, Site.SLICES)
    torch.testing.assert_close(gates, drawn_router()(x.mean(1)))


def test_slice_routing_averages_the_tokens_of_a_slice() -> None:
    state, x = drawn_state(Routing.SLICE), slices_of_tokens()
    want = drawn_router()(x.mean(1))
    torch.testing.assert_close(state.gates(0, x, Site.SLICES), want)
    torch.testing.assert_close(state.report(), want.reshape(BATCH, SLICES, 1, EXPERTS))
    assert len({tuple(row) for row in want.tolist()}) == BATCH * SLICES


def test_volume_routing_averages_the_whole_volume_and_every_slice_gets_its_gates() -> None:
    state, x = drawn_state(Routing.VOLUME), slices_of_tokens()
    want = drawn_router()(x.reshape(BATCH, SLICES * TOKENS, WIDTH).mean(1))
    applied = state.gates(0, x, Site.SLICES).reshape(BATCH, SLICES, EXPERTS)
    for at in range(SLICES):
        torch.testing.assert_close(applied[:, at], want)
    torch.testing.assert_close(state.report(), want.reshape(BATCH, 1, 1, EXPERTS))


def test_token_routing_averages_nothing_and_reports_the_means_of_slices() -> None:
    state, x = drawn_state(Routing.TOKEN), slices_of_tokens()
    want = drawn_router()(x)
    torch.testing.assert_close(state.gates(0, x, Site.SLICES), want)
    torch.testing.assert_close(state.report(), want.mean(1).reshape(BATCH, SLICES, 1, EXPERTS))


@pytest.mark.parametrize("level", [Routing.SLICE, Routing.TOKEN])
def test_in_the_pooling_each_slice_has_its_gates(level: Routing) -> None:
    state, x = drawn_state(level), torch.randn(BATCH, SLICES, WIDTH)
    want = drawn_router()(x)
    torch.testing.assert_close(state.gates(0, x, Site.POOLING), want)
    torch.testing.assert_close(state.report(), want.unsqueeze(2))


def test_in_the_pooling_volume_routing_averages_the_slices() -> None:
    state, x = drawn_state(Routing.VOLUME), torch.randn(BATCH, SLICES, WIDTH)
    want = drawn_router()(x.mean(1))
    torch.testing.assert_close(state.gates(0, x, Site.POOLING), want)
    assert state.report().shape == (BATCH, 1, 1, EXPERTS)


@pytest.mark.parametrize("level", list(Routing))
def test_after_the_pooling_each_volume_has_its_gates(level: Routing) -> None:
    state, x = drawn_state(level), torch.randn(BATCH, WIDTH)
    want = drawn_router()(x)
    torch.testing.assert_close(state.gates(0, x, Site.VOLUME), want)
    torch.testing.assert_close(state.report(), want.reshape(BATCH, 1, 1, EXPERTS))


def test_in_a_3d_backbone_token_gates_are_reported_as_means_of_the_volume() -> None:
    state, x = drawn_state(Routing.TOKEN), torch.randn(BATCH, TOKENS, WIDTH)
    want = drawn_router()(x)
    torch.testing.assert_close(state.gates(0, x, Site.VOLUME), want)
    torch.testing.assert_close(state.report(), want.mean(1).reshape(BATCH, 1, 1, EXPERTS))


@pytest.mark.parametrize("level", [Routing.SLICE, Routing.VOLUME])
def test_in_a_3d_backbone_the_whole_volume_is_averaged(level: Routing) -> None:
    state, x = drawn_state(level), torch.randn(BATCH, TOKENS, WIDTH)
    torch.testing.assert_close(state.gates(0, x, Site.VOLUME), drawn_router()(x.mean(1)))
    assert state.report().shape == (BATCH, 1, 1, EXPERTS)


def test_gates_of_a_volume_repeat_along_the_slices_beside_gates_of_slices() -> None:
    state = drawn_state(Routing.SLICE, routers=2)
    head = torch.randn(BATCH, WIDTH)
    state.gates(1, head, Site.VOLUME)
    state.gates(0, slices_of_tokens(), Site.SLICES)
    report = state.report()
    assert report.shape == (BATCH, SLICES, 2, EXPERTS)
    for at in range(SLICES):
        torch.testing.assert_close(report[:, at, 1], drawn_router(1)(head))


def test_layers_of_one_group_share_the_gates_that_the_first_asked_for() -> None:
    state = drawn_state(Routing.SLICE)
    first = state.gates(0, slices_of_tokens(), Site.SLICES)
    assert state.gates(0, slices_of_tokens() + 1, Site.SLICES) is first
    state.start(SLICES)
    assert not torch.equal(state.gates(0, slices_of_tokens() + 1, Site.SLICES), first)


def test_a_router_that_was_not_asked_is_named() -> None:
    state = drawn_state(Routing.SLICE, routers=2)
    state.gates(0, slices_of_tokens(), Site.SLICES)
    with pytest.raises(RuntimeError, match=r"routers \[1\] were not asked"):
        state.report()
