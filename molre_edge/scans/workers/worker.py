"""What runs in a reader's process: it reads scans on request until nobody asks any more."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO

from molre_edge.scans.workers.prepare import pack, prepare, receive, send, unpack_job
from molre_edge.specs import Grid

__all__ = ["READY", "begin_worker", "end_with_parent", "serve"]

READY = b"molre-edge reader"

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4  # linux/prctl.h


def serve(grid: Grid) -> None:
    """Answer jobs from stdin on stdout; what libraries print goes to stderr instead.

    Args:
        grid: of the model.
    """
    jobs, answers = begin_worker()
    with suppress(EOFError, BrokenPipeError):
        send(answers, READY)
        while True:
            source = unpack_job(receive(jobs))
            send(answers, *pack(prepare(source, grid)))


def begin_worker() -> tuple[BinaryIO, BinaryIO]:
    """Make this process one that its parent alone ends, and that leaves no core file.

    Returns:
        Where its jobs come from, and where its answers go. For all other code stdin is empty, and what it prints on
        stdout goes to stderr.
    """
    _ignore_signals()
    _leave_no_core()
    end_with_parent()
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return jobs, answers


def _ignore_signals() -> None:
    """The run decides when to stop; a service's stop reaches all its processes."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _leave_no_core() -> None:
    """A core file of a crashed decoder would hold a patient's images."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)  # where cores go to a program (apport, systemd-coredump), the limit does not hold


def end_with_parent() -> None:
    """Let this process end with its parent: a killed run takes its readers along, also one that never returns."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    """Linux's prctl(2); nothing elsewhere."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
