"""Kill -9 at random moments, from outside."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reliability_commands import COMMANDS, Assets, Command

__all__ = ["kill_often", "leftovers", "start"]


def start(words: Sequence[object], assets: Assets, work: Path) -> subprocess.Popen[str]:
    """A command in a process of its own; what it says goes to a file."""
    environment = {**os.environ, "MOLRE_EDGE_STATE": str(work / "state"), "TERM": "dumb", **assets.environment}
    with (work.parent / f"{work.name}.said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "molre_edge", *map(str, words)], stdout=said, stderr=said, env=environment, cwd=work
        )


def leftovers(work: Path) -> list[str]:
    """Our hidden files and folders that are left, and processes that still run in the folder."""
    hidden = [str(path.relative_to(work)) for path in work.rglob(".*")]
    running = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == work.resolve() and (process / "cmdline").read_bytes():
                running.append(process.name)
        except OSError:
            continue
    return hidden + running


def run_to_end(command: Command, assets: Assets, work: Path) -> tuple[float, float]:
    """Run without a cut; seconds until its first file, and until its end."""
    work.mkdir(parents=True)
    command.prepare(assets, work)
    there = set(work.rglob("*"))
    begun = time.perf_counter()
    process, first = start(command.words(assets, work), assets, work), None
    while process.poll() is None:
        if first is None and set(work.rglob("*")) - there:
            first = time.perf_counter() - begun
        time.sleep(0.01)
    assert process.returncode == 0, (work.parent / f"{work.name}.said").read_text()
    took = time.perf_counter() - begun
    return first or took, took


def kill_once(command: Command, assets: Assets, work: Path, uncut: Path, after: float) -> tuple[str, list[str]]:
    """Kill after so many seconds, look, call again, look again: what was there, and the problems."""
    work.mkdir(parents=True)
    command.prepare(assets, work)
    process = start(command.words(assets, work), assets, work)
    try:
        process.wait(after)
        word = "it had ended"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        word = ""
    try:
        there = command.state(work)
        if not word:
            word = there
            again = start(command.words(assets, work), assets, work)
            assert again.wait(600) == 0, (work.parent / f"{work.name}.said").read_text()[-500:]
            command.check(work, uncut, (work.parent / f"{work.name}.said").read_text())
        time.sleep(0.1)  # a reader that was reading ends when it finds nobody to tell
        assert not leftovers(work), leftovers(work)
    except Exception as error:
        return word, [f"{type(error).__name__}: {error}"]
    return word, []


def kill_often(name: str, assets: Assets, work: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill one command so often; what was found."""
    command, dice = COMMANDS[name], random.Random(seed)
    folder = work / name.replace(" ", "-")
    first, took = run_to_end(command, assets, folder / "uncut")
    states, problems = Counter[str](), list[str]()
    for number in range(kills):
        after = dice.uniform(first if number % 2 else 0.0, took)
        trial = folder / f"kill-{number:03d}"
        word, found = kill_once(command, assets, trial, folder / "uncut", after)
        states[word] += 1
        print(
            f"{name}: kill {number} after {after:.2f} of {took:.2f} s: {word}; {found or 'in order'}", file=sys.stderr
        )
        problems += [f"kill {number} after {after:.2f} s: {each}" for each in found]
        if not found:
            shutil.rmtree(trial)
    return {"kills": kills, "usual seconds": round(took, 1), "found": dict(states), "problems": problems}
