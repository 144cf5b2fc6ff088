"""One writer at a time: real processes, and what a killed one leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from molre_edge.errors import InUseError
from molre_edge.locks import hold

pytest.importorskip("fcntl", reason="locks are those of POSIX")

HOLDS = """
import sys
from pathlib import Path
from molre_edge.locks import hold

with hold(Path(sys.argv[1]), "molre-edge export"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds a folder until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("exists", [True, False])
def test_a_second_process_is_told_who_holds_a_folder(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    if exists:
        folder.mkdir()
    process = holder(folder)
    words = rf"bundle: in use by process {process.pid} on .* \(molre-edge export, since "
    with pytest.raises(InUseError, match=words), hold(folder, "molre-edge build"):
        pytest.fail("held twice")
    with hold(tmp_path / "other", "molre-edge build"):
        pass
    process.communicate(timeout=60)
    with hold(folder, "molre-edge build"):
        pass
    assert os.listdir(tmp_path) == (["bundle"] if exists else [])


def test_a_killed_process_holds_nothing_and_its_file_is_used_again(tmp_path: Path) -> None:
    process = holder(tmp_path / "bundle")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert os.listdir(tmp_path) == [".bundle.lock"]
    with hold(tmp_path / "bundle", "molre-edge export"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_folder_is_held_while_it_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    process = holder(folder)
    folder.rename(tmp_path / "old")
    folder.mkdir()
    with pytest.raises(InUseError), hold(folder, "molre-edge export"):
        pytest.fail("held twice")
    process.communicate(timeout=60)


RACES = """
import sys
from pathlib import Path
from molre_edge.errors import InUseError
from molre_edge.locks import hold

folder, mark, wins = Path(sys.argv[1]), Path(sys.argv[1] + ".mark"), 0
for _ in range(400):
    try:
        with hold(folder, "race"):
            mark.touch(exist_ok=False)  # fails if another process is in here too
            wins += 1
            mark.unlink()
    except InUseError:
        pass
print(wins)
"""


def test_processes_that_race_for_it_are_never_in_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACES, str(tmp_path / "bundle")]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    wins = [int(racer.communicate(timeout=120)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0] and all(wins)
    assert os.listdir(tmp_path) == []


def test_parents_that_were_made_for_it_go_unless_they_are_used(tmp_path: Path) -> None:
    with hold(tmp_path / "a" / "b" / "bundle", "molre-edge export"):
        assert os.listdir(tmp_path / "a" / "b") == [".bundle.lock"]
    assert os.listdir(tmp_path) == []
    with hold(tmp_path / "a" / "bundle", "molre-edge export"):
        (tmp_path / "a" / "bundle").mkdir()
    assert os.listdir(tmp_path / "a") == ["bundle"]


def test_a_lock_s_file_that_is_a_link_or_a_pipe_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".bundle.lock").symlink_to("precious")
    os.mkfifo(tmp_path / ".other.lock")
    start = time.monotonic()
    for name in ("bundle", "other"):
        with hold(tmp_path / name, "molre-edge export"):
            pass
    assert (tmp_path / "precious").read_text() == "kept" and time.monotonic() - start < 30


def test_the_longest_legal_name_can_be_held(tmp_path: Path) -> None:
    with hold(tmp_path / ("x" * 255), "molre-edge export"):
        pass
    assert os.listdir(tmp_path) == []


def test_without_locks_it_works_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with hold(tmp_path / "bundle", "one"), hold(tmp_path / "bundle", "two"):
        pass
