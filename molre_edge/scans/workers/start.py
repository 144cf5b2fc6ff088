"""Starts processes that read files from outside: never forked from this one, which has threads, but begun anew."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

__all__ = ["end_worker", "how_it_ended", "start_worker"]

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def start_worker(code: str) -> subprocess.Popen[bytes]:
    """Start a process of this interpreter and its module path, without the caller's main module.

    Args:
        code: what it runs; it begins with :func:`molre_edge.scans.workers.worker.begin_worker`.

    Raises:
        OSError: no more processes are allowed.
    """
    first = f"import sys; sys.path[:] = {sys.path!r}\n"  # a module of the current folder is never ours
    return subprocess.Popen(
        [sys.executable, "-c", first + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries quote headers there
        env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},  # one core each; the engine has the others
        start_new_session=True,  # Ctrl-C is for the run, which finishes what it has begun
    )


def end_worker(process: subprocess.Popen[bytes]) -> None:
    """End a process and let its pipes go."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def how_it_ended(code: int) -> str:
    """The name of the signal that ended a process, or its exit code."""
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"
