"""What the store has was written whole and synced; a crash at any step loses nothing and answers nothing twice."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_images import Lines

from molre_edge.errors import RunError
from molre_edge.node import durable
from molre_edge.node.configuration import Keep
from molre_edge.node.entries import Conclusion, Job
from molre_edge.node.journal import Journal
from molre_edge.node.keeping import Keeper
from molre_edge.node.store import Store


def due(store: Store) -> Job:
    job = store.next_job(0.0, 3600.0)
    assert job is not None
    return job


def report(store: Store, job: Job, text: str = "answer") -> Conclusion:
    folder = store.report_partial(job)
    (folder / "findings.json").write_text(text)
    return Conclusion(outcome="answered", answered=text, report=folder)


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_images_come_back_as_they_were_sent_under_names_that_say_nothing(store: Store) -> None:
    assert store.receive("1.2.3", "1.2.3.4", b"head") == (store.ids.study("1.2.3"), "new")
    (path,) = (store.folder / "images").rglob("*.dcm")
    assert path.read_bytes() == b"head"
    assert "1.2.3" not in str(path) and path.name == f"{store.ids.instance('1.2.3.4')}.dcm"
    assert (path.parent.stat().st_mode & 0o777, store.folder.stat().st_mode & 0o777) == (0o700, 0o700)
    assert (store.folder / "node.sqlite3").stat().st_mode & 0o777 == 0o600


def test_file_folder_and_row_are_synced_in_this_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.receive("1.2.3", "1.2.3.1", b"head")  # makes the study's folder
    order: list[str] = []

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def before(*words: Any, **values: Any) -> Any:
            order.append(name)
            return call(*words, **values)

        return before

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(durable.os, name, noted(name, getattr(os, name)))
        patch.setattr(store, "_note_image", noted("row", store._note_image))
        store.receive("1.2.3", "1.2.3.2", b"head")
    assert order == ["fsync", "replace", "fsync", "row"]
    assert store.rows("PRAGMA synchronous")[0]["synchronous"] == 2  # FULL: a commit is a sync
    assert store.rows("PRAGMA journal_mode")[0]["journal_mode"] == "wal"


def test_ids_are_of_this_node_alone(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    assert other.ids.study("1.2.3") != store.ids.study("1.2.3")
    other.close()


def test_a_study_is_due_after_its_quiet_time_with_exactly_the_images_that_it_has(store: Store) -> None:
    for number in range(3):
        store.receive("1.2.3", f"1.2.3.{number}", b"head")
    assert store.next_job(60.0, 3600.0) is None
    job = due(store)
    store.receive("1.2.3", "1.2.3.9", b"late")
    assert (job.version, job.attempts, job.number, len(job.images)) == (1, 1, 1, 3)
    assert sorted(path.stem for path in job.folder.iterdir()) == sorted(job.images)


def test_a_study_that_never_rests_is_answered_after_the_longest_time(store: Store) -> None:
    store.receive("1.2.3", "1.2.3.1", b"head")
    assert store.next_job(3600.0, 3600.0) is None
    assert store.next_job(3600.0, 0.0) is not None


def test_a_clock_that_was_set_back_keeps_no_study_waiting_for_longer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.receive("1.2.3", "1.2.3.1", b"head")
    (last,) = (row["last"] for row in store.rows("SELECT last FROM studies"))
    monkeypatch.setattr("molre_edge.node.store.time.time", lambda: last - 7200)
    assert store.next_job(10.0, 1e6) is None
    monkeypatch.setattr("molre_edge.node.store.time.time", lambda: last - 7189)
    assert store.next_job(10.0, 1e6) is not None


def test_a_clock_that_was_set_back_holds_no_attempt_for_longer_than_the_longest_pause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr("molre_edge.node.store.time.time", lambda: now)
    store.receive("1.2.3", "1.2.3.1", b"head")
    for _ in range(2):
        store.put_off(due(store), "EngineError")  # then it waits for some seconds
    assert store.next_job(0.0, 3600.0) is None
    now -= 86400.0
    job = due(store)
    store.conclude(job, report(store, job), ["pacs"], ["sr"])
    store.not_delivered(store.due_deliveries("pacs", 600.0)[0], "waiting", "no connection", 600.0)
    assert store.due_deliveries("pacs", 600.0) == []
    now -= 1.0
    assert len(store.due_deliveries("pacs", 600.0)) == 1


def test_a_folder_where_no_hard_links_can_be_made_is_refused_by_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    store.receive("1.2.3", "1.2.3.1", b"head")
    monkeypatch.setattr(Path, "hardlink_to", refused)
    with pytest.raises(RunError, match=r"usb: its file system makes no hard links \(Operation not permitted\)"):
        Store(tmp_path / "usb")
    assert everything(tmp_path / "usb") == []
    with pytest.raises(PermissionError):
        store.next_job(0.0, 3600.0)
    assert store.rows("SELECT problem FROM studies") == [{"problem": "no_job"}]


def test_the_same_images_again_start_nothing(store: Store) -> None:
    store.receive("1.2.3", "1.2.3.1", b"head")
    job = due(store)
    store.conclude(job, report(store, job), ["pacs"], ["sr"])
    assert store.receive("1.2.3", "1.2.3.1", b"head")[1] == "again"
    assert store.receive("1.2.3", "1.2.3.1", b"another head")[1] == "differs"
    assert store.next_job(0.0, 3600.0) is None
    assert [path.read_bytes() for path in (store.folder / "images").rglob("*.dcm")] == [b"head"]


def test_a_late_image_makes_a_new_version_that_knows_the_one_before(store: Store) -> None:
    store.receive("1.2.3", "1.2.3.1", b"head")
    first = due(store)
    assert store.answered_before(first) is None
    store.receive("1.2.3", "1.2.3.2", b"late")  # while it is answered
    store.conclude(first, report(store, first), [], [])
    second = due(store)
    assert (second.version, len(second.images)) == (2, 2)
    digest, folder = store.answered_before(second) or ("", Path())
    assert (digest, folder.name, everything(folder)) == ("answer", "0001", ["findings.json"])


def test_a_study_that_fails_waits_longer_each_time_and_the_others_go_on(store: Store) -> None:
    for study in ("1.2.3", "1.2.4"):
        store.receive(study, f"{study}.1", b"head")
    bad, good = due(store), due(store)
    assert bad.study != good.study
    store.put_off(bad, "EngineError")
    assert due(store).attempts == 2  # at once, the second time
    assert store.next_job(0.0, 3600.0).study == good.study  # type: ignore[union-attr]
    assert store.next_job(0.0, 3600.0) is None
    assert [row["problem"] for row in store.rows("SELECT problem FROM studies ORDER BY number")] == ["EngineError", ""]


def test_a_version_is_sent_after_the_one_before_it(store: Store) -> None:
    for number in (1, 2):
        store.receive("1.2.3", f"1.2.3.{number}", b"head")
        job = due(store)
        store.conclude(job, report(store, job, str(number)), ["pacs"], ["sr"])
    first, second = store.due_deliveries("pacs")
    assert (first.version, second.version, first.path.parent.name) == (1, 2, "0001")
    store.not_delivered(first, "waiting", "no connection", 60.0)
    assert store.due_deliveries("pacs") == []
    store.not_delivered(first, "refused", "status 0xA900", 60.0)  # it may never be taken: the next one is tried
    assert [each.version for each in store.due_deliveries("pacs")] == [2]
    store.delivered(second)
    assert store.due_deliveries("pacs") == []


def test_what_is_old_and_delivered_goes_and_the_rest_stays(store: Store) -> None:
    for study in ("1.2.3", "1.2.4", "1.2.5"):
        store.receive(study, f"{study}.1", b"head")
    for destinations in ([], ["pacs"]):
        job = due(store)
        store.conclude(job, report(store, job), destinations, ["sr"])
    assert store.remove_images(float("inf")) == 1  # one waits for the destination, one for its answer
    assert store.forget(float("inf")) == 1
    assert len(store.rows("SELECT * FROM studies")) == 2
    store.delivered(store.due_deliveries("pacs")[0])
    assert (store.remove_images(0.0), store.remove_images(float("inf")), store.forget(float("inf"))) == (0, 1, 1)
    assert len(everything(store.folder / "images")) == 1 and everything(store.folder / "reports") == []


def test_the_keeper_follows_the_configuration_once_a_minute(store: Store, journal: Journal, lines: Lines) -> None:
    store.receive("1.2.3", "1.2.3.1", b"head")
    job = due(store)
    store.conclude(job, report(store, job), [], [])
    Keeper(Keep(), store, journal).step()
    assert lines.told == []
    keeper = Keeper(Keep(images_hours=0, reports_days=0), store, journal)
    keeper.step()
    assert lines.told[0].endswith("removed images=1 studies=1")
    store.receive("1.2.4", "1.2.4.1", b"head")
    job = due(store)
    store.conclude(job, report(store, job), [], [])
    keeper.step()
    assert len(lines.told) == 1


def test_a_late_image_is_not_answered_alone_where_the_others_were_removed(store: Store) -> None:
    store.receive("1.2.3", "1.2.3.1", b"head")
    job = due(store)
    store.conclude(job, report(store, job), [], [])
    store.remove_images(float("inf"))
    store.receive("1.2.3", "1.2.3.2", b"late")
    assert store.next_job(0.0, 0.0) is None
    store.receive("1.2.3", "1.2.3.1", b"head")
    assert len(due(store).images) == 2


def test_a_study_waits_for_an_image_that_was_refused_for_want_of_space(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr("molre_edge.node.store.time.time", lambda: now)
    store.refuse("1.2.3", "1.2.3.1")
    store.receive("1.2.3", "1.2.3.2", b"head")
    store.refuse("1.2.3", "1.2.3.3")
    store.receive("1.2.3", "1.2.3.1", b"head")
    assert store.next_job(0.0, 0.0) is None
    assert store.rows("SELECT problem FROM studies") == [{"problem": "no_space"}]
    store.receive("1.2.3", "1.2.3.3", b"head")
    job = due(store)
    assert len(job.images) == 3
    store.conclude(job, report(store, job), [], [])
    store.receive("1.2.4", "1.2.4.1", b"head")
    store.refuse("1.2.4", "1.2.4.2")
    assert store.next_job(0.0, 0.0) is None
    now += 901.0  # it never came again
    assert len(due(store).images) == 1


def test_a_full_disk_leaves_nothing_of_an_image_and_the_next_try_is_taken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.receive("1.2.3", "1.2.3.1", b"head")
    assert everything(store.folder / "images") == [] and store.rows("SELECT * FROM images") == []
    assert store.receive("1.2.3", "1.2.3.1", b"head")[1] == "new"


def test_a_database_that_can_t_be_written_leaves_nothing_of_an_image(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_note_image", fails)
        with pytest.raises(sqlite3.Error):
            store.receive("1.2.3", "1.2.3.1", b"head")
    assert everything(store.folder / "images") == []


def test_the_same_image_from_many_senders_at_once_is_new_once(store: Store) -> None:
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(store.receive("1.2.3", "1.2.3.1", b"head")[1])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["again"] * 7 + ["new"]


def test_a_database_of_another_version_or_damaged_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "a").close()
    with sqlite3.connect(tmp_path / "a" / "node.sqlite3") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(RunError, match="a database of version 99, this molre-edge reads version 1"):
        Store(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "node.sqlite3").write_bytes(b"no database at all" * 1000)
    with pytest.raises(RunError, match="can't be opened"):
        Store(tmp_path / "b")


class Killed(BaseException):
    """What kill -9 does: nothing after it is executed. SQLite rolls back what was not committed."""


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> bool:
    """Whether work was cut just before its step-th sync, rename, link or commit."""
    seen = 0

    def cut(call: Callable[..., Any]) -> Callable[..., Any]:
        def before(*words: Any, **values: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == step:
                raise Killed
            return call(*words, **values)

        return before

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(durable.os, name, cut(getattr(os, name)))
        patch.setattr(Path, "hardlink_to", cut(Path.hardlink_to))
        patch.setattr(Path, "unlink", cut(Path.unlink))
        change = Store._change
        patch.setattr(Store, "_change", cut(change))
        try:
            work()
        except Killed:
            return True
    return False


def life(folder: Path, acknowledged: set[str], given: list[str]) -> None:
    """A sender's and a node's work: three images, an answer, a late image, an answer; deliveries; clearing up."""
    store = Store(folder)
    try:
        for wave in (("1", "2"), ("3",)):
            for number in wave:
                if number not in acknowledged:
                    store.receive("1.2.3", f"1.2.3.{number}", number.encode())
                    acknowledged.add(number)
            while (job := store.next_job(0.0, 3600.0)) is not None:
                store.conclude(job, report(store, job, f"{len(job.images)} images"), ["pacs"], ["sr"])
            for each in store.due_deliveries("pacs"):
                given.append((each.path.parent / "findings.json").read_text())
                store.delivered(each)
    finally:
        store.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory: a kill loses nothing of what a process wrote, synced or not, so no disk is needed."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    yield folder
    shutil.rmtree(folder)


def test_a_kill_at_any_step_loses_nothing_and_answers_nothing_twice(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molre_edge.node.due._PAUSES_SECONDS", (0.0,))
    step, cut = 0, True
    while cut:
        step += 1
        folder, acknowledged, given = scratch / f"{step}", set[str](), list[str]()
        cut = killed_at(step, monkeypatch, lambda: life(folder, acknowledged, given))  # noqa: B023 - called here
        life(folder, acknowledged, given)
        store = Store(folder)
        rows = store.rows("SELECT version, count, outcome FROM reports ORDER BY version")
        assert [row["count"] for row in rows] in ([2, 3], [3]), step
        assert len(store.rows("SELECT id FROM images WHERE present = 1")) == 3
        assert store.rows("SELECT id FROM deliveries WHERE state != 'sent'") == []
        assert store.rows("SELECT id FROM studies WHERE new_since IS NOT NULL") == []
        assert (given[-1], list(dict.fromkeys(given))) == ("3 images", [f"{row['count']} images" for row in rows])
        assert len(everything(folder / "images")) == 3 and len(everything(folder / "reports")) == len(rows)
        assert everything(folder / "jobs") == [] and not list(folder.rglob("*.partial"))
        store.close()
        shutil.rmtree(folder)
    assert step > 30


def two_studies(folder: Path, acknowledged: set[str]) -> None:
    """The work of a node that looks ahead, and gives up once what it looked at."""
    store = Store(folder)
    try:
        for study in ("1.2.3", "1.2.4"):
            if study not in acknowledged:
                store.receive(study, f"{study}.1", b"head")
                acknowledged.add(study)
        ahead = None
        while (job := store.next_job(0.0, 3600.0, ahead)) is not None:
            assert everything(job.folder) == [f"{image}.dcm" for image in job.images]
            ahead = store.look_ahead(0.0, 3600.0, job, None)
            if ahead is not None:
                store.drop(ahead)
                ahead = store.look_ahead(0.0, 3600.0, job, None)
            store.conclude(job, report(store, job), [], [])
    finally:
        store.close()


def test_a_kill_while_a_study_is_read_ahead_loses_nothing_and_answers_nothing_twice(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molre_edge.node.due._PAUSES_SECONDS", (0.0,))
    step, cut = 0, True
    while cut:
        step += 1
        folder, acknowledged = scratch / f"{step}", set[str]()
        cut = killed_at(step, monkeypatch, lambda: two_studies(folder, acknowledged))  # noqa: B023 - called here
        two_studies(folder, acknowledged)
        store = Store(folder)
        rows = store.rows("SELECT version, count, outcome FROM reports")
        assert rows == [{"version": 1, "count": 1, "outcome": "answered"}] * 2, step
        assert store.rows("SELECT id FROM studies WHERE new_since IS NOT NULL") == []
        assert everything(folder / "jobs") == []
        store.close()
    assert step > 25


def test_looking_ahead_takes_the_next_study_once_and_notes_no_attempt(store: Store) -> None:
    for study in ("1.2.3", "1.2.4", "1.2.5"):
        store.receive(study, f"{study}.1", b"head")
    job = due(store)
    ahead = store.look_ahead(0.0, 3600.0, job, None)
    assert ahead is not None and ahead.study == store.ids.study("1.2.4") and ahead.folder.name == ahead.study
    assert store.look_ahead(0.0, 3600.0, job, ahead) is ahead
    assert store.rows("SELECT sum(attempts) AS n FROM studies") == [{"n": 1}]
    store.conclude(job, report(store, job), [], [])
    (file,) = ahead.folder.iterdir()
    linked = file.stat().st_ctime_ns  # a reader holds it against what it found
    taken = store.next_job(0.0, 3600.0, ahead)
    assert taken is not None and (taken.study, taken.folder) == (ahead.study, ahead.folder)
    assert file.stat().st_ctime_ns == linked


def test_what_was_looked_ahead_is_another_once_an_image_came(store: Store) -> None:
    for study in ("1.2.3", "1.2.4"):
        store.receive(study, f"{study}.1", b"head")
    job = due(store)
    ahead = store.look_ahead(0.0, 3600.0, job, None)
    store.receive("1.2.4", "1.2.4.2", b"late")
    now = store.look_ahead(0.0, 3600.0, job, ahead)
    assert now is not None and now is not ahead and len(everything(now.folder)) == 2
    store.receive("1.2.4", "1.2.4.3", b"later")
    assert store.look_ahead(60.0, 3600.0, job, now) is None  # not due any more
    assert not now.folder.exists() and job.folder.exists()
    store.conclude(job, report(store, job), [], [])
    taken = store.next_job(0.0, 3600.0, now)
    assert taken is not None and len(everything(taken.folder)) == 3
