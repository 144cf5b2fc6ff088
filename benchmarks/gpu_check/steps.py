"""Steps: each a process of its own with a time limit, so that one that hangs or dies takes nothing else along."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Report


@dataclass(frozen=True)
class Step:
    """Checks that belong together.

    Attributes:
        part: what it belongs to; ``--only`` names it.
        name: ``--step`` names it.
        seconds: its limit.
        work: does the checks; the folder keeps what one step leaves to the next.
    """

    part: str
    name: str
    seconds: float
    work: Callable[[Report, argparse.Namespace, Path], None]


def run_here(step: Step, report: Report, options: argparse.Namespace, folder: Path) -> None:
    """The step within this process."""
    report.begin(step.part)
    step.work(report, options, folder)


def run_apart(step: Step, report: Report, arguments: list[str], folder: Path, seconds: float) -> None:
    """The step in a process of its own, ended with all that it started when its time is over.

    What it had done by then is kept; what it was at is a failure that names the limit, or the signal it died of.
    """
    journal, log = folder / f"{step.name}.jsonl", folder / f"{step.name}.log"
    journal.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).parent), *arguments, "--child", step.name, "--folder", str(folder)]
    start = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            ended = f"its process ended with {process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            ended = f"not done within {seconds:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    checks, running = read_journal(journal)
    for told in checks:
        report.take(told)
    if running is None and (process.returncode != 0 or not checks):
        running = {"part": step.part, "check": step.name}
    if running is not None:
        tail = log.read_text(errors="replace")[-2000:]
        seconds = round(time.perf_counter() - start, 2)
        report.take({**running, "state": "failed", "reason": ended, "trace": tail, "seconds": seconds})


def read_journal(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The checks that ended, and the one that did not."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    checks: list[dict[str, Any]] = []
    running = None
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:  # cut off as the process was ended
            continue
        running = {"part": told["part"], "check": told["check"]} if told["state"] == "running" else None
        if running is None:
            checks.append(told)
    return checks, running
