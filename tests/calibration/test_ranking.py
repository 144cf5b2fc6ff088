from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molre_edge.calibration.layers import Layer
from molre_edge.calibration.ranking import (
    MOST_LAYER_RUNS,
    Found,
    Trial,
    most_confirmed,
    most_judged,
    most_runs,
    search,
    shorten,
)
from molre_edge.calibration.settings import RangeMethod

METHODS = tuple(RangeMethod)


def model(blocks: int, each: int = 4) -> tuple[Layer, ...]:
    return tuple(
        Layer(f"node {b} {i}", "MatMul", f"block {b}", f"layer {i}", f"x {b} {i}", f"w {b} {i}", 1)
        for b in range(blocks)
        for i in range(each)
    )


def run(
    layers: Sequence[Layer], harm: dict[str, float], budget: float = 1.0, *, whole: float | None = None
) -> tuple[Found, list[Trial]]:
    """Search where every layer harms by so much, in squares, and MSE ranges less than others.

    Args:
        layers: of the model.
        harm: of some; of the others it is 0.01.
        budget: of the judgements while it searches.
        whole: of the judgement on everything; None for the same.
    """
    trials: list[Trial] = []
    most = budget if whole is None else whole

    def measure(chosen: Sequence[Layer], method: RangeMethod) -> float:
        worse = 1.0 if method is RangeMethod.MSE else 1.5
        return float(worse * sum(harm.get(layer.node, 0.01) ** 2 for layer in chosen) ** 0.5)

    found = search(
        layers,
        METHODS,
        measure,
        lambda chosen, method: measure(chosen, method) <= budget,
        lambda chosen, method: measure(chosen, method) <= most,
        trials.append,
    )
    return found, trials


def test_a_layer_with_outliers_is_found_and_left_out() -> None:
    layers = model(12)
    found, _ = run(layers, {"node 7 2": 5.0})
    left = {layer.node for layer in layers} - {layer.node for layer in found.chosen}
    assert left == {"node 7 2"}
    assert found.method is RangeMethod.MSE
    assert max(found.blocks, key=lambda block: found.blocks[block]) == "block 7"


def test_where_everything_fits_everything_is_taken_without_measuring_layers() -> None:
    layers = model(6)
    found, trials = run(layers, {})
    assert set(found.chosen) == set(layers)
    assert len(trials) == len(METHODS) + 6 + 2


@pytest.mark.parametrize("blocks", [1, 3])
def test_what_fits_the_search_but_not_everything_loses_layers_and_no_whole_block(blocks: int) -> None:
    layers = model(blocks)
    found, trials = run(layers, {"node 0 3": 0.5}, budget=1.0, whole=0.4)
    assert {layer.node for layer in layers} - {layer.node for layer in found.chosen} == {"node 0 3"}
    assert [trial.fits for trial in trials if trial.what == "all layers, on everything"] == [False]


def test_where_nothing_fits_nothing_is_taken() -> None:
    found, _ = run(model(3), {}, budget=0.0)
    assert (found.taken, found.chosen) == (0, ())


@pytest.mark.parametrize(("blocks", "each"), [(1, 1), (1, 5), (2, 4), (12, 4), (40, 7), (12, 30)])
@pytest.mark.parametrize("budget", [0.0, 0.05, 10.0])
@pytest.mark.parametrize("strict", [1.0, 0.9, 0.1, 0.0])
def test_runs_are_bounded_and_what_was_said_before_holds(blocks: int, each: int, budget: float, strict: float) -> None:
    layers = model(blocks, each)
    harm = {layer.node: 0.01 * (i % 5 + 1) for i, layer in enumerate(layers)}
    found, trials = run(layers, harm, budget, whole=strict * budget)
    whole = [trial for trial in trials if trial.what.endswith("on everything")]
    assert len(trials) == len(found.trials) <= most_runs(layers, len(METHODS)) + len(whole)
    assert sum(trial.fits is not None for trial in trials) <= most_judged(layers) + len(whole)
    assert len(whole) <= most_confirmed(layers)
    assert sum(trial.layers == 1 and trial.strain is not None for trial in trials) <= MOST_LAYER_RUNS + blocks


@given(st.dictionaries(st.sampled_from([layer.node for layer in model(4)]), st.floats(0.0, 2.0)), st.floats(0.0, 3.0))
def test_what_is_taken_fits_and_the_next_item_would_not(harm: dict[str, float], budget: float) -> None:
    layers = model(4)
    found, _ = run(layers, harm, budget)
    total = [sum(harm.get(layer.node, 0.01) ** 2 for layer in item.layers) for item in found.ranked]
    assert sum(total[: found.taken]) ** 0.5 <= budget + 1e-9 or not found.taken
    if found.taken < len(found.ranked):
        assert sum(total[: found.taken + 1]) ** 0.5 > budget - 1e-9
    assert run(layers, harm, budget)[0] == found


@given(st.integers(0, 40), st.integers(0, 41))
def test_a_set_that_is_too_large_is_shortened_to_the_largest_that_holds(most: int, largest: int) -> None:
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count <= largest

    assert shorten(most, holds) == min(most, largest)
    assert len(asked) == len(set(asked)) <= most_confirmed(model(max(1, most // 2), 2))


def test_the_set_that_was_found_is_asked_for_first_and_once_when_it_holds() -> None:
    asked: list[int] = []
    assert shorten(9, lambda count: not asked.append(count)) == 9  # type: ignore[func-returns-value]
    assert asked == [9]
