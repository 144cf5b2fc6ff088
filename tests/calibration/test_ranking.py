from __future__ import annotations

import math

from search_model import METHODS, layers_in, measure_of

from molre_edge.calibration.ranking import MAX_LAYER_RUNS, Trials, most_items, rank_blocks, rank_layers
from molre_edge.specs import RangeMethod


def test_the_least_harmful_method_is_chosen_and_blocks_are_ranked_by_sensitivity() -> None:
    trials = Trials()
    ranking = rank_blocks(layers_in(3), METHODS, measure_of({"node 0 1": 0.5, "node 2 0": 0.2}), trials)
    assert ranking.method is RangeMethod.MSE
    assert [item.name for item in ranking.items] == ["block 1", "block 2", "block 0"]
    assert list(ranking.blocks) == ["block 0", "block 1", "block 2"]
    assert len(trials.done) == len(METHODS) + 3


def test_layers_of_sensitive_blocks_are_ranked_alone_and_harmless_blocks_stay_whole() -> None:
    measure, trials = measure_of({"node 2 3": 0.5}), Trials()
    blocks = rank_blocks(layers_in(3), METHODS, measure, trials)
    ranking = rank_layers(blocks, measure, trials)
    assert [item.name for item in ranking.items[-1:]] == ["block 2, layer 3"]
    assert {item.name for item in ranking.items if len(item.layers) > 1} == {"block 0", "block 1"}
    layers = [layer for item in ranking.items for layer in item.layers]
    assert sorted(layer.node for layer in layers) == sorted(layer.node for layer in layers_in(3))


def test_of_equals_the_first_in_the_model_comes_first() -> None:
    measure, trials = measure_of({}), Trials()
    blocks = rank_blocks(layers_in(1), METHODS, measure, trials)
    ranking = rank_layers(blocks, measure, trials)
    assert [item.name for item in ranking.items] == [f"block 0, layer {i}" for i in range(4)]


def test_layers_are_measured_as_far_as_the_runs_reach_the_worst_block_first() -> None:
    layers = layers_in(12, 10)
    harm = {layer.node: 0.1 for layer in layers if layer.block in ("block 7", "block 8", "block 9")}
    measure, trials = measure_of({**harm, "node 9 0": 0.3, "node 8 0": 0.2}), Trials()
    ranking = rank_layers(rank_blocks(layers, METHODS, measure, trials), measure, trials)
    alone = {item.layers[0].block for item in ranking.items if len(item.layers) == 1}
    assert alone == {"block 9", "block 8"}  # a third block would exceed the runs
    assert sum(trial.layers == 1 for trial in trials.done) == 20 <= MAX_LAYER_RUNS
    assert len(ranking.items) <= most_items(layers)


def test_an_answer_that_is_not_finite_ranks_last() -> None:
    measure, trials = measure_of({"node 1 0": math.inf}), Trials()
    ranking = rank_blocks(layers_in(3), METHODS, measure, trials)
    assert ranking.items[-1].name == "block 1"
