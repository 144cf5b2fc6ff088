from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_model import METHODS, judge_by, layers_in, measure_of, within

from molre_edge.calibration.layers import Layer
from molre_edge.calibration.ranking import MAX_LAYER_RUNS, Trials, layers_of
from molre_edge.calibration.search import (
    HOPELESS,
    Candidate,
    find_candidate,
    most_judged,
    most_later,
    most_runs,
)
from molre_edge.specs import RangeMethod


def run(layers: Sequence[Layer], harm: dict[str, float], budget: float = 1.0) -> tuple[Candidate, Trials]:
    trials, measure = Trials(), measure_of(harm)
    return find_candidate(layers, METHODS, measure, within(measure, budget), trials), trials


def test_a_layer_with_outliers_is_found_and_left_out() -> None:
    layers = layers_in(12)
    candidate, _ = run(layers, {"node 7 2": 5.0})
    left = {layer.node for layer in layers} - {layer.node for layer in candidate.layers}
    assert left == {"node 7 2"}
    blocks = candidate.ranking.blocks
    assert max(blocks, key=lambda block: blocks[block]) == "block 7"


def test_if_everything_fits_everything_is_taken_without_measuring_layers() -> None:
    layers = layers_in(6)
    candidate, trials = run(layers, {})
    assert set(candidate.layers) == set(layers) and candidate.complete
    assert len(trials.done) == len(METHODS) + 6 + 1


def test_if_nothing_fits_nothing_is_taken_and_every_item_was_tried_alone() -> None:
    candidate, trials = run(layers_in(3), {}, budget=0.0)
    assert candidate.layers == []
    items = candidate.ranking.items
    alone = [trial.what for trial in trials.done if trial.fits is False][-len(items) + 1 :]
    assert alone == [f"{item.name} alone" for item in items[1:]]


def without(name: str) -> object:
    """A judge that refuses every set with one layer, whatever was measured: its harm is one that adds up badly."""
    return judge_by(lambda chosen, method: all(layer.node != name for layer in chosen))


@pytest.mark.parametrize("harmful", [0, 1, 2, 3])
def test_a_large_harmless_block_behind_a_harmful_layer_is_not_lost(harmful: int) -> None:
    layers = layers_in(6)
    harm = {layer.node: 0.2 if layer.block == "block 0" else 0.1 + 0.01 * i for i, layer in enumerate(layers)}
    trials, measure = Trials(), measure_of(harm)
    candidate = find_candidate(layers, METHODS, measure, without(f"node 3 {harmful}"), trials)  # type: ignore[arg-type]
    left = {layer.node for layer in layers} - {layer.node for layer in candidate.layers}
    assert f"node 3 {harmful}" in left
    assert left <= {f"node 3 {i}" for i in range(4)}, "only items with the harmful layer are left out"


def test_an_item_that_uses_up_a_limit_alone_is_not_tried_again() -> None:
    layers = layers_in(6)
    candidate, trials = run(layers, {"node 4 0": 2.0, "node 5 1": 3.0, "node 5 2": 0.8, "node 5 3": 0.9}, budget=0.5)
    hopeless = [item for item in candidate.ranking.items if item.sensitivity >= HOPELESS]
    assert hopeless and not any(trial.what.startswith(hopeless[-1].name + " beside") for trial in trials.done)
    assert any(trial.what.startswith("block 5, layer 3 beside") for trial in trials.done)


@pytest.mark.parametrize(("blocks", "each"), [(1, 1), (1, 5), (2, 4), (12, 4), (40, 7), (12, 30)])
@pytest.mark.parametrize("budget", [0.0, 0.05, 10.0])
def test_runs_are_bounded_as_the_command_says_before(blocks: int, each: int, budget: float) -> None:
    layers = layers_in(blocks, each)
    harm = {layer.node: 0.01 * (i % 5 + 1) for i, layer in enumerate(layers)}
    _, trials = run(layers, harm, budget)
    later = [trial for trial in trials.done if " beside " in trial.what or trial.what.endswith(" alone")]
    assert len(trials.done) - len(later) <= most_runs(layers, len(METHODS))
    assert sum(trial.fits is not None for trial in trials.done) - len(later) <= most_judged(layers)
    assert len(later) <= most_later(layers)
    assert sum(trial.layers == 1 and trial.sensitivity is not None for trial in trials.done) <= MAX_LAYER_RUNS + blocks


NODES = [layer.node for layer in layers_in(4)]


@given(st.dictionaries(st.sampled_from(NODES), st.floats(0.0, 2.0)), st.floats(0.0, 1.0))
def test_what_is_taken_fits_and_no_item_that_was_left_would_fit_too(harm: dict[str, float], budget: float) -> None:
    layers = layers_in(4)
    candidate, _ = run(layers, harm, budget)
    measure = measure_of(harm)
    assert measure(candidate.layers, RangeMethod.MSE) <= budget or not candidate.items
    for item in candidate.ranking.items:
        if item not in candidate.items:
            assert measure(layers_of((*candidate.items, item)), RangeMethod.MSE) > budget - 1e-9
    assert run(layers, harm, budget)[0] == candidate


@given(st.sets(st.sampled_from(NODES)))
def test_whatever_single_layers_a_judge_refuses_every_item_without_one_is_taken(refused: set[str]) -> None:
    layers = layers_in(4)
    judge = judge_by(lambda chosen, method: not any(layer.node in refused for layer in chosen))
    candidate = find_candidate(layers, METHODS, measure_of({}), judge, Trials())
    right = {item.name for item in candidate.ranking.items if not {layer.node for layer in item.layers} & refused}
    assert {item.name for item in candidate.items} == right
