from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_model import METHODS, judge_by, layers_in, measure_of, within

from molre_edge.calibration.confirm import find_confirmed, most_confirmed, shorten
from molre_edge.calibration.ranking import Trials
from molre_edge.calibration.search import Candidate, find_candidate


def run(
    blocks: int, each: int, harm: dict[str, float], *, search: float = 1.0, confirmation: float
) -> tuple[Candidate, Trials]:
    measure, trials = measure_of(harm), Trials()
    candidate = find_candidate(layers_in(blocks, each), METHODS, measure, within(measure, search), trials)
    return find_confirmed(candidate, measure, within(measure, confirmation), trials), trials


def left_out(candidate: Candidate, blocks: int, each: int = 4) -> set[str]:
    return {layer.node for layer in layers_in(blocks, each)} - {layer.node for layer in candidate.layers}


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_set_that_fails_on_all_scans_loses_layers_and_no_whole_block(blocks: int) -> None:
    confirmed, trials = run(blocks, 4, {"node 0 3": 0.5}, confirmation=0.4)
    assert left_out(confirmed, blocks) == {"node 0 3"}
    assert [trial.fits for trial in trials.done if trial.what == "all layers, on all scans"] == [False]


def test_a_set_that_holds_is_kept_as_the_search_found_it() -> None:
    confirmed, trials = run(3, 4, {"node 0 3": 5.0}, confirmation=1.0)
    assert left_out(confirmed, 3) == {"node 0 3"}
    assert sum(trial.what.endswith("on all scans") for trial in trials.done) == 1


@pytest.mark.parametrize("refused", range(16))
def test_one_harmful_layer_anywhere_in_the_ranking_costs_only_its_own_item(refused: int) -> None:
    layers = layers_in(4)
    harm = {layer.node: 0.01 * (place + 1) for place, layer in enumerate(layers)}
    measure, trials = measure_of(harm), Trials()
    candidate = find_candidate(layers, METHODS, measure, within(measure, 1.0), trials)
    assert candidate.complete
    judge = judge_by(lambda chosen, method: layers[refused] not in chosen)
    confirmed = find_confirmed(candidate, measure, judge, trials)
    [item] = [item for item in confirmed.ranking.items if layers[refused] in item.layers]
    assert set(confirmed.items) == set(confirmed.ranking.items) - {item}


def test_if_no_set_holds_nothing_is_taken() -> None:
    confirmed, trials = run(3, 4, {}, confirmation=0.0)
    assert confirmed.items == ()
    assert all(not trial.fits for trial in trials.done if trial.what.endswith("on all scans"))


@pytest.mark.parametrize(("blocks", "each"), [(1, 1), (1, 5), (2, 4), (12, 4), (12, 30)])
@pytest.mark.parametrize("budget", [0.05, 10.0])
@pytest.mark.parametrize("share", [1.0, 0.9, 0.1, 0.0])
def test_judgements_on_all_scans_are_bounded(blocks: int, each: int, budget: float, share: float) -> None:
    harm = {layer.node: 0.01 * (i % 5 + 1) for i, layer in enumerate(layers_in(blocks, each))}
    _, trials = run(blocks, each, harm, search=budget, confirmation=share * budget)
    on_all = [trial for trial in trials.done if trial.what.endswith("on all scans")]
    assert len(on_all) <= most_confirmed(layers_in(blocks, each))


@given(st.integers(0, 40), st.integers(0, 41))
def test_a_set_that_is_too_large_is_shortened_to_the_largest_that_holds(most: int, largest: int) -> None:
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count <= largest

    assert shorten(most, holds) == min(most, largest)
    assert len(asked) == len(set(asked)) <= most_confirmed(layers_in(max(1, most // 2), 2))


def test_the_set_that_was_found_is_asked_for_first_and_once_if_it_holds() -> None:
    asked: list[int] = []
    assert shorten(9, lambda count: not asked.append(count)) == 9  # type: ignore[func-returns-value]
    assert asked == [9]
