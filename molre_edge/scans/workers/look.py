"""Reads the headers of files in a process that may die: a crash, or too much memory, costs one file.

This runs in the process that looks for scans, which has one thread and so may fork. A fork answers batch by batch. If
it ends before its time, the next one begins at the first file without an answer, and answers one by one for a while.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from molre_edge.errors import ScanError
from molre_edge.scans.find import Looked, look_at
from molre_edge.scans.workers.pool import CRASHED, TOO_SLOW
from molre_edge.scans.workers.prepare import guarded, receive, send
from molre_edge.scans.workers.start import how_it_ended
from molre_edge.scans.workers.worker import end_with_parent

__all__ = ["LOOK_BYTES", "LOOK_SECONDS", "load_readers", "look_at_all"]

LOOK_BYTES = 2 << 30
"""Memory that the headers of a fork's files may take."""
LOOK_SECONDS = 300.0
"""A batch may take so long: slow network drives are read, endless loops are ended."""
_BATCH = 64


def look_at_all(files: Sequence[Path], *, seconds: float = LOOK_SECONDS) -> Iterator[Looked]:
    """What :func:`molre_edge.scans.find.look_at` says of each file, in their order.

    Where the system has no forks, or allows none, it is called in this process.

    Args:
        files: to look at.
        seconds: a batch may take.
    """
    at, careful = 0, 0  # files before `careful` are answered one by one
    while at < len(files):
        alone = at < careful
        part = files[at:careful] if alone else files[at:]
        count, problem = yield from _forked(part, 1 if alone else _BATCH, seconds)
        at += count
        if problem is not None and alone:
            yield problem
            at += 1
        elif problem is not None:
            careful = at + _BATCH
        if at < len(files):
            load_readers()


def load_readers() -> None:
    """Import what reads headers, so that each further fork need not: that takes longer than most files."""
    import nibabel.nifti1  # noqa: F401
    import pydicom.filereader  # noqa: F401


def _forked(files: Sequence[Path], size: int, seconds: float) -> Generator[Looked, None, tuple[int, ScanError | None]]:
    """Answers of one fork; returned are their number, and why it ended before the last one."""
    source, target = os.pipe()
    parent = os.getpid()
    try:
        child = os.fork()
    except (AttributeError, OSError):
        os.close(source)
        os.close(target)
        yield from map(_look, files)
        return len(files), None
    if child == 0:
        _serve(files, size, target, parent)
    os.close(target)
    count, late = 0, False

    def end(*_: object) -> None:
        nonlocal late
        late = True
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    try:
        with open(source, "rb") as answers, suppress(EOFError):
            while count < len(files):
                signal.setitimer(signal.ITIMER_REAL, seconds)
                try:
                    batch: list[Looked] = pickle.loads(receive(answers))  # from a fork, trusted as this process is
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                count += len(batch)
                yield from batch
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return count, None if count == len(files) else _why(os.waitstatus_to_exitcode(status), late, seconds)


def _why(code: int, late: bool, seconds: float) -> ScanError:
    if late:
        return ScanError(TOO_SLOW, f"reading its header took more than {seconds:g} s: copy it to a faster drive")
    return ScanError(
        CRASHED, f"the process that read its header ended ({how_it_ended(code)}): export it again from its source"
    )


def _serve(files: Sequence[Path], size: int, target: int, parent: int) -> NoReturn:
    """Be the fork."""
    try:
        end_with_parent()
        _limit_memory()
        with open(target, "wb") as answers:
            for start in range(0, len(files), size):
                if os.getppid() != parent:
                    break
                send(answers, pickle.dumps([_look(file) for file in files[start : start + size]]))
    finally:
        os._exit(0)


def _look(file: Path) -> Looked:
    def look() -> Looked:
        try:
            return look_at(file)
        except MemoryError:
            return ScanError("too_large", f"its header takes more than {LOOK_BYTES >> 30} GiB of memory")

    return guarded(look)


def _limit_memory() -> None:
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + LOOK_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
