"""What `compare` measures is what the definitions say, counted one value at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.findings import default_findings, parents_of
from molre_edge.parity import Outputs, ParityError, ParityNumbers, compare

NAMES = ("a", "b", "c", "d", "e")
HALF = np.full(5, 0.5)
SEEDS = st.integers(0, 2**32 - 1)
Make = Callable[..., Outputs]


def measured(reference: Outputs, engine: Outputs, **changes: Any) -> ParityNumbers:
    return compare(reference, engine, **{"findings": NAMES, "thresholds": HALF, **changes})


def pair(make: Make, disturb: Make, seed: int = 0, size: float = 0.3, **changes: Any) -> tuple[Outputs, Outputs]:
    reference = make(**{"seed": seed, "findings": 5, "n": 6, "d": 4, "gates": (3, 2, 3), **changes})
    return reference, disturb(reference, size, seed + 1)


def p(logit: float) -> float:
    return 1 / (1 + math.exp(-float(logit)))


def test_an_engine_that_answers_as_the_reference_differs_by_nothing(make_outputs: Make) -> None:
    same = make_outputs(findings=5)
    got = measured(same, same)
    assert got.dp.max_abs == got.dp.mean_abs == got.dp.sd == 0.0
    assert got.flips == () and got.nonfinite == ()
    assert got.min_cosine == 1.0
    assert got.gates is not None
    assert (got.gates.max_l1, got.gates.leader_changes, got.gates.leader_margin) == (0.0, 0, None)
    assert got.gates.spread_reference == got.gates.spread_engine > 0  # type: ignore[operator]


@given(seed=SEEDS, size=st.floats(0.001, 3))
def test_differences_and_flips_are_those_of_single_probabilities(
    make_outputs: Make, disturb: Make, seed: int, size: float
) -> None:
    reference, engine = pair(make_outputs, disturb, seed, size)
    thresholds = np.array([0.05, 0.1, 0.2, 0.5, 0.9])
    got = measured(reference, engine, thresholds=thresholds)
    worst = 0.0
    for j, each in enumerate(got.per_finding):
        pairs = [(p(reference.logits[i, j]), p(engine.logits[i, j])) for i in range(6)]
        assert each.dp.max_abs == pytest.approx(max(abs(b - a) for a, b in pairs), abs=1e-12)
        assert each.dp.mean == pytest.approx(sum(b - a for a, b in pairs) / 6, abs=1e-12)
        signed = sorted(b - a for a, b in pairs)
        assert each.dp.quantiles is not None
        low, first, median, third, high = each.dp.quantiles
        assert (low, high) == pytest.approx((signed[0], signed[-1]), abs=1e-12)
        assert median == pytest.approx((signed[2] + signed[3]) / 2, abs=1e-12)
        assert low <= first <= median <= third <= high
        limit = thresholds[j]
        assert [flip.scan for flip in each.flips] == [
            i for i, (a, b) in enumerate(pairs) if (a >= limit) != (b >= limit)
        ]
        assert all(flip.finding == j and flip.threshold == limit for flip in each.flips)
        cut = math.log(limit / (1 - limit))  # of no finding here beyond 8, so that no tolerance is wider
        logits = [(float(reference.logits[i, j]), float(engine.logits[i, j])) for i in range(6)]
        for flip in each.flips:
            assert flip.distance == pytest.approx(max(abs(logit - cut) for logit in logits[flip.scan]))
            assert not flip.tied
        sizes = [abs(b - a) / min(max(abs(a) / 8, 1), 4) for a, b in logits]
        assert each.logit is not None and each.logit.size == pytest.approx(max(sizes))
        assert (each.logit.reference, each.logit.engine) == logits[each.logit.scan]
        assert sizes[each.logit.scan] == pytest.approx(max(sizes))
        worst = max(worst, *(abs(b - a) for a, b in pairs))
    assert got.dp.max_abs == pytest.approx(worst, abs=1e-12)


@given(seed=SEEDS)
def test_changing_sides_changes_signs_alone(make_outputs: Make, disturb: Make, seed: int) -> None:
    reference, engine = pair(make_outputs, disturb, seed)
    there, back = measured(reference, engine), measured(engine, reference)
    assert there.dp.max_abs == back.dp.max_abs
    assert there.dp.mean == pytest.approx(-back.dp.mean)  # type: ignore[operator]
    np.testing.assert_allclose(there.cosine, back.cosine, atol=1e-15)
    assert there.gates is not None and back.gates is not None
    np.testing.assert_array_equal(there.gates.l1, back.gates.l1)
    assert len(there.flips) == len(back.flips)


@given(seed=SEEDS, order=st.permutations(range(6)))
def test_the_order_of_the_volumes_does_not_matter(
    make_outputs: Make, disturb: Make, seed: int, order: list[int]
) -> None:
    reference, engine = pair(make_outputs, disturb, seed)
    moved = [Outputs(each.logits[order], each.embedding[order], each.gates[order]) for each in (reference, engine)]  # type: ignore[index]
    one, two = measured(reference, engine), measured(*moved)
    assert one.dp.max_abs == two.dp.max_abs
    assert one.min_cosine == two.min_cosine
    assert [scan.max_abs_dp for scan in one.worst] == [scan.max_abs_dp for scan in two.worst]
    assert [order[scan.scan] for scan in two.worst] == [scan.scan for scan in one.worst]


def test_a_probability_at_its_threshold_is_positive() -> None:
    at, below = (Outputs(np.array([[x]]), np.ones((1, 2))) for x in (0.0, -1e-3))
    assert len(measured(at, below, findings=("a",), thresholds=HALF[:1]).flips) == 1
    assert measured(at, at, findings=("a",), thresholds=HALF[:1]).flips == ()


# Embeddings


@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_the_cosine_is_that_of_the_angle_and_not_of_the_length(
    make_outputs: Make, disturb: Make, seed: int, scale: float
) -> None:
    reference, engine = pair(make_outputs, disturb, seed, size=1.0)
    got = measured(reference, replace(engine, embedding=engine.embedding * np.float32(scale))).cosine
    a, b = reference.embedding.astype(float), engine.embedding.astype(float)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(got, (a * b).sum(axis=1) / lengths, atol=1e-6)


def test_a_tiny_angle_keeps_its_digits() -> None:
    one = Outputs(np.zeros((1, 5)), np.array([[1.0, 0.0]]))
    two = Outputs(np.zeros((1, 5)), np.array([[1.0, 1e-6]]))
    assert 1 - measured(one, two).cosine[0] == pytest.approx(5e-13, rel=1e-3)


@pytest.mark.parametrize(
    ("one", "two", "cosine"),
    [
        ([0, 0], [0, 0], 1.0),
        ([0, 0], [1, 0], 0.0),
        ([1, 0], [0, 0], 0.0),
        ([1, 2], [-1, -2], -1.0),
        ([1, 0], [0, 3], 0),
    ],
)
def test_cosines_at_the_ends(one: list[float], two: list[float], cosine: float) -> None:
    a, b = (Outputs(np.zeros((1, 5)), np.array([each])) for each in (one, two))
    assert measured(a, b).cosine[0] == pytest.approx(cosine, abs=1e-12)


def test_an_embedding_that_is_not_finite_has_no_cosine() -> None:
    a = Outputs(np.zeros((2, 5)), np.ones((2, 2)))
    b = Outputs(np.zeros((2, 5)), np.array([[1.0, np.inf], [1.0, 0.0]]))
    got = measured(a, b)
    assert np.isnan(got.cosine[0])
    assert got.min_cosine == pytest.approx(math.sqrt(0.5))


# Gates


@given(seed=SEEDS, size=st.floats(0.01, 2))
def test_gates_are_compared_vector_by_vector(make_outputs: Make, disturb: Make, seed: int, size: float) -> None:
    reference, engine = pair(make_outputs, disturb, seed, size)
    got = measured(reference, engine).gates
    assert got is not None and reference.gates is not None and engine.gates is not None
    a, b = reference.gates.tolist(), engine.gates.tolist()
    changes, leads = 0, []
    moves = [[0, 0, 0], [0, 0, 0]]  # router and the reference's leader
    for i in range(6):
        for r in range(2):
            apart = [sum(abs(x - y) for x, y in zip(a[i][s][r], b[i][s][r], strict=True)) for s in range(3)]
            assert got.l1[i, r] == pytest.approx(max(apart))
            for s in range(3):
                first, second = (max(range(3), key=gates[i][s][r].__getitem__) for gates in (a, b))
                if first != second:
                    changes += 1
                    moves[r][first] += 1
                    ranked = sorted(a[i][s][r])
                    leads.append(ranked[-1] - ranked[-2])
    assert (got.slices, got.routers, got.experts) == (3, 2, 3)
    assert (got.leader_changes, got.leader_total) == (changes, 36)
    assert got.leader_fraction == changes / 36
    assert got.leader_margin == (pytest.approx(max(leads)) if leads else None)
    assert got.leader_moves.tolist() == moves
    np.testing.assert_allclose(got.mean_reference, np.mean(a, axis=(0, 1)), atol=1e-7)
    np.testing.assert_allclose(got.mean_engine.sum(axis=1), 1, atol=1e-6)


def test_the_spread_says_how_much_routing_depends_on_the_scan(make_outputs: Make) -> None:
    gates = np.zeros((3, 1, 1, 2))
    gates[:] = [[[[0.5, 0.5]]], [[[0.6, 0.4]]], [[[0.2, 0.8]]]]
    moving = replace(make_outputs(n=3, findings=5), gates=gates)
    still = replace(moving, gates=np.broadcast_to(gates[:1], gates.shape))
    got = measured(moving, still).gates
    assert got is not None
    assert got.spread_reference == pytest.approx(0.6)
    assert got.spread_engine == 0.0


def test_a_single_volume_has_no_spread(make_outputs: Make) -> None:
    one = make_outputs(n=1, findings=5)
    got = measured(one, one).gates
    assert got is not None and got.spread_reference is None


def test_a_model_without_experts_has_no_gates(make_outputs: Make) -> None:
    without = make_outputs(findings=5, gates=None)
    assert measured(without, without).gates is None


def test_a_single_expert_has_gates_of_one_that_never_differ(make_outputs: Make) -> None:
    single = make_outputs(findings=5, gates=(4, 3, 1))
    got = measured(single, single).gates
    assert got is not None
    assert (got.experts, got.max_l1, got.leader_changes, got.spread_reference) == (1, 0.0, 0, 0.0)


def test_gate_vectors_that_are_not_finite_are_not_compared(make_outputs: Make, disturb: Make) -> None:
    reference, engine = pair(make_outputs, disturb)
    assert engine.gates is not None
    engine.gates[1, 2, 0, 1] = np.nan
    engine.gates[4, 0, 1, 0] = np.inf
    got = measured(reference, engine).gates
    assert got is not None
    assert np.isnan(got.l1[1, 0]) and np.isnan(got.l1[4, 1]) and np.isnan(got.l1).sum() == 2
    assert got.leader_total == 34
    assert np.isfinite([got.max_l1, got.spread_reference, got.spread_engine]).all()  # type: ignore[list-item]


# Findings and labels


@given(seed=SEEDS)
def test_children_likelier_than_their_parents_are_counted(make_outputs: Make, disturb: Make, seed: int) -> None:
    names = tuple(finding.name for finding in default_findings())
    reference, engine = pair(make_outputs, disturb, seed, findings=75, n=3)
    got = measured(reference, engine, findings=names, thresholds=np.full(75, 0.5))
    pairs = parents_of(names)
    assert len(got.consistency) == len(pairs) > 10
    for count, outputs in ((got.inconsistent_reference, reference), (got.inconsistent_engine, engine)):
        assert count == sum(row[child] > row[parent] for row in outputs.logits.tolist() for child, parent in pairs)
    for each, (child, parent) in zip(got.consistency, pairs, strict=True):
        ours, theirs = ([row[child] > row[parent] for row in o.logits.tolist()] for o in (reference, engine))
        assert (each.child, each.parent) == (names[child], names[parent])
        assert (each.reference, each.engine) == (sum(ours), sum(theirs))
        assert each.changed == sum(a != b for a, b in zip(ours, theirs, strict=True))


def test_findings_of_another_list_have_no_parents(make_outputs: Make) -> None:
    same = make_outputs(findings=5)
    assert measured(same, same).consistency == ()


def test_areas_use_known_labels_alone(make_outputs: Make, disturb: Make) -> None:
    reference, engine = pair(make_outputs, disturb, n=8)
    labels = np.full((8, 5), np.nan)
    labels[:4, 0] = 0
    labels[4:, 0] = 1
    labels[:, 1] = labels[:, 0]
    labels[[0, 7], 1] = np.nan
    labels[:, 2] = 0
    got = measured(reference, engine, labels=labels)
    assert got.labelled
    assert [each.auc is not None for each in got.per_finding] == [True, True, False, False, False]
    second = got.per_finding[1].auc
    assert second is not None and (second.positives, second.negatives) == (3, 3)
    wins = [x > y for x in reference.logits[4:7, 1] for y in reference.logits[1:4, 1]]
    assert second.reference == pytest.approx(sum(wins) / 9)


def test_an_answer_that_is_not_finite_leaves_its_finding_without_an_area(make_outputs: Make, disturb: Make) -> None:
    reference, engine = pair(make_outputs, disturb, n=8)
    engine.logits[2, 0] = np.nan
    labels = np.tile(np.array([[0.0], [1.0]]), (4, 5))
    got = measured(reference, engine, labels=labels)
    assert [each.auc is None for each in got.per_finding] == [True, False, False, False, False]


# What is not finite, and who is worst


def test_values_that_are_not_finite_are_listed_and_left_out(make_outputs: Make, disturb: Make) -> None:
    reference, engine = pair(make_outputs, disturb)
    reference.logits[0, [1, 3]] = np.nan
    engine.logits[5, 2] = np.inf
    engine.embedding[4] = -np.inf
    got = measured(reference, engine)
    assert [(each.side, each.output, each.scan, each.count, each.findings) for each in got.nonfinite] == [
        ("reference", "logits", 0, 2, ("b", "d")),
        ("engine", "logits", 5, 1, ("c",)),
        ("engine", "embedding", 4, 4, ()),
    ]
    assert got.dp.max_abs is not None and got.dp.max_abs <= 1
    assert all(flip.scan != 5 for flip in got.per_finding[2].flips)
    assert {scan.scan for scan in got.worst[:3]} == {0, 4, 5}
    assert [scan.finite for scan in got.worst] == [False, False, False, True, True, True]


def test_with_nothing_finite_there_are_no_numbers_and_no_warnings(make_outputs: Make) -> None:
    nothing = make_outputs(findings=5)
    for array in nothing.arrays.values():
        array[:] = np.nan
    got = measured(nothing, nothing)
    assert got.dp.max_abs is got.min_cosine is None
    assert got.gates is not None and got.gates.max_l1 is got.gates.leader_fraction is None
    assert got.attention is not None and got.attention.max_l1 is None and got.attention.leader_total == 0
    assert got.worst[0].max_abs_dp is got.worst[0].finding is None


def test_the_worst_scans_come_first_and_are_ten_at_most(make_outputs: Make, disturb: Make) -> None:
    reference, engine = pair(make_outputs, disturb, n=13)
    got = measured(reference, engine)
    sizes = [
        max(abs(float(b) - float(a)) for a, b in zip(x, y, strict=True))
        for x, y in zip(reference.logits, engine.logits, strict=True)
    ]
    assert [scan.scan for scan in got.worst] == sorted(range(13), key=lambda i: -sizes[i])[:10]
    first = got.worst[0]
    assert first.max_abs_dlogit == got.max_abs_dlogit == pytest.approx(max(sizes))
    assert got.per_finding[first.finding].logit.size == got.max_abs_dlogit  # type: ignore[index, union-attr]
    assert max(scan.max_abs_dp for scan in got.worst) == got.dp.max_abs  # type: ignore[type-var]
    assert got.gates is not None and first.routing_l1 == got.gates.l1[first.scan].max()
    assert got.attention is not None and first.attention_l1 == got.attention.l1[first.scan] > 0


# Refusals


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"findings": NAMES[:4]}, "Expected 5 findings as in logits, got 4 names"),
        ({"findings": ()}, "No findings to compare"),
        ({"thresholds": HALF[:4]}, r"Thresholds: expected shape \(5,\), one a finding, got \(4,\)"),
        ({"thresholds": HALF * 2.2}, "Thresholds: expected probabilities from 0 to 1"),
        ({"thresholds": HALF * np.nan}, "Thresholds: expected probabilities from 0 to 1"),
        ({"labels": np.zeros((5, 5))}, r"Labels: expected shape \(6, 5\) as logits, got \(5, 5\)"),
        ({"labels": np.full((6, 5), 0.5)}, r"Labels: expected 0, 1 or nan \(unknown\)"),
        ({"labels": np.full((6, 5), np.inf)}, "Labels: expected 0, 1 or nan"),
    ],
)
def test_names_thresholds_and_labels_that_do_not_fit_are_refused(
    make_outputs: Make, change: dict[str, Any], said: str
) -> None:
    same = make_outputs(findings=5)
    with pytest.raises(ParityError, match=said):
        measured(same, same, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n": 5}, r"'logits': the reference has shape \(6, 5\), the engine \(5, 5\)"),
        ({"d": 9}, r"'embedding': the reference has shape \(6, 32\), the engine \(6, 9\)"),
        ({"gates": None}, r"'gates': the reference has shape \(6, 4, 3, 6\), the engine none"),
        ({"attention": 5}, r"'attention': the reference has shape \(6, 4\), the engine \(6, 5\)"),
        ({"gates": (4, 3, 2)}, r"'gates': .* Compare an engine with the checkpoint that it was exported from"),
    ],
)
def test_outputs_of_two_models_are_refused(make_outputs: Make, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ParityError, match=said):
        measured(make_outputs(findings=5), make_outputs(**{"findings": 5, **change}))


def test_no_volumes_are_refused() -> None:
    none = Outputs(np.zeros((0, 5)), np.zeros((0, 2)))
    with pytest.raises(ParityError, match="No volumes to compare"):
        measured(none, none)
