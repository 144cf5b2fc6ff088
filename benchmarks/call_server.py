"""Runs commands in forks of itself, so that their libraries are loaded once; reliability_calls.py starts it.

Libraries are only imported before a fork, never used: threads of theirs would be missing in the forks.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

SECONDS = 600
"""After so long a fork is ended by SIGALRM."""


def serve(counter: Any) -> None:
    """Answer each job, a line of JSON on stdin, by a line with the exit code of its fork."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line), counter)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def run(job: dict[str, Any], counter: Any) -> None:
    """Be the program, with the words of the job, in its folder; killed before its call number `nth`. Never returns.

    With `waits`, each call waits for an answer: file descriptors to ask on, and to be answered on.
    """
    signal.alarm(SECONDS)
    said = os.open(job["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number, handle in enumerate((os.open(os.devnull, os.O_RDONLY), said, said)):
        os.dup2(handle, number)
    os.chdir(job["work"])
    os.environ.update(job["environment"])
    sys.argv = ["molre-edge", *job["words"]]
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    code: object = 0
    counter.watch(os.fsencode(job["work"]), job["nth"], log)
    counter.wait_for(*job["waits"])
    try:
        from molre_edge.cli import main

        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 70
    atexit._run_exitfuncs()  # as at the end of a process: locks are let go, temporary files removed
    if job["modules"]:
        with open(job["modules"], "w") as file:
            json.dump(list(sys.modules), file)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    """Import the modules that the file names, if it is there, and serve."""
    counter = ctypes.CDLL(os.environ["LD_PRELOAD"])
    counter.watch.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
    if os.path.exists(sys.argv[1]):
        with open(sys.argv[1]) as file:
            names = json.load(file)
        for name in names:
            with contextlib.suppress(Exception):  # made while a command ran, not by an import
                importlib.import_module(name)
    sys.path[:] = sys.path[1:]  # the scripts' folder
    serve(counter)


if __name__ == "__main__":
    main()
