"""The best assignment is the one that trying all of them finds."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from molre_edge.own_model.assignment import best_assignment


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("ties", [False, True])
def test_no_other_assignment_costs_less(n: int, ties: bool) -> None:
    rng = np.random.default_rng(n)
    for _ in range(10):
        costs = rng.integers(0, 3, (n, n)).astype(float) if ties else rng.normal(size=(n, n))
        chosen = best_assignment(costs)
        assert sorted(chosen) == list(range(n))
        best = min(sum(costs[row, order[row]] for row in range(n)) for order in permutations(range(n)))
        assert costs[np.arange(n), chosen].sum() == pytest.approx(best)


def test_a_permutation_of_75_is_found() -> None:
    order = np.random.default_rng(0).permutation(75)
    costs = np.ones((75, 75))
    costs[np.arange(75), order] = 0
    assert (best_assignment(costs) == order).all()
