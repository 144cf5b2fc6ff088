"""One process at a time in a folder, with real processes: taken at once, told to others, gone with its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from molre_edge.runs.folder_lock import LOCK_FILE, FolderLock, holder_of

HOLD = """
import sys, time
from pathlib import Path
from molre_edge.runs.folder_lock import FolderLock
lock = FolderLock.take(Path(sys.argv[1]))
print(lock if isinstance(lock, str) else "held", flush=True)
if not isinstance(lock, str):
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "folder"


def other(folder: Path) -> subprocess.Popen[str]:
    """A process that takes the lock, says what came of it, and holds it until its input ends."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def taken(folder: Path) -> FolderLock:
    lock = FolderLock.take(folder)
    assert isinstance(lock, FolderLock)
    return lock


def test_a_second_process_is_told_who_holds_it_and_gets_it_afterwards(folder: Path) -> None:
    lock = taken(folder)
    with other(folder) as refused:
        told = said(refused)
    assert told.startswith(f"process {os.getpid()} on ") and " since 20" in told
    assert holder_of(folder) == told
    lock.release()
    lock.release()
    assert holder_of(folder) is None and not (folder / LOCK_FILE).exists()
    with other(folder) as process:
        assert said(process) == "held"
        assert str(holder_of(folder)).startswith(f"process {process.pid} on ")
        assert isinstance(FolderLock.take(folder), str)


def test_a_killed_owner_leaves_no_lock(folder: Path) -> None:
    with other(folder) as process:
        assert said(process) == "held"
        process.send_signal(signal.SIGKILL)
    assert (folder / LOCK_FILE).exists() and holder_of(folder) is None
    taken(folder).release()
    assert not (folder / LOCK_FILE).exists()


def test_a_lock_that_nobody_refers_to_any_more_is_released(folder: Path) -> None:
    lock = taken(folder)
    del lock
    assert holder_of(folder) is None


def test_a_forked_child_does_not_take_the_lock_along(folder: Path) -> None:
    lock = taken(folder)
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert (folder / LOCK_FILE).exists()
    lock.release()


def test_of_many_at_once_exactly_one_gets_it(folder: Path) -> None:
    processes = [other(folder) for _ in range(6)]
    words = [said(process) for process in processes]
    for process in processes:
        process.communicate()
    assert words.count("held") == 1, words


def test_a_new_folder_is_its_user_s_alone_and_an_old_one_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    taken(folder).release()
    assert folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "old").mkdir(mode=0o755)
    taken(tmp_path / "old").release()
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o755


def test_a_link_in_place_of_the_lock_is_not_followed(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    (tmp_path / "thesis.tex").write_text("mine")
    (folder / LOCK_FILE).symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(OSError, match=r"symbolic|Too many levels"):
        FolderLock.take(folder)
    assert (tmp_path / "thesis.tex").read_text() == "mine"
