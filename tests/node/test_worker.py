"""While the engine answers a study, the next one is read: in order, as it was read, and given up where it must be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_images import Quick, receive

from molre_edge import load_model
from molre_edge.node.configuration import NodeConfig, Results
from molre_edge.node.journal import Journal
from molre_edge.node.store import Store
from molre_edge.node.worker import Worker
from molre_edge.runs.ahead import BegunStudy
from molre_edge.runs.loaded import LoadedModel


@pytest.fixture(scope="module")
def apart(tiny_bundle: Path) -> Iterator[LoadedModel]:
    """A model that reads in a process of its own."""
    with load_model(tiny_bundle, "fp32") as loaded:
        yield loaded


class Watched:
    """A model that notes what is begun and answered, and calls back while its engine would be at work."""

    def __init__(self, model: LoadedModel) -> None:
        self.model, self.begun, self.answered = model, list[tuple[Path, int]](), list[Path]()
        self.meanwhile: Callable[[], None] = lambda: None
        self.waiting: BegunStudy | None = None

    def begin(self, path: Path) -> BegunStudy:
        self.begun.append((path, len(list(path.iterdir()))))
        self.waiting = self.model.begin(path)
        return self.waiting

    def predict(self, study: BegunStudy) -> Any:
        self.answered.append(study.path)
        prediction = self.model.predict(study)
        self.meanwhile()
        return prediction


@pytest.fixture
def watched(apart: LoadedModel) -> Watched:
    return Watched(apart)


@pytest.fixture
def worker(config: NodeConfig, store: Store, journal: Journal, watched: Watched) -> Worker:
    plain = Results(sr="none", secondary_capture=False)
    quick = dataclasses.replace(config, study=Quick(), results=plain, destinations=())
    return Worker(quick, store, journal, watched)


def series(scans: Path, number: int) -> list[Path]:
    return sorted((scans / f"head-{number}").iterdir())


def said(store: Store) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in store.folder.glob("reports/*/*/findings.json")]


def test_studies_are_answered_in_order_and_each_next_one_was_read_before_its_turn(
    worker: Worker, watched: Watched, store: Store, tiny_scans: Path, apart: LoadedModel
) -> None:
    for number in (1, 2, 3):
        receive(store, series(tiny_scans, number))
    ids = [row["id"] for row in store.rows("SELECT id FROM studies ORDER BY number")]
    read = list[Path]()

    def next_is_read() -> None:
        if watched.waiting is not None and watched.waiting.path != watched.answered[-1]:
            read.append(watched.waiting.result().source.path)  # comes while the engine is at the present one

    watched.meanwhile = next_is_read
    assert worker.step() and worker.step() and worker.step() and not worker.step()
    assert [path.name for path in watched.answered] == [path.name for path, _ in watched.begun] == ids
    assert [path.name for path in read] == ids[1:]
    direct = {number: apart.predict(tiny_scans / f"head-{number}") for number in (1, 2, 3)}
    for each in said(store):
        assert each["version"] == 1
        assert each["findings"] == json.loads(json.dumps(direct[each["number"]].to_dict()["findings"]))
    assert list((store.folder / "jobs").iterdir()) == []


def test_an_image_that_comes_after_the_reading_is_in_the_report(
    worker: Worker, watched: Watched, store: Store, tiny_scans: Path
) -> None:
    receive(store, series(tiny_scans, 1))
    receive(store, series(tiny_scans, 2)[:11])

    def late() -> None:
        watched.meanwhile = lambda: None
        assert watched.waiting is not None and len(watched.waiting.result().source.files) == 11
        receive(store, series(tiny_scans, 2)[11:])

    watched.meanwhile = late
    assert worker.step() and worker.step() and not worker.step()
    assert [count for _, count in watched.begun] == [12, 11, 12]
    assert sorted((each["version"], each["images"]) for each in said(store)) == [(1, 12), (1, 12)]
    assert {each["read"]["files"] for each in said(store)} == {12}


def test_a_study_that_is_no_longer_due_is_given_up_and_another_takes_its_turn(
    worker: Worker, watched: Watched, store: Store, tiny_scans: Path
) -> None:
    for number in (1, 2, 3):
        receive(store, series(tiny_scans, number))

    def again() -> None:  # a sender begins the second study again: it waits for the quiet time, behind the third
        watched.meanwhile = lambda: None
        receive(store, series(tiny_scans, 2)[:1])

    watched.meanwhile = again
    assert worker.step() and worker.step() and worker.step() and not worker.step()
    numbers = {row["id"]: row["number"] for row in store.rows("SELECT id, number FROM studies")}
    assert [numbers[path.name] for path in watched.answered] == [1, 3, 2]
    assert len(said(store)) == 3 and list((store.folder / "jobs").iterdir()) == []


def test_at_the_end_what_was_read_ahead_stays_due(
    worker: Worker, watched: Watched, store: Store, tiny_scans: Path
) -> None:
    for number in (1, 2):
        receive(store, series(tiny_scans, number))
    assert worker.step()
    worker.drop_ahead()
    assert list((store.folder / "jobs").iterdir()) == []
    assert store.rows("SELECT attempts, problem FROM studies WHERE new_since IS NOT NULL") == [
        {"attempts": 0, "problem": ""}
    ]
    assert worker.step() and not worker.step() and len(said(store)) == 2
