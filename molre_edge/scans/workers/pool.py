"""Reads scans ahead of the engine, in separate processes, and returns them in order.

Why processes: a decoder is C code fed with files from outside, and its crash then costs one scan and not the run; and
pydicom is Python, which shares one lock among threads.
"""

from __future__ import annotations

import queue
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from types import TracebackType

from molre_edge.errors import RunError, ScanError
from molre_edge.machine import usable_cores, usable_memory
from molre_edge.scans import ScanSource
from molre_edge.scans.workers.prepare import Prepared, pack_job, prepare, receive, send, unpack
from molre_edge.scans.workers.start import end_worker, how_it_ended, start_worker
from molre_edge.scans.workers.worker import READY
from molre_edge.specs import Grid

__all__ = ["CRASHED", "READER_BYTES", "TOO_SLOW", "Readers", "default_readers"]

CRASHED = "reader_crashed"
TOO_SLOW = "reader_too_slow"
"""Codes of scans that ended their reader, or that it was ended for."""
READ_SECONDS = 600.0
"""A scan may take so long. The slowest real one so far, 800 thin slices in JPEG 2000, takes under a minute."""

READER_BYTES = 4 << 30
"""Memory that one reader takes at most, its libraries included: for the largest volume that is read."""

_MOST_READERS = 4
_FEW_PROCESSES = (
    "a process or thread that reads scans can't be started ({}): allow this user, service or container more of them "
    "(ulimit -u, TasksMax=, --pids-limit), or use --readers 0"
)


def default_readers() -> int:
    """One reader for two cores, 1 to 4, and no more than fit into half of the usable memory."""
    memory = usable_memory()
    fit = _MOST_READERS if memory is None else memory // 2 // READER_BYTES
    return max(1, min(_MOST_READERS, usable_cores() // 2, fit))


class Readers:
    """A context manager: processes that read scans ahead. With none, scans are read here, one after the other."""

    def __init__(self, grid: Grid, count: int, *, seconds: float = READ_SECONDS) -> None:
        """Start nothing yet.

        Args:
            grid: of the model.
            count: how many; 0 reads in this process.
            seconds: a scan may take.
        """
        self._grid, self._count, self._seconds = grid, count, seconds
        self._idle: queue.SimpleQueue[_Reader] = queue.SimpleQueue()
        self._all: list[_Reader] = []
        self._pool = ThreadPoolExecutor(max(count, 1), thread_name_prefix="reader")

    def __enter__(self) -> Readers:
        """Start the processes; they load their libraries while the caller continues."""
        try:
            for _ in range(self._count):
                self._all.append(_Reader(self._grid, self._seconds))
                self._idle.put(self._all[-1])
        except OSError as error:  # few processes are allowed
            self.__exit__(None, None, None)
            raise RunError(_FEW_PROCESSES.format(error.strerror or error)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them at once: they own nothing."""
        for reader in self._all:
            reader.close()
        self._pool.shutdown(cancel_futures=True)
        for reader in self._all:
            reader.end()

    def read(self, sources: Iterable[ScanSource]) -> Iterator[Prepared | ScanError]:
        """Volumes, or the reason why there is none, in the order of the sources.

        At most one more scan than there are readers is begun or waits to be taken, so memory does not grow with their
        number.

        Raises:
            RunError: readers can't be started here.
        """
        if not self._count:
            yield from (prepare(source, self._grid) for source in sources)
            return
        pending = iter(sources)
        begun: deque[Future[Prepared | ScanError]] = deque()
        for source in islice(pending, self._count + 1):
            begun.append(self._submit(source))
        while begun:
            result = begun.popleft().result()
            for source in islice(pending, 1):
                begun.append(self._submit(source))
            yield result

    def _submit(self, source: ScanSource) -> Future[Prepared | ScanError]:
        try:
            return self._pool.submit(self._one, source)
        except RuntimeError as error:  # "can't start new thread": threads count as processes
            raise RunError(_FEW_PROCESSES.format(error)) from error

    def _one(self, source: ScanSource) -> Prepared | ScanError:
        reader = self._idle.get()
        try:
            return reader.ask(source)
        finally:
            self._idle.put(reader)


class _Reader:
    """One process, which is started again if a scan ends it."""

    def __init__(self, grid: Grid, seconds: float) -> None:
        self._grid, self._seconds = grid, seconds
        self._closed = False
        self._lock = threading.Lock()
        self._process = self._start()
        self._ready = False

    def _start(self) -> subprocess.Popen[bytes]:
        self._ready = False
        return start_worker(
            f"from molre_edge.scans.workers.worker import serve\n"
            f"from molre_edge.specs import Grid\n"
            f"serve(Grid(**{asdict(self._grid)!r}))"
        )

    def ask(self, source: ScanSource) -> Prepared | ScanError:
        """A scan's volume, or why there is none."""
        process, late = self._process, threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._seconds, end)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError as error:
            raise RunError(_FEW_PROCESSES.format(error)) from error
        try:
            assert process.stdin is not None and process.stdout is not None
            if not self._ready:
                if receive(process.stdout) != READY:
                    raise EOFError("not a reader")
                self._ready = True
            send(process.stdin, pack_job(source))
            return unpack(receive(process.stdout), receive(process.stdout, self._grid_bytes), self._grid)
        except (OSError, EOFError, ValueError) as error:
            self.end()
            if not self._ready and not late.is_set() and not self._closed:
                raise RunError(
                    "a process that reads scans can't be started, or ends at once. Use --readers 0, which needs no "
                    "such process; then the cause is shown"
                ) from error
            with self._lock:
                if not self._closed:
                    try:
                        self._process = self._start()
                    except OSError as failed:
                        raise RunError(_FEW_PROCESSES.format(failed.strerror or failed)) from failed
            return self._why(process.returncode, late.is_set())
        finally:
            timer.cancel()

    @property
    def _grid_bytes(self) -> int:
        slices, rows, cols = self._grid.shape
        return 2 * slices * rows * cols

    def _why(self, code: int, late: bool) -> ScanError:
        if late:
            return ScanError(TOO_SLOW, f"reading it took more than {self._seconds:g} s: use fewer slices")
        return ScanError(
            CRASHED,
            f"the process that read it ended ({how_it_ended(code)}): a file crashed a decoder, or memory ran out. "
            f"Export the series again",
        )

    def close(self) -> None:
        """End the process for good; whoever waits for it gets nothing."""
        with self._lock:
            self._closed = True
            self._process.kill()

    def end(self) -> None:
        """End the process and let its pipes go."""
        end_worker(self._process)
