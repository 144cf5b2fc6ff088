"""Kill -9 just before each call by which a command changes a file: opens for writing, writes, renames, removals, ...

The calls are counted in the C library (file_calls.c), so those of every library of the process are among them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from reliability_commands import COMMANDS, Assets, Command
from reliability_kills import leftovers

__all__ = ["Forks", "kill_at_every_call"]

_HERE = Path(__file__).parent
_KILLED = -9


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

    def __enter__(self) -> Forks:
        """Start the process, which loads what an earlier run has told that it loads."""
        self._server = subprocess.Popen(
            [sys.executable, str(_HERE / "call_server.py"), str(self._folder / "modules.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LD_PRELOAD": str(self.library), "TERM": "dumb"},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        assert self._server is not None
        self._server.communicate()

    def run(self, command: Command, assets: Assets, work: Path, nth: int = 0, *, learn: bool = False) -> int:
        """Run a command in its work folder, killed before its `nth` call if that is not 0; its exit code.

        What it says is in WORK.said, its calls, a line each, in WORK.calls. With `learn` it tells what it loads.
        """
        job = {
            "words": [str(word) for word in command.words(assets, work)],
            "work": str(work),
            "said": f"{work}.said",
            "log": f"{work}.calls",
            "nth": nth,
            "modules": str(self._folder / "modules.json") if learn else "",
            "environment": {"MOLRE_EDGE_STATE": str(work / "state"), **assets.environment},
        }
        assert self._server is not None and self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return int(json.loads(self._server.stdout.readline()))


def kill_at_every_call(
    name: str, assets: Assets, work: Path, *, words: Sequence[object] = (), step: int = 1
) -> dict[str, Any]:
    """Kill one command before its first call, its second, and so on to its last; what was found.

    Args:
        name: of :data:`COMMANDS`.
        assets: what it works on.
        work: a new folder.
        words: more words for the command.
        step: only every so many calls, from the first on.
    """
    plain = COMMANDS[name]
    command = Command(lambda a, w: [*plain.words(a, w), *words], plain.prepare, plain.state, plain.check)
    folder = work / name.replace(" ", "-")
    folder.mkdir(parents=True)
    with Forks(folder) as forks:
        for each in ("learn", "uncut"):
            (folder / each).mkdir()
            command.prepare(assets, folder / each)
            if each == "learn":
                code = forks.run(command, assets, folder / each, learn=True)
                assert code == 0, _said(folder / each)[-500:]
    with Forks(folder) as forks:
        begun = time.perf_counter()
        assert forks.run(command, assets, folder / "uncut") == 0, _said(folder / "uncut")[-500:]
        took = time.perf_counter() - begun
        calls = [line.split(" ", 2) for line in (folder / "uncut.calls").read_text().splitlines()]
        kinds, states, problems = Counter[str](), Counter[str](), list[str]()
        for number in range(1, len(calls) + 1, step):
            trial = folder / f"call-{number:05d}"
            word, found = _kill_before(forks, command, assets, trial, folder / "uncut", number)
            states[word] += 1
            call = _last_call(trial)
            kinds[call.split(" ")[1] if call else "none"] += 1
            print(f"{name}: call {call or number} of {len(calls)}: {word}; {found or 'in order'}", file=sys.stderr)
            problems += [f"before call {call or number}: {each}" for each in found]
            if not found:
                shutil.rmtree(trial)
                for rest in folder.glob(f"{trial.name}.*"):
                    rest.unlink()
    return {
        "calls": dict(Counter(kind for _, kind, _ in calls)),
        "kills": sum(kinds.values()) - states["it had ended"],
        "killed before": dict(kinds),
        "seconds of a run": round(took, 1),
        "found": dict(states),
        "problems": problems,
    }


def _kill_before(
    forks: Forks, command: Command, assets: Assets, work: Path, uncut: Path, number: int
) -> tuple[str, list[str]]:
    """Kill before one call, look, call the command again, look again: what was there, and the problems."""
    work.mkdir(parents=True)
    command.prepare(assets, work)
    code = forks.run(command, assets, work, number)
    calls = Path(f"{work}.calls").read_text()
    word = ""
    try:
        word = command.state(work)
        if code != _KILLED:
            assert code == 0, f"exit code {code}: {_said(work)[-500:]}"
            return "it had ended", []
        code = forks.run(command, assets, work)
        assert code == 0, f"called again, exit code {code}: {_said(work)[-500:]}"
        command.check(work, uncut, _said(work))
        assert not leftovers(work), leftovers(work)
    except Exception as error:
        return word, [f"{type(error).__name__}: {str(error)[-700:]}"]
    finally:
        Path(f"{work}.calls").write_text(calls)  # of the first time
    return word, []


def _last_call(work: Path) -> str:
    lines = Path(f"{work}.calls").read_text().splitlines()
    return lines[-1] if lines else ""


def _said(work: Path) -> str:
    return Path(f"{work}.said").read_text(errors="replace")
