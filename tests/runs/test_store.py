"""A run's folder: ids stay, answers are never lost, and a run of something else is not gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.errors import RunError
from molre_edge.parity import Outputs
from molre_edge.runs.answers import Record
from molre_edge.runs.finished import open_run
from molre_edge.runs.folder_lock import LOCK_FILE
from molre_edge.runs.scan_ids import IdSecret
from molre_edge.runs.scan_table import Entry, append_entry, read_entries
from molre_edge.runs.slices import add_slices
from molre_edge.runs.store import RunStore, Task, new_folder, read_head
from molre_edge.scans import FoundScans, GridSlice, RejectedScan, ScanSource, SliceSource


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of scans: files a to d. The store never opens them."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "abcd":
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def found(root: Path, names: Iterable[str], *, rejected: Iterable[tuple[str, str]] = ()) -> FoundScans:
    scans = tuple(ScanSource(root / name, (root / name,), "nifti") for name in names)
    return FoundScans(scans, tuple(RejectedScan(root / name, code, "a reason") for name, code in rejected), ())


def record(scan: str, value: float = 0.0) -> Record:
    return Record(scan, Outputs(np.full((1, 3), value), np.zeros((1, 2))), None, {"compute": 1.0})


def start(folder: Path, task: Task, root: Path, names: str, *, answered: str = "", **more: Any) -> RunStore:
    """A run that answered some of its scans and was cut then."""
    store = RunStore.create(folder, task)
    todo = store.enter(found(root, names, **more), root)
    store.begin()
    for entry, _ in todo:
        if entry.path in answered:
            store.add(entry, record(entry.scan, ord(entry.path)))
    store.close()
    return store


def ids(store: RunStore) -> dict[str, str]:
    return {entry.path: entry.scan for entry in store.entries}


def paths(store: RunStore) -> list[str]:
    return [entry.path for entry in store.entries]


def name_of(store: RunStore, record: Record) -> str:
    """The path of the scan that a record answers."""
    return next(entry.path for entry in store.entries if entry.scan == record.scan)


def states(store: RunStore) -> dict[str, str]:
    return {entry.path: entry.code or entry.status for entry in store.entries}


def test_a_new_run_writes_nothing_before_it_begins(folder: Path, root: Path, task: Task) -> None:
    store = RunStore.create(folder, task)
    store.enter(found(root, "ab"), root)
    assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
    store.begin()
    assert {path.name for path in folder.iterdir()} == {LOCK_FILE, "ids.secret", "outputs", "run.json", "scans.csv"}


def test_a_run_that_did_not_begin_leaves_nothing_and_one_that_did_stays(folder: Path, root: Path, task: Task) -> None:
    RunStore.create(folder, task).close()
    assert not folder.exists()
    start(folder, task, root, "a").close()
    assert (folder / "run.json").is_file()


@pytest.mark.parametrize("there", ["file", "folder with something"])
def test_a_folder_that_holds_something_is_no_place_for_a_new_run(there: str, folder: Path, task: Task) -> None:
    if there == "file":
        folder.touch()
    else:
        folder.mkdir()
        (folder / "thesis.doc").touch()
    with pytest.raises(RunError, match=r"exists already.*-o.*--resume"):
        RunStore.create(folder, task)


@pytest.mark.parametrize("litter", [[], [".run.json.x.partial.json", "ids.secret"]])
def test_an_empty_folder_is_a_place_for_a_new_run(litter: list[str], folder: Path, task: Task) -> None:
    folder.mkdir()
    for name in litter:
        (folder / name).touch()
    assert RunStore.create(folder, task).folder == folder


def test_rows_count_from_one_by_path_and_what_was_rejected_comes_last(folder: Path, root: Path, task: Task) -> None:
    store = start(folder, task, root, "bd", rejected=[("a", "not_ct")])
    assert [(entry.row, entry.path) for entry in store.entries] == [(1, "b"), (2, "d"), (3, "a")]


def test_an_id_depends_on_the_scan_and_the_secret_and_on_nothing_else(tmp_path: Path, root: Path, task: Task) -> None:
    secret = IdSecret.new()
    alone = RunStore.create(tmp_path / "alone", task, secret)
    alone.enter(found(root, "b"), root)
    among = RunStore.create(tmp_path / "among", task, secret)
    among.enter(found(root, "abcd", rejected=[("e", "not_ct")]), root)
    other = RunStore.create(tmp_path / "other", task)
    other.enter(found(root, "b"), root)
    assert ids(alone)["b"] == ids(among)["b"] != ids(other)["b"]
    assert len(set(ids(among).values())) == 5


def test_going_on_asks_for_what_is_missing_and_keeps_the_rest(folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "abc", answered="b")
    again = RunStore.resume(folder, task)
    todo = again.enter(found(root, "abc"), root)
    assert [(entry.path, source.path.name) for entry, source in todo] == [("a", "a"), ("c", "c")]
    again.begin()
    [kept] = again.records()
    assert name_of(again, kept) == "b" and (kept.engine.logits == ord("b")).all()


def test_a_scan_that_changed_is_asked_again_under_its_id(folder: Path, root: Path, task: Task) -> None:
    before = ids(start(folder, task, root, "ab", answered="ab"))
    (root / "a").write_text("other content")
    again = RunStore.resume(folder, task)
    todo = again.enter(found(root, "ab"), root)
    assert [entry.scan for entry, _ in todo] == [before["a"]]
    again.begin()
    assert [r.scan for r in again.records()] == [before["b"]]
    assert not (folder / "outputs" / f"{before['a']}.npz").exists()


def test_a_scan_that_appeared_gets_its_row_by_its_path_and_the_others_keep_their_ids(
    folder: Path, root: Path, task: Task
) -> None:
    before = ids(start(folder, task, root, "bd", answered="b"))
    again = RunStore.resume(folder, task)
    again.enter(found(root, "abcd"), root)
    assert [(entry.row, entry.path) for entry in again.entries] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert before.items() <= ids(again).items()


def test_answers_of_a_scan_that_vanished_are_kept(folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "ab", answered="a")
    again = RunStore.resume(folder, task)
    todo = again.enter(found(root, "b"), root)
    again.begin()
    assert [entry.path for entry, _ in todo] == ["b"]
    assert states(again) == {"a": "done", "b": "pending"}
    assert [name_of(again, r) for r in again.records()] == ["a"]


def test_a_scan_that_vanished_before_it_was_answered_is_told_and_asked_when_it_is_back(
    folder: Path, root: Path, task: Task
) -> None:
    start(folder, task, root, "ab", answered="a")
    again = RunStore.resume(folder, task)
    assert again.enter(found(root, "a"), root) == []
    again.begin()
    assert states(again) == {"a": "done", "b": "gone"}
    again.close()
    back = RunStore.resume(folder, task)
    assert [entry.path for entry, _ in back.enter(found(root, "ab"), root)] == ["b"]
    assert ids(back) == ids(again)
    assert states(back) == {"a": "done", "b": "pending"}


def test_a_scan_that_is_refused_by_its_headers_now_has_no_answers_any_more(
    folder: Path, root: Path, task: Task
) -> None:
    start(folder, task, root, "ab", answered="ab")
    again = RunStore.resume(folder, task)
    again.enter(found(root, "b", rejected=[("a", "not_ct")]), root)
    again.begin()
    assert states(again) == {"a": "not_ct", "b": "done"}
    assert [name_of(again, r) for r in again.records()] == ["b"]


def test_a_scan_refused_on_its_content_is_not_read_again_unless_it_changed(
    folder: Path, root: Path, task: Task
) -> None:
    start(folder, task, root, "ab")
    store = RunStore.resume(folder, task)
    [(first, _), _] = store.enter(found(root, "ab"), root)
    store.begin()
    store.reject(first, "no_tissue", "nothing denser than air")
    store.close()
    again = RunStore.resume(folder, task)
    assert [entry.path for entry, _ in again.enter(found(root, "ab"), root)] == ["b"]
    assert states(again) == {"a": "no_tissue", "b": "pending"}
    again.close()
    os.utime(root / "a", ns=(0, 0))
    assert [e.path for e, _ in RunStore.resume(folder, task).enter(found(root, "ab"), root)] == ["a", "b"]


def test_two_refused_series_of_one_folder_keep_an_id_each(folder: Path, root: Path, task: Task) -> None:
    twins = [("c", "not_head"), ("c", "not_head")]
    first = [entry.scan for entry in start(folder, task, root, "a", rejected=twins).entries]
    assert len(set(first)) == 3
    for _ in range(2):
        again = RunStore.resume(folder, task)
        again.enter(found(root, "a", rejected=twins), root)
        again.begin()
        assert [entry.scan for entry in again.entries] == first
        again.close()


def test_two_series_of_one_folder_are_told_apart_by_their_first_files(folder: Path, root: Path, task: Task) -> None:
    twins = FoundScans(tuple(ScanSource(root, (root / name,), "dicom") for name in "ab"), (), ())
    store = RunStore.create(folder, task)
    todo = store.enter(twins, root)
    store.begin()
    store.add(todo[1][0], record(todo[1][0].scan, 7))
    store.close()
    again = RunStore.resume(folder, task)
    assert [(entry.scan, entry.key) for entry, _ in again.enter(twins, root)] == [(todo[0][0].scan, "a")]


@pytest.mark.parametrize("name", [os.fsdecode(b"latin-\xe9"), "line\nbreak", "carriage\rreturn", '"quoted", [bold]'])
def test_a_scan_of_any_name_is_known_again(name: str, folder: Path, root: Path, task: Task) -> None:
    (root / name).write_text("x")
    store = RunStore.create(folder, task)
    [(entry, _)] = store.enter(found(root, [name]), root)
    store.begin()
    store.add(entry, record(entry.scan))
    store.close()
    again = RunStore.resume(folder, task)
    assert again.enter(found(root, [name]), root) == []
    assert [each.scan for each in again.entries] == [entry.scan]


def test_a_damaged_answer_is_asked_again(folder: Path, root: Path, task: Task) -> None:
    before = ids(start(folder, task, root, "ab", answered="ab"))
    (folder / "outputs" / f"{before['b']}.npz").write_bytes(b"PK")
    again = RunStore.resume(folder, task)
    assert [entry.path for entry, _ in again.enter(found(root, "ab"), root)] == ["b"]


def test_a_row_is_appended_for_each_scan_and_nothing_is_written_again(folder: Path, root: Path, task: Task) -> None:
    store = RunStore.create(folder, task)
    todo = store.enter(found(root, "abc"), root)
    store.begin()
    table = folder / "scans.csv"
    before = table.read_bytes()
    store.add(todo[0][0], record(todo[0][0].scan))
    store.reject(todo[1][0], "no_tissue", "a reason,\nin two lines")
    appended = table.read_bytes()
    assert appended.startswith(before)
    assert [line.split(",")[5] for line in appended[len(before) :].decode().splitlines()] == ["done", "rejected"]
    assert [entry.status for entry in read_entries(table, torn=True)] == ["done", "rejected", "pending"]
    store.finish()
    assert table.read_text().count("\n") == 4
    assert [entry.row for entry in read_entries(table)] == [1, 2, 3]


@pytest.mark.parametrize(
    "torn", ["2,scan-torn", '2,scan-aaaaaaaaaaaaaaaa,b,b,ff,rejec"', "2,scan-aaaaaaaaaaaaaaaa,b\n"]
)
def test_a_last_row_that_a_kill_left_torn_is_dropped(torn: str, folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "ab", answered="a")
    with (folder / "scans.csv").open("a") as file:
        file.write(torn)
    again = RunStore.resume(folder, task)
    assert [entry.path for entry, _ in again.enter(found(root, "ab"), root)] == ["b"]
    again.begin()
    assert states(again) == {"a": "done", "b": "pending"}
    assert torn not in (folder / "scans.csv").read_text()


def test_a_torn_row_among_others_is_damage(folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "ab")
    lines = (folder / "scans.csv").read_text().splitlines()
    (folder / "scans.csv").write_text("\n".join([lines[0], lines[1][:30], lines[2], ""]))
    with pytest.raises(RunError, match=r"scans\.csv: damaged"):
        RunStore.resume(folder, task)


def test_a_run_whose_secret_is_gone_or_another_is_not_resumed(folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "a")
    with pytest.raises(RunError, match=r"another secret of its ids\. Name the file"):
        RunStore.resume(folder, task, IdSecret.new())
    (folder / "ids.secret").unlink()
    with pytest.raises(RunError, match=r"ids\.secret: the secret of the ids can't be read"):
        RunStore.resume(folder, task)


def test_a_secret_that_is_not_the_run_s_costs_no_answers(folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "ab", answered="ab")
    before = sorted(path.name for path in (folder / "outputs").iterdir())
    own = (folder / "ids.secret").read_text()
    IdSecret.new().write(folder / "ids.secret", replace=True)
    with pytest.raises(RunError, match=r"ids\.secret: not the secret that this run was started with"):
        RunStore.resume(folder, task)
    assert sorted(path.name for path in (folder / "outputs").iterdir()) == before
    (folder / "ids.secret").write_text(own)
    assert RunStore.resume(folder, task).enter(found(root, "ab"), root) == []


def test_the_newest_run_is_sought_among_those_of_the_secret(tmp_path: Path, root: Path, task: Task) -> None:
    secrets = [IdSecret.new(), IdSecret.new()]
    for number, secret in enumerate(secrets):
        store = RunStore.create(tmp_path / "runs" / str(number), task, secret)
        store.enter(found(root, "a"), root)
        store.begin()
        store.close()
    assert RunStore.newest_unfinished(tmp_path / "runs", task).name == "1"
    assert RunStore.newest_unfinished(tmp_path / "runs", task, secrets[0]).name == "0"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a file's size are Linux's here")
def test_a_full_disk_within_a_row_is_an_error(folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "a")
    size = (folder / "scans.csv").stat().st_size
    code = (
        "import resource, signal, sys; from pathlib import Path; from molre_edge.runs.scan_table import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); path = Path(sys.argv[1]); [entry] = read_entries(path)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "append_entry(path, entry)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "scans.csv"), str(size + 20)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "File too large" in done.stderr


def test_a_run_of_an_earlier_version_is_not_resumed(folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "a")
    head = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**head, "version": 1}))
    with pytest.raises(RunError, match=r"made by another version of molre-edge\. .* run it again"):
        RunStore.resume(folder, task)


def test_beginning_clears_away_half_written_files_and_answers_of_nobody(folder: Path, root: Path, task: Task) -> None:
    [answered] = ids(start(folder, task, root, "a", answered="a")).values()
    litter = [
        folder / ".findings.csv.x1.partial.csv",
        folder / "outputs" / f".{answered}.npz.x2.partial.npz",
        folder / "outputs" / "scan-aaaaaaaaaaaaaaaa.npz",
    ]
    for path in litter:
        path.touch()
    again = RunStore.resume(folder, task)
    again.enter(found(root, "a"), root)
    again.begin()
    assert not any(path.exists() for path in litter)
    assert (folder / "outputs" / f"{answered}.npz").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "onnxruntime:fp16"}, "engine 'onnxruntime:fp32', not 'onnxruntime:fp16'"),
        ({"reference": "none"}, "reference 'golden', not 'none'"),
        ({"all_series": True}, "all_series False, not True"),
        ({"threads": 2}, "threads None, not 2"),
        ({"bundle": "another"}, "another bundle"),
        ({"scans": "another"}, "another folder of scans"),
    ],
)
def test_a_run_of_something_else_is_not_gone_on_with(
    change: dict[str, Any], message: str, folder: Path, root: Path, task: Task
) -> None:
    start(folder, task, root, "a")
    with pytest.raises(RunError, match=f"that run had {message}"):
        RunStore.resume(folder, replace(task, **change))


def test_a_folder_of_runs_is_told_with_one_to_name_and_one_that_is_not_there_as_such(tmp_path: Path) -> None:
    for name in ("early", "late"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    with pytest.raises(RunError, match=r"holds 2 runs; name one, such as .*late"):
        read_head(tmp_path)
    with pytest.raises(RunError, match=r"no such folder\. Name the folder of a run"):
        read_head(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"format": "other"}', b"\xff"])
def test_a_folder_without_a_run_is_refused(content: str | bytes | None, folder: Path, task: Task) -> None:
    folder.mkdir()
    if content is not None:
        (folder / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError, match="not a run of molre-edge"):
        RunStore.resume(folder, task)


def test_a_run_without_its_task_or_with_a_damaged_table_is_refused(folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "a")
    (folder / "scans.csv").write_text("scan,path\nscan-aaaaaaaaaaaaaaaa,a\n")
    with pytest.raises(RunError, match=r"scans\.csv: damaged"):
        RunStore.resume(folder, task)
    (folder / "run.json").write_text('{"format": "molre-edge-run", "version": 2}')
    with pytest.raises(RunError, match=r"run\.json: damaged"):
        RunStore.resume(folder, task)


def put_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["run.json", "scans.csv", "ids.secret", LOCK_FILE])
def test_a_pipe_in_place_of_a_file_is_refused_at_once(name: str, folder: Path, root: Path, task: Task) -> None:
    start(folder, task, root, "a")
    put_pipe(folder / name)
    with pytest.raises((RunError, OSError), match=r"not a regular file|named pipe|run\.json can't be read"):
        RunStore.resume(folder, task)


def test_a_pipe_in_place_of_answers_is_an_answer_that_is_missing(folder: Path, root: Path, task: Task) -> None:
    first = start(folder, task, root, "ab", answered="ab")
    put_pipe(folder / "outputs" / f"{ids(first)['a']}.npz")
    store = RunStore.resume(folder, task)
    assert [entry.path for entry, _ in store.enter(found(root, "ab"), root)] == ["a"]


def test_nothing_is_appended_to_a_pipe(tmp_path: Path) -> None:
    entry = Entry("scan-aaaaaaaaaaaaaaaa", "a", "a", "", "pending")
    slices = [GridSlice(1, 1.0, SliceSource(tmp_path / "a", "", 1), 1, 0.0)]
    for name in ("scans.csv", "slices.csv"):
        put_pipe(tmp_path / name)
    with pytest.raises(OSError, match="a named pipe, not a regular file"):
        append_entry(tmp_path / "scans.csv", entry)
    with pytest.raises(OSError, match="a named pipe, not a regular file"):
        add_slices(tmp_path, entry.scan, slices, tmp_path)


def test_the_newest_run_that_was_cut_and_fits_is_found(tmp_path: Path, root: Path, task: Task) -> None:
    runs = tmp_path / "edge-runs"
    for name in ("20260101T000000Z", "20260102T000000Z"):
        start(runs / name, task, root, "a")
    start(runs / "20260103T000000Z", task, root, "a").finish()
    start(runs / "20260104T000000Z", replace(task, engine="torch:fp32"), root, "a")
    (runs / "20260105T000000Z").mkdir()
    (runs / "20260105T000000Z" / "run.json").write_text("{")
    assert RunStore.newest_unfinished(runs, task) == runs / "20260102T000000Z"
    with pytest.raises(RunError, match="no interrupted run"):
        RunStore.newest_unfinished(runs, replace(task, reference="none"))
    with pytest.raises(RunError, match="no interrupted run"):
        RunStore.newest_unfinished(tmp_path / "nowhere", task)


def test_a_finished_run_that_goes_on_counts_as_cut_until_it_is_finished_again(
    folder: Path, root: Path, task: Task
) -> None:
    start(folder, task, root, "a", answered="a").finish()
    assert json.loads((folder / "run.json").read_text())["finished"] is True
    again = RunStore.resume(folder, task)
    again.enter(found(root, "ab"), root)
    again.begin()
    with pytest.raises(RunError, match="no interrupted run"):  # it is running
        RunStore.newest_unfinished(folder.parent, task)
    again.close()
    assert RunStore.newest_unfinished(folder.parent, task) == folder
    again.finish()
    assert json.loads((folder / "run.json").read_text())["finished"] is True


def test_the_description_holds_no_path(folder: Path, root: Path, task: Task) -> None:
    named = root / "Muster, Erika"
    named.mkdir()
    start(folder, replace(task, scans=Task.hide(named)), root, "a")
    text = (folder / "run.json").read_text()
    assert "Muster" not in text and str(root) not in text
    assert Task.hide(named) == Task.hide(named / ".." / named.name)


def test_a_folder_is_one_run_s_from_its_start_to_its_end(folder: Path, root: Path, task: Task) -> None:
    store = RunStore.create(folder, task)
    used = r"run: process [0-9]+ on .* since .* is using this run's folder"
    with pytest.raises(RunError, match=used):
        RunStore.create(folder, task)
    store.enter(found(root, "a"), root)
    store.begin()
    for take in (RunStore.create, RunStore.resume):
        with pytest.raises(RunError, match=used):
            take(folder, task)
    with pytest.raises(RunError, match=r"this run is unfinished, process [0-9]+ on .* is working on it"):
        open_run(folder)
    store.finish()
    RunStore.resume(folder, task).close()


def test_a_run_s_folder_is_its_user_s_alone(folder: Path, task: Task, tmp_path: Path) -> None:
    RunStore.create(folder, task).begin()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert new_folder(tmp_path / "edge-runs").stat().st_mode & 0o777 == 0o700
