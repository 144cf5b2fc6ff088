"""The focal loss is the formula, label by label."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.training.loss import focal_loss, prevalence_weights

LOGITS = st.floats(-20, 20, width=32)
LABELS = st.sampled_from([0.0, 1.0, float("nan")])


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]], list[float]]:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 4))

    def table(values: st.SearchStrategy[float]) -> list[list[float]]:
        row = st.lists(values, min_size=columns, max_size=columns)
        return draw(st.lists(row, min_size=rows, max_size=rows))

    weights = draw(st.lists(st.floats(1, 20), min_size=columns, max_size=columns))
    return table(LOGITS), table(LABELS), weights


def naive(logits: list[list[float]], labels: list[list[float]], weights: list[float], gamma: float) -> float:
    terms = []
    for row, truth in zip(logits, labels, strict=True):
        for x, y, w in zip(row, truth, weights, strict=True):
            p, q = 1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))
            if y == 1:
                terms.append(-w * q**gamma * math.log(p))
            elif y == 0:
                terms.append(-(p**gamma) * math.log(q))
    return sum(terms) / len(terms) if terms else 0.0


@given(batches(), st.sampled_from([0.0, 1.0, 2.0, 3.5]))
def test_it_is_the_mean_of_the_formula_over_the_known_labels(batch: Any, gamma: float) -> None:
    logits, labels, weights = batch
    got = focal_loss(torch.tensor(logits), torch.tensor(labels), torch.tensor(weights), gamma=gamma)
    assert float(got) == pytest.approx(naive(logits, labels, weights, gamma), rel=1e-4, abs=1e-6)


def test_with_gamma_2_as_the_paper_has_it_by_default() -> None:
    got = focal_loss(torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1))
    assert float(got) == pytest.approx(0.25 * math.log(2))


def test_an_unknown_label_sends_no_gradient() -> None:
    logits = torch.tensor([[3.0, -1.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([[float("nan"), 1.0]]), torch.ones(2)).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] == 0 and logits.grad[0, 1] < 0


def test_a_batch_without_any_known_label_is_worth_nothing_and_moves_nothing() -> None:
    logits = torch.ones(2, 3, requires_grad=True)
    loss = focal_loss(logits, torch.full((2, 3), float("nan")), torch.ones(3))
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("x", [-200.0, 200.0])
def test_a_logit_far_out_has_a_finite_loss_and_gradient(x: float, gamma: float) -> None:
    logits = torch.full((1, 2), x, requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[0.0, 1.0]]), torch.ones(2), gamma=gamma)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(100.0)
    assert bool(torch.isfinite(logits.grad).all())


def test_a_weight_is_absent_over_present_from_1_to_20() -> None:
    nan = float("nan")
    labels = torch.tensor([[1.0, 1.0, 0.0, nan, 1.0], [0.0, 1.0, 0.0, nan, nan], [0.0, 0.0, 0.0, nan, nan]])
    labels = torch.cat([labels, torch.tensor([[nan, nan, nan, nan, 0.0]] * 30)])
    assert prevalence_weights(labels).tolist() == [2.0, 1.0, 1.0, 1.0, 20.0]


@given(st.lists(st.sampled_from([0.0, 1.0, float("nan")]), min_size=1, max_size=40))
def test_present_and_absent_weigh_the_same_within_the_limits(column: list[float]) -> None:
    weight = float(prevalence_weights(torch.tensor(column)[:, None])[0])
    present, absent = column.count(1.0), column.count(0.0)
    assert weight == pytest.approx(float(np.clip(absent / present, 1, 20)) if present else 1.0)
