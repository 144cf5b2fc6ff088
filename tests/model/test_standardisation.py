"""What routers read is brought to mean 0 and deviation 1, with constants that are measured once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import RouterConfig, Routing
from molre_edge.model.routing import Router
from molre_edge.model.standardisation import standardise_routers

PLACES = ("layer.1.attention.o_proj", "pooling.project", "head")


def inputs_of(model: HeadCTClassifier, volumes: Tensor) -> list[Tensor]:
    """What each router reads, as rows."""
    rows: list[Tensor] = []
    handles = [
        router.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].flatten(0, -2)))
        for router in model.routers
    ]
    model(volumes)
    for handle in handles:
        handle.remove()
    return rows


@pytest.fixture
def scans() -> Tensor:
    """Five volumes: [5, 3, 32, 32]."""
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 60 + 30


@pytest.mark.parametrize("level", ["slice", "volume", "token"])
def test_each_router_gets_mean_and_deviation_of_its_own_input_at_every_level(
    level: str, tiny_model: Callable[..., HeadCTClassifier], scans: Tensor
) -> None:
    model = tiny_model(*PLACES, router=RouterConfig(level=Routing(level), hidden=4, standardise=True))
    rows = inputs_of(model, scans)
    units = {"slice": 5 * 3, "volume": 5, "token": 5 * 3 * 5}[
        level
    ]  # a tiny slice: 4 patches, no more than a class token
    assert rows[0].shape[0] >= units and rows[-1].shape[0] == 5
    standardise_routers(model, lambda: model(scans))
    for router, values in zip(model.routers, rows, strict=True):
        deviation = values.std(0, correction=0)
        least = 0.1 * deviation.square().mean().sqrt()
        torch.testing.assert_close(router.mean, values.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(router.std, deviation.clamp_min(float(least)), rtol=1e-3, atol=1e-6)


def test_batches_count_together(tiny_model: Callable[..., HeadCTClassifier], scans: Tensor) -> None:
    router = RouterConfig(hidden=4, standardise=True)
    one, two = tiny_model(router=router), tiny_model(router=router)
    standardise_routers(one, lambda: one(scans))
    standardise_routers(two, lambda: [two(scans[:2]), two(scans[2:])])
    torch.testing.assert_close(two.routers[0].mean, one.routers[0].mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(two.routers[0].std, one.routers[0].std, rtol=1e-4, atol=1e-6)


def test_a_feature_that_hardly_varies_is_not_made_large() -> None:
    router = Router(3, 4, 2, standardise=True)
    values = torch.tensor([[1.0, 5.0, 7.0], [3.0, 5.0, 7.0 + 1e-4]])
    standardise_routers(router, lambda: router(values))
    least = 0.1 * (1 / 3) ** 0.5  # a tenth of the root mean square of 1, 0 and 5e-5
    torch.testing.assert_close(router.std, torch.tensor([1.0, least, least]))
    standardise_routers(router, lambda: router(torch.ones(4, 3)))  # all alike: still something to divide by
    assert bool((router.std > 0).all()) and bool(torch.isfinite(router(torch.ones(1, 3))).all())


def test_routers_of_a_model_without_it_stay_as_they_are(
    tiny_model: Callable[..., HeadCTClassifier], scans: Tensor
) -> None:
    model = tiny_model()
    before = model(scans)

    def never() -> None:
        raise AssertionError("there is nothing to measure")

    standardise_routers(model, never)
    assert torch.equal(model(scans).logits, before.logits)


def test_a_pass_that_fails_leaves_nothing_hanging_on_the_routers(
    tiny_model: Callable[..., HeadCTClassifier], scans: Tensor
) -> None:
    model = tiny_model(router=RouterConfig(hidden=4, standardise=True))

    def fail() -> None:
        raise OSError("a scan is gone")

    with pytest.raises(OSError, match="gone"):
        standardise_routers(model, fail)
    assert not model.routers[0]._forward_pre_hooks
    assert torch.equal(model.routers[0].std, torch.ones(64))
