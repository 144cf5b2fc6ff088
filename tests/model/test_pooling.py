"""Attention pooling over slices."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molre_edge.model.pooling import AttentionPooling


def drawn_pooling(seed: int = 0) -> AttentionPooling:
    torch.manual_seed(seed)
    pooling = AttentionPooling(5, 3)
    for parameter in pooling.parameters():
        torch.nn.init.normal_(parameter)
    return pooling


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 2**31))
def test_a_volume_is_the_weighted_sum_of_its_slices(batch: int, slices: int, seed: int) -> None:
    pooling = drawn_pooling(seed)
    x = torch.randn(batch, slices, 5)
    got, attention = pooling(x)
    assert got.shape == (batch, 5) and attention.shape == (batch, slices)
    for b in range(batch):
        scores = [float(pooling.score(torch.tanh(pooling.project(x[b, s])))) for s in range(slices)]
        weights = torch.exp(torch.tensor(scores) - max(scores))
        want = sum(weights[s] / weights.sum() * x[b, s] for s in range(slices))
        torch.testing.assert_close(got[b], want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(attention[b], weights / weights.sum(), rtol=1e-4, atol=1e-5)


def test_equal_slices_pool_to_themselves() -> None:
    x = torch.randn(2, 1, 5)
    torch.testing.assert_close(drawn_pooling()(x.expand(2, 7, 5))[0], x[:, 0])


def test_the_order_of_slices_does_not_matter() -> None:
    x = torch.randn(2, 6, 5)
    torch.testing.assert_close(drawn_pooling()(x)[0], drawn_pooling()(x[:, torch.randperm(6)])[0])


def test_a_slice_that_scores_high_is_what_counts() -> None:
    pooling = drawn_pooling()
    pooling.project.weight.copy_(torch.eye(3, 5))
    pooling.project.bias.zero_()
    pooling.score.weight.copy_(torch.tensor([[50.0, 0.0, 0.0]]))
    x = torch.randn(1, 4, 5)
    x[..., 0] = torch.tensor([-2.0, 2.0, -2.0, -2.0])
    torch.testing.assert_close(pooling(x)[0][0], x[0, 1])
