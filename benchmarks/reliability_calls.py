"""What a kill -9 leaves just before each call by which a command changes a file: an open, a write, a rename, ...

The calls are counted in the C library (file_calls.c), so those of every library of the process are among them. What a
process wrote outlives it, so a kill leaves the folder as it is at that moment: the command runs once to its end and is
halted before each call, and every state that its folder is then in is kept. The command is called again on each state.
Some kills are made as well, and must leave what was kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from reliability_commands import COMMANDS, Assets, Command
from reliability_kills import leftovers

__all__ = ["Forks", "kill_at_every_call", "state_of"]

_HERE = Path(__file__).parent
_KILLED = -9
_RANDOM = re.compile(r"(?<=\.)[a-z0-9_]{8}(?=\.partial)|(?<=\.secret\.)[a-z0-9_]{8}")
"""What tempfile puts into a name."""


class Forks:
    """A context manager: runs the program's commands in forks of one process. Linux with a C compiler.

    Attributes:
        library: counts a process's calls if it is preloaded.
    """

    def __init__(self, folder: Path) -> None:
        """Compile the counter into a folder; nothing is started yet."""
        self._folder, self.library = folder, folder / "file_calls.so"
        source = str(_HERE / "file_calls.c")
        subprocess.run(
            ["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(self.library), source, "-ldl"], check=True
        )
        self._server: subprocess.Popen[str] | None = None
        self._asked, self._ask = os.pipe()
        self._answered, self._answer = os.pipe()

    def __enter__(self) -> Forks:
        """Start the process, which loads what an earlier run has told that it loads."""
        self._server = subprocess.Popen(
            [sys.executable, str(_HERE / "call_server.py"), str(self._folder / "modules.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(self._ask, self._answered),
            env={**os.environ, "LD_PRELOAD": str(self.library), "TERM": "dumb"},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        assert self._server is not None
        self._server.communicate()
        for handle in (self._asked, self._ask, self._answered, self._answer):
            os.close(handle)

    def run(
        self,
        command: Command,
        assets: Assets,
        work: Path,
        nth: int = 0,
        *,
        learn: bool = False,
        before: Callable[[], None] | None = None,
    ) -> int:
        """Run a command in its work folder, killed before its `nth` call if that is not 0; its exit code.

        What it says is in WORK.said, its calls, a line each, in WORK.calls. With `learn` it tells what it loads. With
        `before`, that is called before each of its calls, while it waits.
        """
        job = {
            "words": [str(word) for word in command.words(assets, work)],
            "work": str(work),
            "said": f"{work}.said",
            "log": f"{work}.calls",
            "nth": nth,
            "waits": [-1, -1] if before is None else [self._ask, self._answered],
            "modules": str(self._folder / "modules.json") if learn else "",
            "environment": {"MOLRE_EDGE_STATE": str(work / "state"), **assets.environment},
        }
        assert self._server is not None and self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        while before is not None:
            ready, _, _ = select.select([self._asked, self._server.stdout], [], [])
            if self._asked not in ready:
                break
            os.read(self._asked, 1)
            before()
            os.write(self._answer, b"x")
        return int(json.loads(self._server.stdout.readline()))


def state_of(folder: Path) -> tuple[tuple[str, str, str], ...]:
    """What lies in a folder: names, kinds with permissions, contents.

    Of a file that is being written, and so hidden, the content only counts as none or some: nothing reads it.
    """
    found = []
    for path in folder.rglob("*"):
        facts, content = path.lstat(), ""
        if path.is_file() and not path.is_symlink():
            hidden = path.name.startswith(".") and ".partial" in path.name
            content = str(bool(facts.st_size)) if hidden else hashlib.sha256(path.read_bytes()).hexdigest()
        found.append((_RANDOM.sub("*", path.relative_to(folder).as_posix()), oct(facts.st_mode), content))
    return tuple(sorted(found))  # by names without what is random in them


@dataclass
class _Halts:
    """The states in which a command's folder was before its calls, each kept once.

    Attributes:
        work: the folder.
        kept: beside it: where the state was copied to, by its calls.
        states: the state before each call.
    """

    work: Path
    kept: dict[tuple[tuple[str, str, str], ...], Path] = field(default_factory=dict)
    states: list[tuple[tuple[str, str, str], ...]] = field(default_factory=list)

    def __call__(self) -> None:
        """Note the state now."""
        self.states.append(state_of(self.work))
        if self.states[-1] not in self.kept:
            self.kept[self.states[-1]] = self.work.parent / f"call-{len(self.states):05d}"
            shutil.copytree(self.work, self.kept[self.states[-1]], symlinks=True)


def kill_at_every_call(
    name: str, assets: Assets, work: Path, *, words: Sequence[object] = (), kill_every: int = 0
) -> dict[str, Any]:
    """Halt one command before each of its calls, and call it again on every state that a kill would leave.

    Args:
        name: of :data:`COMMANDS`.
        assets: what it works on.
        work: a new folder.
        words: more words for the command.
        kill_every: kill it as well before every so many calls, and compare what is left; 0 never does.

    Returns:
        What was found, as plain data.
    """
    plain = COMMANDS[name]
    command = Command(lambda a, w: [*plain.words(a, w), *words], plain.prepare, plain.state, plain.check)
    folder = work / name.replace(" ", "-")
    folder.mkdir(parents=True)
    uncut = folder / "uncut"
    for each in (folder / "learn", uncut):
        each.mkdir()
        command.prepare(assets, each)
    with Forks(folder) as forks:
        assert forks.run(command, assets, folder / "learn", learn=True) == 0, _said(folder / "learn")[-500:]
    halts = _Halts(uncut)
    with Forks(folder) as forks:
        begun = time.perf_counter()
        assert forks.run(command, assets, uncut, before=halts) == 0, _said(uncut)[-500:]
        took = time.perf_counter() - begun
        calls = [line.split(" ", 2)[1:] for line in Path(f"{uncut}.calls").read_text().splitlines()]
        states, problems = Counter[str](), list[str]()
        for number, (state, trial) in enumerate(halts.kept.items(), start=1):
            word, found = _call_again(forks, command, assets, trial, uncut)
            count = halts.states.count(state)
            states[word] += count
            first = " ".join(calls[int(trial.name[5:]) - 1])
            print(
                f"{name}: state {number} of {len(halts.kept)}, {first}: {word}; {found or 'in order'}", file=sys.stderr
            )
            problems += [f"before {first}: {each}" for each in found]
        kills = range(1, len(calls) + 1, kill_every) if kill_every else ()
        for number in kills:
            problems += _kill_before(forks, command, assets, folder / f"kill-{number:05d}", number, halts.states)
    return {
        "calls": dict(Counter(kind for kind, _ in calls)),
        "halted before": len(halts.states),
        "states": len(halts.kept),
        "killed before": len(kills),
        "seconds of a run": round(took, 1),
        "found": dict(states),
        "problems": problems,
    }


def _call_again(forks: Forks, command: Command, assets: Assets, trial: Path, uncut: Path) -> tuple[str, list[str]]:
    """Look at what a kill leaves, call the command again, look again: what was there, and the problems."""
    word = ""
    try:
        word = command.state(trial)
        code = forks.run(command, assets, trial)
        assert code == 0, f"called again, exit code {code}: {_said(trial)[-500:]}"
        command.check(trial, uncut, _said(trial))
        assert not leftovers(trial), leftovers(trial)
    except Exception as error:
        return word, [f"{type(error).__name__}: {str(error)[-700:]}"]
    shutil.rmtree(trial)
    return word, []


def _kill_before(
    forks: Forks,
    command: Command,
    assets: Assets,
    work: Path,
    number: int,
    states: Sequence[tuple[tuple[str, str, str], ...]],
) -> list[str]:
    """Kill before one call, and compare what is left with what was kept: names and permissions, as times differ."""
    work.mkdir()
    command.prepare(assets, work)
    code = forks.run(command, assets, work, number)
    if code != _KILLED:
        return [f"call {number} did not come again: exit code {code}"]
    left, kept = ([entry[:2] for entry in state] for state in (state_of(work), states[number - 1]))
    if left != kept:
        return [f"killed before call {number}: left {sorted(set(left) ^ set(kept))} otherwise"]
    shutil.rmtree(work)
    return []


def _said(work: Path) -> str:
    return Path(f"{work}.said").read_text(errors="replace")
