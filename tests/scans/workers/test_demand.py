"""More readers are started only where waiting for them is a part of the time that matters."""

from __future__ import annotations

import pytest

from molre_edge.scans.workers.demand import Demand


@pytest.mark.parametrize(("waited", "used", "more"), [(1.0, 0.0, True), (0.1, 0.9, True), (0.02, 0.98, False)])
def test_a_share_of_waiting_asks_for_more(waited: float, used: float, more: bool) -> None:
    demand = Demand(2)
    assert [demand.wants_more(waited, used) for _ in range(6)] == [False] * 5 + [more]


def test_the_first_results_of_new_readers_include_their_start_and_are_not_judged() -> None:
    demand = Demand(2)
    told = [demand.wants_more(100.0, 0.0) for _ in range(2)] + [demand.wants_more(0.0, 1.0) for _ in range(8)]
    assert not any(told)


def test_what_was_long_ago_does_not_count() -> None:
    demand = Demand(1)
    told = [demand.wants_more(0.0, 100.0) for _ in range(3)] + [demand.wants_more(1.0, 0.0) for _ in range(2)]
    assert told == [False] * 4 + [True]
