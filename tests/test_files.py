"""Files and folders written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from molre_edge import files
from molre_edge.files import (
    name_problem,
    read_regular,
    replace_folder,
    restore_folder,
    sha256_of,
    write_json,
    write_whole,
)


class Interrupted(BaseException):
    """Like a Ctrl-C in the middle."""


def test_a_hash_is_over_the_whole_content(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 17)  # more than one block
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    with write_whole(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
        assert partial.parent == path.parent  # on the same file system, so that replacing is one step
        assert partial.suffix == ".json"  # for writers that look at it
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["file.json"]


def test_an_interrupted_block_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(Interrupted), write_whole(path) as partial:
        partial.write_text("half")
        raise Interrupted
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupted_block_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), write_whole(tmp_path / "file"):
        raise Interrupted
    assert os.listdir(tmp_path) == []


def test_a_file_can_be_read_by_those_who_may_read_new_files(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    with write_whole(tmp_path / "file") as partial:
        partial.write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "file")]
    assert modes[0] == modes[1]


def test_json_is_written_whole_and_holds_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_json(path, {"b": [1, 2.5, None], "a": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"b": [1, 2.5, None], "a": "é"}
    assert path.read_text(encoding="utf-8").endswith("}\n")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"b": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["a"] == "é"
    assert os.listdir(tmp_path) == ["data.json"]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "edge-bundle"
    folder.mkdir()
    (folder / "old").write_text("")
    with replace_folder(folder) as partial:
        (partial / "new").write_text("")
        assert os.listdir(folder) == ["old"]
    assert os.listdir(folder) == ["new"]
    assert os.listdir(tmp_path) == ["edge-bundle"]


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    with replace_folder(tmp_path / "in" / "bundle") as partial:
        (partial / "new").write_text("")
        assert not (tmp_path / "in" / "bundle").exists()
    assert os.listdir(tmp_path / "in") == ["bundle"]
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "in" / "bundle").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "old").write_text("kept")
    with pytest.raises(Interrupted), replace_folder(folder) as partial:
        (partial / "new").write_text("")
        raise Interrupted
    assert (folder / "old").read_text() == "kept"
    assert os.listdir(tmp_path) == ["bundle"]


def test_the_old_folder_comes_back_when_the_new_one_can_not_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "old").write_text("kept")
    real, calls = os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError("no space")
        real(source, target)

    monkeypatch.setattr(files, "_exchange", lambda one, other: False)  # as on a file system that can't
    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(OSError, match="no space"), replace_folder(folder) as partial:
        (partial / "new").write_text("")
    assert len(calls) == 3
    assert (folder / "old").read_text() == "kept"
    assert os.listdir(tmp_path) == ["bundle"]


DIES = """
import os, signal, sys
from pathlib import Path
from molre_edge import files

target, what, moment = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
replace, exchange, seen = os.replace, files._exchange, 0

def cut(source, to):
    global seen
    if seen == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    seen += 1
    replace(source, to)

def cut_exchange(one, other):
    if moment == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    done = exchange(one, other)
    if moment == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

os.replace = cut
if what == "exchange":
    what, files._exchange = "replace_folder", cut_exchange
else:
    files._exchange = lambda one, other: False  # as on a file system that can't
with getattr(files, what)(target) as partial:
    if what == "replace_folder":
        partial = partial / "new"
    partial.write_text("new")
"""


def die(target: Path, what: str, moment: int = 0) -> None:
    """Write in a process that is killed just before it gives a file or folder its name for the moment-th time."""
    done = subprocess.run([sys.executable, "-c", DIES, str(target), what, str(moment)])
    assert done.returncode == -9


def test_what_a_killed_process_left_of_a_file_is_cleared_by_the_next_that_writes_it(tmp_path: Path) -> None:
    die(tmp_path / "file.json", "write_whole")
    [left] = os.listdir(tmp_path)
    assert left.startswith(".file.json.") and left.endswith(".partial.json")
    (tmp_path / ".file.json.12345678.partial.json").symlink_to("elsewhere")
    write_json(tmp_path / "other.json", 1)
    assert left in os.listdir(tmp_path)
    write_json(tmp_path / "file.json", 1)
    assert sorted(os.listdir(tmp_path)) == [".file.json.12345678.partial.json", "file.json", "other.json"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    with write_whole(tmp_path / "file") as first, replace_folder(tmp_path / "bundle") as folder:
        (folder / "new").write_text("first")
        write_json(tmp_path / "file", 1)
        with replace_folder(tmp_path / "bundle"):
            pass
        assert first.exists() and (folder / "new").exists()
    assert (tmp_path / "bundle" / "new").read_text() == "first"
    assert sorted(os.listdir(tmp_path)) == ["bundle", "file"]


def test_a_killed_replacement_of_a_folder_leaves_old_or_new_and_the_next_clears_up(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "old").write_text("old")
    die(folder, "replace_folder", 0)  # before the old one was moved away
    assert os.listdir(folder) == ["old"]
    die(folder, "replace_folder", 1)  # between: neither has its name
    assert not folder.exists()
    with pytest.raises(Interrupted), replace_folder(folder):
        assert os.listdir(folder) == ["old"]  # it is back
        raise Interrupted
    assert (os.listdir(tmp_path), os.listdir(folder)) == (["bundle"], ["old"])


def test_a_folder_that_was_put_aside_is_restored_by_its_next_reader(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "old").write_text("old")
    die(folder, "replace_folder", 1)
    assert not folder.exists()
    restore_folder(folder)
    assert os.listdir(folder) == ["old"]
    (folder / "old").write_text("kept")
    restore_folder(folder)  # and one that exists is left alone
    restore_folder(tmp_path / "nowhere" / "bundle")
    assert (folder / "old").read_text() == "kept"


@pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged in one step on Linux")
@pytest.mark.parametrize(("moment", "content"), [(0, "old"), (1, "new")])
def test_a_folder_is_exchanged_in_one_step(moment: int, content: str, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "old").write_text("old")
    die(folder, "exchange", moment)
    assert os.listdir(folder) == [content]
    with replace_folder(folder) as partial:
        (partial / "next").write_text("")
    assert (os.listdir(tmp_path), os.listdir(folder)) == (["bundle"], ["next"])


READS = """
import os, sys
folder, missing, reads = sys.argv[1], 0, 0
print("ready", flush=True)
while not os.path.exists(folder + ".stop"):
    reads += 1
    missing += not os.path.exists(folder)
print(missing, reads)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged in one step on Linux")
def test_a_reader_never_finds_the_folder_missing_while_it_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    reader = subprocess.Popen([sys.executable, "-c", READS, str(folder)], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
    for _ in range(300):
        with replace_folder(folder) as partial:
            (partial / "new").write_text("")
    (tmp_path / "bundle.stop").touch()
    missing, reads = map(int, reader.communicate(timeout=60)[0].split())
    assert missing == 0 and reads > 100


@pytest.mark.parametrize("name", ["x" * 250, "é" * 125, "x" * 20 + "." + "y" * 230, "z" * 255])
def test_the_longest_legal_names_can_be_written(name: str, tmp_path: Path) -> None:
    write_json(tmp_path / name, 1)
    assert os.listdir(tmp_path) == [name]
    (tmp_path / name).unlink()
    for _ in range(2):
        with replace_folder(tmp_path / name) as partial:
            (partial / "new").write_text("")
    assert os.listdir(tmp_path) == [name]


def test_leftovers_of_a_long_name_are_cleared_and_those_of_its_like_are_not(tmp_path: Path) -> None:
    one, other = "x" * 249 + "1.json", "x" * 249 + "2.json"
    die(tmp_path / one, "write_whole")
    [left] = os.listdir(tmp_path)
    write_json(tmp_path / other, 1)
    assert sorted(os.listdir(tmp_path)) == sorted([left, other])
    write_json(tmp_path / one, 1)
    assert sorted(os.listdir(tmp_path)) == [one, other]


def test_a_name_that_is_too_long_is_named() -> None:
    assert name_problem("x" * 255) is None
    assert "256 bytes" in str(name_problem("x" * 256))
    assert name_problem("a\0b") is not None


def test_a_regular_file_is_read_whole_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    assert read_regular(path, largest=4) == b"four"
    with pytest.raises(OSError) as caught:
        read_regular(path, largest=3)
    assert "3 is the limit" in str(caught.value.strerror)
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", largest=4) == b"four"
    with pytest.raises(OSError) as caught:
        read_regular(tmp_path / "link", largest=4, links=False)
    assert caught.value.strerror == "a symbolic link, not a regular file"


def test_a_pipe_is_neither_read_nor_hashed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (sha256_of, lambda path: read_regular(path, largest=10, links=False)):
        with pytest.raises(OSError) as caught:
            read(tmp_path / "pipe")
        assert caught.value.strerror == "a named pipe, not a regular file"


def test_leftovers_of_another_name_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / ".bundle.2.12345678.partial").mkdir()
    (tmp_path / ".bundle.2.12345678.old").mkdir()
    with replace_folder(tmp_path / "bundle") as partial:
        (partial / "new").write_text("")
    assert sorted(os.listdir(tmp_path)) == [".bundle.2.12345678.old", ".bundle.2.12345678.partial", "bundle"]


def test_without_locks_files_are_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    (tmp_path / ".bundle.12345678.partial").mkdir()
    with replace_folder(tmp_path / "bundle") as partial:
        (partial / "new").write_text("")
    write_json(tmp_path / "file", 1)
    assert sorted(os.listdir(tmp_path)) == [".bundle.12345678.partial", "bundle", "file"]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "a." + "b" * 253, "x" * 240 + ".safetensors"])
def test_a_name_as_long_as_file_systems_allow_is_written(tmp_path: Path, name: str) -> None:
    with write_whole(tmp_path / name) as partial:
        partial.write_text("whole")
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "whole"
    (tmp_path / name).unlink()
    for content in ("old", "new"):
        with replace_folder(tmp_path / name) as folder:
            (folder / "file").write_text(content)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name / "file").read_text() == "new"


def test_long_names_that_begin_alike_keep_their_leftovers_apart(tmp_path: Path) -> None:
    one, other = tmp_path / ("x" * 250 + "1"), tmp_path / ("x" * 250 + "2")
    with write_whole(one) as partial:
        left = partial.name
    (tmp_path / left).write_text("left by a killed process")
    with write_whole(other) as partial:
        partial.write_text("2")
    assert (tmp_path / left).exists()
    with write_whole(one) as partial:
        partial.write_text("1")
    assert not (tmp_path / left).exists()
