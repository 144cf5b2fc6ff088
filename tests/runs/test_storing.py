"""Storing happens behind the engine's back, in order, and an error of the disk is not lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.parity import Outputs
from molre_edge.runs.answers import Record
from molre_edge.runs.scan_table import Entry
from molre_edge.runs.store import RunStore
from molre_edge.runs.storing import WAITING, Storing

RECORD = Record("", Outputs(np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32)), None, {})


class Noting:
    """A store that notes what it is given; from a number of entries on, its disk is full."""

    def __init__(self, room: int = 1000) -> None:
        self.given: list[str] = []
        self._room = room

    def add(self, entry: Entry, *_: Any) -> None:
        if len(self.given) == self._room:
            raise OSError(28, "No space left on device")
        self.given.append(entry.scan)

    def reject(self, entry: Entry, code: str, reason: str) -> None:
        self.add(entry)


def entry(name: str) -> Entry:
    return Entry(name, name, name, "", "pending", files=1)


def test_all_is_stored_in_order_when_the_block_ends_also_when_it_fails() -> None:
    store = Noting()
    with pytest.raises(KeyboardInterrupt), Storing(store) as storing:  # type: ignore[arg-type]
        for number in range(3 * WAITING):
            storing.add(entry(str(number)), RECORD)
        storing.reject(entry("bad"), "code", "why")
        raise KeyboardInterrupt
    assert store.given == [*map(str, range(3 * WAITING)), "bad"]


def test_an_error_of_the_disk_reaches_the_run_and_nothing_is_stored_after_it() -> None:
    store = Noting(room=2)
    with pytest.raises(OSError, match="No space left"), Storing(store) as storing:  # type: ignore[arg-type]
        for number in range(5 * WAITING):  # more than may wait: it does not wait for ever
            storing.add(entry(str(number)), RECORD)
    assert store.given == ["0", "1"]
    with pytest.raises(OSError, match="No space left"), Storing(Noting(room=0)) as storing:  # type: ignore[arg-type]
        storing.add(entry("last"), RECORD)


def test_where_no_thread_can_be_started_it_stores_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    store = Noting()
    with Storing(store) as storing:  # type: ignore[arg-type]
        storing.add(entry("one"), RECORD)
        assert store.given == ["one"]


def test_a_store_of_files_is_what_it_takes(tmp_path: Path, task: Any) -> None:
    assert {name for name in ("add", "reject") if hasattr(RunStore, name)} == {"add", "reject"}
