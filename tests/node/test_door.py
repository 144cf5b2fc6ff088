"""One caller that connects again and again keeps none of the others out."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from molre_edge.node import door as door_module
from molre_edge.node.door import Door


@dataclass(eq=False)
class Caller:
    """A thread that serves a connection."""

    alive: bool = True
    ident: int | None = 1

    def is_alive(self) -> bool:
        return self.alive


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> Door:
    return Door(associations=4, per_address=3, now=clock)


class Visit:
    """A connection from an address, each from another port."""

    port = 40000

    def __init__(self, door: Door, address: str) -> None:
        Visit.port += 1
        self.door, self.peer, self.caller = door, (address, Visit.port), Caller()
        self.taken = door.opens(self.peer)
        if self.taken:
            door.entered(self.peer, self.caller)

    def accept(self) -> bool:
        return self.taken and self.door.accept(self.peer, self.caller)

    def leave(self) -> None:
        self.caller.alive = False

    def turn_away(self) -> None:
        self.door.turn_away(self.peer)
        self.leave()


def test_one_address_has_few_connections_without_an_association(door: Door) -> None:
    silent = [Visit(door, "10.0.0.9") for _ in range(5)]
    assert [each.taken for each in silent] == [True] * 4 + [False]
    assert Visit(door, "10.0.0.1").accept()  # none of them takes an association's place
    silent[0].leave()
    assert Visit(door, "10.0.0.9").taken


def test_a_sender_may_open_all_of_its_associations_at_once() -> None:
    door = Door(associations=100, per_address=70)
    visits = [Visit(door, "10.0.0.1") for _ in range(71)]
    assert [each.taken for each in visits] == [True] * 70 + [False]
    assert all(each.accept() for each in visits[:70])


def test_a_caller_that_closes_without_a_word_gives_its_place_back_though_its_thread_still_waits(
    door: Door, clock: Clock
) -> None:
    for _ in range(10):
        visit = Visit(door, "10.0.0.9")
        assert visit.taken and door.left(visit.peer) and visit.caller.is_alive()
        clock.time += 15.0
    accepted = Visit(door, "10.0.0.9")
    assert accepted.accept() and not door.left(accepted.peer)


def test_all_addresses_together_have_a_bound_too(door: Door) -> None:
    assert [Visit(door, f"10.0.1.{number}").taken for number in range(65)] == [True] * 64 + [False]


def test_associations_are_counted_by_address_until_their_thread_ends(door: Door) -> None:
    visits = [Visit(door, "10.0.0.1") for _ in range(4)]
    assert [each.accept() for each in visits] == [True, True, True, False]
    assert Visit(door, "10.0.0.2").accept() and not Visit(door, "10.0.0.3").accept()  # four at once
    visits[0].leave()
    assert Visit(door, "10.0.0.3").accept()


def test_an_address_whose_callers_are_turned_away_is_closed_for_a_minute_and_the_others_are_not(
    door: Door, clock: Clock
) -> None:
    for _ in range(3):
        Visit(door, "10.0.0.9").turn_away()
        clock.time += 1.0
    assert not Visit(door, "10.0.0.9").taken and Visit(door, "10.0.0.1").taken
    clock.time += 58.0  # the first of the three is a minute ago
    assert Visit(door, "10.0.0.9").taken


def test_who_says_nothing_is_turned_away_and_who_goes_at_once_is_not(door: Door, clock: Clock) -> None:
    for seconds in (1.0, 10.0):
        for _ in range(3):
            visit = Visit(door, "10.0.0.9")
            clock.time += seconds
            visit.leave()
        assert Visit(door, "10.0.0.9").taken == (seconds == 1.0)


def test_where_a_sender_was_accepted_others_turned_away_shut_nobody_out(door: Door) -> None:
    assert Visit(door, "10.0.0.1").accept()
    for _ in range(5):
        Visit(door, "10.0.0.1").turn_away()
    assert Visit(door, "10.0.0.1").taken


def test_a_connection_whose_thread_has_not_begun_is_counted_for_a_minute(door: Door, clock: Clock) -> None:
    assert [door.opens(("10.0.0.9", port)) for port in range(5)] == [True] * 4 + [False]
    door.entered(("10.0.0.9", 0), Caller(alive=False, ident=None))
    clock.time += 59.0
    assert not door.opens(("10.0.0.9", 5))
    clock.time += 1.0
    assert door.opens(("10.0.0.8", 5)) and len(door._waiting) == 1


def test_what_is_remembered_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "_MOST_ADDRESSES", 10)
    for number in range(100):
        Visit(door, f"10.0.2.{number}").turn_away()
        visit = Visit(door, f"10.0.3.{number}")
        assert visit.accept()
        visit.leave()
    assert len(door._turned_away) == len(door._good) == 10
