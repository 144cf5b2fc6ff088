"""An evaluation is what its parts are, counted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from molre_edge.parity import Outputs
from molre_edge.parity.auc import auc, auc_interval
from molre_edge.training.evaluation import Evaluation, evaluate_outputs

NAMES = ("plain", "unknown", "once", "never")


@pytest.fixture
def labels() -> np.ndarray:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2, (40, 4)).astype(np.float32)
    values[::3, 1] = np.nan
    values[:, 2] = 0
    values[5, 2] = 1
    values[:, 3] = np.nan
    return values


@pytest.fixture
def outputs(labels: np.ndarray) -> Outputs:
    """Logits that follow the labels somewhat; gates of two routers, of which the first follows the first finding."""
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1, labels.shape) + np.nan_to_num(labels)
    raw = rng.normal(0, 0.1, (40, 3, 2, 4))
    raw[:, :, 0, 1] += 2 * labels[:, 0, None]
    gates = np.exp(raw) / np.exp(raw).sum(-1, keepdims=True)
    return Outputs(logits, rng.normal(size=(40, 5)), gates)


@pytest.fixture
def result(outputs: Outputs, labels: np.ndarray) -> Evaluation:
    return evaluate_outputs(outputs, labels, NAMES, (0.5, 0.3, 0.5, 0.5), resamples=50)


def test_each_finding_is_counted_over_its_known_labels(
    result: Evaluation, outputs: Outputs, labels: np.ndarray
) -> None:
    assert [row.finding for row in result.findings] == list(NAMES)
    row, known = result.findings[1], ~np.isnan(labels[:, 1])
    p, positive = outputs.probabilities[known, 1], labels[known, 1] == 1
    assert (row.positives, row.negatives) == (positive.sum(), (~positive).sum())
    assert row.auc == auc_interval(p, positive)
    assert row.sensitivity == pytest.approx(np.mean([v >= 0.3 for v in p[positive]]))
    assert row.specificity == pytest.approx(np.mean([v < 0.3 for v in p[~positive]]))


def test_a_finding_with_one_positive_or_none_known_has_no_area(result: Evaluation) -> None:
    once, never = result.findings[2:]
    assert (once.positives, once.negatives, once.auc) == (1, 39, None) and once.sensitivity is not None
    assert (never.positives, never.negatives, never.auc, never.sensitivity) == (0, 0, None, None)


def test_the_mean_is_over_findings_with_an_area_and_lies_in_its_interval(result: Evaluation) -> None:
    areas = [row.auc.auc for row in result.findings if row.auc is not None]
    assert len(areas) == 2 and result.macro_auc == pytest.approx(np.mean(areas))
    assert result.macro_interval is not None
    low, high = result.macro_interval
    assert low < result.macro_auc < high
    assert result.high == sum(area >= 0.9 for area in areas)


def test_the_interval_of_the_mean_is_a_bootstrap_over_scans(outputs: Outputs, labels: np.ndarray) -> None:
    first = Outputs(outputs.logits[:, :1], outputs.embedding, outputs.gates)
    result = evaluate_outputs(first, labels[:, :1], NAMES[:1], (0.5,), resamples=200, seed=3)
    rng, areas = np.random.default_rng(3), []
    for _ in range(200):
        draw = rng.integers(0, 40, 40)
        areas.append(auc(outputs.probabilities[draw, 0], labels[draw, 0] == 1))
    assert result.macro_interval == pytest.approx(tuple(np.percentile(areas, [2.5, 97.5])))


def test_nothing_known_is_no_error(outputs: Outputs, labels: np.ndarray) -> None:
    result = evaluate_outputs(outputs, np.full_like(labels, np.nan), NAMES, (0.5,) * 4)
    assert (result.macro_auc, result.macro_interval, result.high) == (None, None, 0)
    assert (result.calibration.brier, result.calibration.bins) == (0.0, ())


def test_calibration_is_counted_bin_by_bin(result: Evaluation, outputs: Outputs, labels: np.ndarray) -> None:
    known = ~np.isnan(labels)
    pairs = list(zip(outputs.probabilities[known], labels[known], strict=True))
    assert result.calibration.brier == pytest.approx(np.mean([(p - y) ** 2 for p, y in pairs]))
    error = 0.0
    for b in range(10):
        inside = [(p, y) for p, y in pairs if b / 10 <= p < (b + 1) / 10]
        if inside:
            mean, share = np.mean([p for p, _ in inside]), np.mean([y for _, y in inside])
            error += len(inside) / len(pairs) * abs(mean - share)
    assert result.calibration.expected_error == pytest.approx(error)
    assert sum(n for _, _, n in result.calibration.bins) == len(pairs)


def test_probabilities_that_are_right_have_no_error() -> None:
    labels = np.array([[1.0], [0.0], [1.0]], np.float32)
    certain = Outputs(np.where(labels == 1, 60.0, -60.0), np.zeros((3, 1)))
    result = evaluate_outputs(certain, labels, ("a",), (0.5,))
    assert result.calibration.brier == pytest.approx(0) and result.calibration.expected_error == pytest.approx(0)


def test_routing_says_how_experts_are_used(result: Evaluation, outputs: Outputs) -> None:
    routing, gates = result.routing, outputs.gates
    assert routing is not None and gates is not None
    np.testing.assert_allclose(routing.usage, gates.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(routing.usage.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(routing.leading.sum(1), 1)
    assert routing.leading[0].argmax() == 1  # the one that follows a finding half the scans have
    entropy = np.mean([[-sum(g * np.log(g) for g in v) / np.log(4) for v in scan[:, 1]] for scan in gates])
    assert routing.entropy[1] == pytest.approx(entropy, rel=1e-5)
    assert routing.entropy[0] < routing.entropy[1] <= 1
    assert 0 < routing.spread < 0.3


def test_the_expert_of_a_finding_has_its_gate_raised_by_it(
    result: Evaluation, outputs: Outputs, labels: np.ndarray
) -> None:
    routing, gates = result.routing, outputs.gates
    assert routing is not None and gates is not None
    with_it, without = (gates[labels[:, 0] == value].mean((0, 1)) for value in (1, 0))
    np.testing.assert_allclose(routing.with_finding[0], with_it, rtol=1e-5)
    np.testing.assert_allclose(routing.without_finding[0], without, rtol=1e-5)
    np.testing.assert_allclose(routing.by_finding[0], with_it - without, atol=1e-6)
    assert routing.by_finding[0, 0].argmax() == 1 and routing.by_finding[0, 0, 1] > 0.2
    assert np.isnan(routing.by_finding[3]).all() and np.isnan(routing.with_finding[3]).all()


@pytest.mark.parametrize("experts", [None, 1])
def test_without_experts_or_with_one_there_is_no_routing(
    experts: int | None, outputs: Outputs, labels: np.ndarray
) -> None:
    gates = None if experts is None else np.ones((40, 1, 2, 1))
    plain = Outputs(outputs.logits, outputs.embedding, gates)
    assert evaluate_outputs(plain, labels, NAMES, (0.5,) * 4, resamples=2).routing is None


def test_an_even_mixture_and_a_single_expert_are_the_ends_of_the_entropy(labels: np.ndarray) -> None:
    gates = np.zeros((40, 1, 2, 4))
    gates[:, :, 0], gates[:, :, 1, 2] = 0.25, 1.0
    result = evaluate_outputs(Outputs(np.zeros((40, 4)), np.zeros((40, 1)), gates), labels, NAMES, (0.5,) * 4)
    assert result.routing is not None
    assert result.routing.entropy == pytest.approx([1, 0], abs=1e-9)
    assert result.routing.spread == 0 and result.routing.slice_spread is None


def test_gates_that_differ_only_within_scans_have_a_spread_between_slices_alone(labels: np.ndarray) -> None:
    gates = np.zeros((40, 2, 1, 2))
    gates[:, 0, 0, 0] = gates[:, 1, 0, 1] = 1.0
    result = evaluate_outputs(Outputs(np.zeros((40, 4)), np.zeros((40, 1)), gates), labels, NAMES, (0.5,) * 4)
    assert result.routing is not None
    assert (result.routing.spread, result.routing.slice_spread) == (0.0, 0.5)


def test_it_is_plain_data_with_null_where_nothing_is_known(result: Evaluation) -> None:
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["findings"][3] == {
        "finding": "never", "positives": 0, "negatives": 0, "auc": None, "sensitivity": None, "specificity": None,
    }  # fmt: skip
    assert data["routing"]["by_finding"][3] == [[None] * 4] * 2
    assert data["routing"]["by_finding"][0][0][1] > 0.2
