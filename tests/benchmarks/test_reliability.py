"""Small versions of what benchmarks/reliability.py does at length: kills, and scans with bad ones among them."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def scripts(root: Path) -> Iterator[dict[str, ModuleType]]:
    """The scripts, as modules, by the last word of their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "benchmarks"))
        names = ("commands", "kills", "calls", "scans", "node")
        yield {name: importlib.import_module(f"reliability_{name}") for name in names}


def test_a_run_killed_at_random_moments_loses_nothing_and_asks_nothing_twice(
    scripts: dict[str, ModuleType], tiny_checkpoint: Path, tiny_bundle: Path, tiny_scans: Path, tmp_path: Path
) -> None:
    assets = scripts["commands"].Assets(tiny_checkpoint, tiny_bundle, tiny_scans)
    found = scripts["kills"].kill_often("infer", assets, tmp_path / "kills", kills=2, seed=1)
    assert found["problems"] == []
    assert sum(found["found"].values()) == 2


def test_of_many_scans_with_bad_ones_every_one_is_accounted_for(
    scripts: dict[str, ModuleType], tiny_bundle: Path, tmp_path: Path
) -> None:
    found = scripts["scans"].many(tmp_path / "many", tiny_bundle, 40, 0.2, seed=2, words=("--readers", "2"))
    assert found["problems"] == []
    assert found["spoilt"] == 8 and found["codes"]["good"] == {"done": 32}
    assert set(found["codes"]) == {"good", *scripts["scans"].BAD}


@pytest.mark.nightly
def test_a_node_under_kills_and_a_pacs_that_is_away_loses_no_study(
    scripts: dict[str, ModuleType], tiny_bundle: Path, tmp_path: Path
) -> None:
    pytest.importorskip("highdicom")
    found = scripts["node"].node_trial(
        tmp_path / "node", tiny_bundle, None, studies=4, kills=2, seed=3, shape=(8, 64, 64)
    )
    assert found["problems"] == []
    assert (found["studies"], found["kills"], found["pacs_away"]) == (4, 2, 1)
    assert found["reports"] == 4 + found["later_versions"]


def test_the_harness_sees_what_is_half_written_lost_or_done_twice(
    scripts: dict[str, ModuleType], tiny_bundle: Path, tmp_path: Path
) -> None:
    outputs = tmp_path / "run" / "outputs"
    outputs.mkdir(parents=True)
    (outputs / "scan-aaaaaaaaaaaaaaaa.npz").write_bytes(b"PK")
    commands = scripts["commands"].COMMANDS
    with pytest.raises(Exception, match="damaged"):
        commands["infer"].state(tmp_path)
    (tmp_path / "run" / ".scans.csv.x.partial.csv").touch()
    assert scripts["kills"].leftovers(tmp_path) == ["run/.scans.csv.x.partial.csv"]
    with pytest.raises(AssertionError, match="lost"):
        commands["export over a bundle"].state(tmp_path)
    (tmp_path / "ckpt.pt").write_bytes(b"PK")
    with pytest.raises(Exception, match="ckpt"):
        commands["train"].state(tmp_path)
    (tmp_path / "run" / "scans.csv").write_text("scan,path,status,code,reason\nscan-aaaaaaaaaaaaaaaa,a/x,pending,,\n")
    (tmp_path / "run" / "findings.csv").write_text("scan\nscan-bbbbbbbbbbbbbbbb\n")
    _, problems = scripts["scans"].account(tmp_path / "run", {"a": "", "b": "cut file"})
    assert len(problems) == 3


def test_states_differ_in_names_modes_and_contents_but_not_in_what_a_hidden_file_holds(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    state_of = scripts["calls"].state_of
    seen = [state_of(tmp_path)]
    partial = tmp_path / ".a.json.abcd1234.partial.json"
    for change in (
        partial.touch,
        lambda: partial.write_text("1"),
        lambda: partial.chmod(0o600 if partial.stat().st_mode & 0o077 else 0o644),
        lambda: partial.rename(tmp_path / "a.json"),
        lambda: (tmp_path / "a.json").write_text("2"),
    ):
        change()
        seen.append(state_of(tmp_path))
    assert len(set(seen)) == 6
    for name, text in ((".b.abcd1234.partial", "1"), (".b.efgh5678.partial", "23")):
        (tmp_path / name).write_text(text)
        seen.append(state_of(tmp_path))
        (tmp_path / name).unlink()
    assert seen[-1] == seen[-2]


CHANGES = """
import ctypes, os, sys
counter = ctypes.CDLL(os.environ["LD_PRELOAD"])
counter.watch(os.fsencode(os.getcwd()), int(sys.argv[1]), -1)
with open(".a", "wb") as file:  # 1
    file.write(b"content")
    file.flush()  # 2
    os.fsync(file.fileno())  # 3
open(".a", "rb").close()  # reading changes nothing
open(sys.argv[2], "w").close()  # elsewhere
os.mkdir("folder")  # 4
os.replace(".a", "folder/a")  # 5
rename = ctypes.CDLL(None).renameat2
rename(-100, b"folder", -100, b"b", 0)  # 6
os.chdir("b")
os.unlink("a")  # 7
print(counter.calls_seen())
"""


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs Linux and gcc")
def test_a_process_is_killed_just_before_each_call_that_changes_a_file(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    forks = scripts["calls"].Forks(tmp_path)
    whole = {".a": "content"}
    left = [{}, {".a": ""}, whole, whole, whole, {"folder/a": "content"}, {"b/a": "content"}]
    for nth, expected in [(0, {}), *enumerate(left, start=1)]:
        work = tmp_path / str(nth)
        work.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", CHANGES, str(nth), str(tmp_path / "elsewhere")],
            env={**os.environ, "LD_PRELOAD": str(forks.library)},
            cwd=work,
            capture_output=True,
            text=True,
        )
        assert done.returncode == (-signal.SIGKILL if nth else 0), done.stderr
        assert done.stdout == ("" if nth else "7\n")
        files = [path for path in work.rglob("*") if path.is_file()]
        assert {path.relative_to(work).as_posix(): path.read_text() for path in files} == expected, nth


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs Linux and gcc")
def test_a_command_in_a_fork_ends_as_in_a_process_of_its_own(
    scripts: dict[str, ModuleType], tiny_bundle: Path, tmp_path: Path
) -> None:
    class Verify:
        @staticmethod
        def words(assets: object, work: Path) -> list[object]:
            return ["verify", "--bundle", tiny_bundle, "--engine", "onnxruntime:fp32", "--out", work / "result.json"]

    assets = scripts["commands"].Assets(Path(), tiny_bundle, Path())
    work = tmp_path / "work"
    work.mkdir()
    with scripts["calls"].Forks(tmp_path) as forks:
        assert forks.run(Verify, assets, work) == 0, Path(f"{work}.said").read_text()
        calls = Path(f"{work}.calls").read_text().splitlines()
        assert any("rename result.json" in call for call in calls)
        (work / "result.json").unlink()
        last = next(number for number, call in enumerate(calls, start=1) if "rename result.json" in call)
        assert forks.run(Verify, assets, work, last) == -signal.SIGKILL
        assert not (work / "result.json").exists()
