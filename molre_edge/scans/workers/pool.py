"""Reads scans ahead of the engine, in separate processes, and returns them in order.

Why processes: a decoder is C code fed with files from outside, and its crash then costs one scan and not the run; and
pydicom is Python, which shares one lock among threads.
"""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from types import TracebackType

from molre_edge.errors import RunError, ScanError
from molre_edge.machine import usable_cores, usable_memory
from molre_edge.scans import ScanSource
from molre_edge.scans.workers.demand import Demand
from molre_edge.scans.workers.prepare import Prepared, pack_job, prepare, receive, send, unpack
from molre_edge.scans.workers.start import end_worker, how_it_ended, start_worker
from molre_edge.scans.workers.worker import READY
from molre_edge.specs import Grid

__all__ = [
    "AHEAD_BYTES",
    "CRASHED",
    "READER_BYTES",
    "TOO_SLOW",
    "Readers",
    "default_readers",
    "few_processes",
    "most_readers",
]

CRASHED = "reader_crashed"
TOO_SLOW = "reader_too_slow"
"""Codes of scans that ended their reader, or that it was ended for."""
READ_SECONDS = 600.0
"""A scan may take so long. The slowest real one so far, 800 thin slices in JPEG 2000, takes under a minute."""

READER_BYTES = 4 << 30
"""Memory that one reader takes at most, its libraries included: for the largest volume that is read."""

AHEAD_BYTES = 256 << 20
"""Memory for volumes that wait for the engine; at least one may wait."""

_FIRST_READERS = 4
_MOST_READERS = 64
_FEW_PROCESSES = (
    "a process or thread that reads scans can't be started ({}): allow this user, service or container more of them "
    "(ulimit -u, TasksMax=, --pids-limit), or use --readers 0"
)


def default_readers() -> int:
    """Readers that a run starts with: one for two cores, 1 to 4, and no more than fit into half the usable memory."""
    return max(1, min(_FIRST_READERS, usable_cores() // 2, _fitting_readers()))


def most_readers() -> int:
    """Readers that a run may start while its engine waits for them: one a core, and as many as fit into memory."""
    return max(1, min(_MOST_READERS, usable_cores(), _fitting_readers()))


def _fitting_readers() -> int:
    memory = usable_memory()
    return _FIRST_READERS if memory is None else memory // 2 // READER_BYTES


class Readers:
    """A context manager: processes that read scans ahead. With none, scans are read here, one after the other."""

    def __init__(self, grid: Grid, count: int, *, most: int = 0, seconds: float = READ_SECONDS) -> None:
        """Start nothing yet.

        Args:
            grid: of the model.
            count: how many; 0 reads in this process.
            most: while results are waited for, more readers are started, up to so many.
            seconds: a scan may take.
        """
        self._grid, self._count, self._seconds = grid, count, seconds
        self._most = max(count, most) if count else 0
        self._jobs: queue.SimpleQueue[tuple[ScanSource, Future[Prepared | ScanError]] | None] = queue.SimpleQueue()
        self._all: list[_Reader] = []
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._all)

    def __enter__(self) -> Readers:
        """Start the processes; they load their libraries while the caller continues."""
        try:
            for _ in range(self._count):
                self._start_reader()
        except (OSError, RuntimeError) as error:  # few processes are allowed; threads count as processes
            self.__exit__(None, None, None)
            raise few_processes(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them at once: they own nothing."""
        self._closed = True
        for reader in self._all:
            reader.close()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        for reader in self._all:
            reader.end()
        with suppress(queue.Empty):
            while True:
                if (left := self._jobs.get_nowait()) is not None:
                    left[1].cancel()

    def read(self, sources: Iterable[ScanSource]) -> Iterator[Prepared | ScanError]:
        """Volumes, or the reason why there is none, in the order of the sources.

        A bounded number of scans is begun or waits to be taken, so memory does not grow with their number: one for each
        reader, and twice as many more, as far as they fit into :data:`AHEAD_BYTES`. So a scan that takes longer than
        others stops neither the readers nor the engine at once.

        Raises:
            RunError: readers can't be started here.
        """
        if not self._count:
            yield from (prepare(source, self._grid) for source in sources)
            return
        pending = iter(sources)
        begun: deque[Future[Prepared | ScanError]] = deque()
        demand, taken = Demand(self.count), time.perf_counter()
        while True:
            begun.extend(self._submit(source) for source in islice(pending, self._ahead - len(begun)))
            if not begun:
                return
            asked = time.perf_counter()
            result = begun.popleft().result()
            given = time.perf_counter()
            if self.count < self._most and demand.wants_more(given - asked, asked - taken):
                self._grow()
                demand = Demand(self.count)
            taken = given
            begun.extend(self._submit(source) for source in islice(pending, self._ahead - len(begun)))
            yield result

    @property
    def _ahead(self) -> int:
        """Scans that may be begun and not taken yet."""
        return self.count + max(1, min(2 * self.count, AHEAD_BYTES // _bytes_of(self._grid)))

    def _submit(self, source: ScanSource) -> Future[Prepared | ScanError]:
        future: Future[Prepared | ScanError] = Future()
        self._jobs.put((source, future))
        if self._closed:  # by another thread: nobody takes it
            future.cancel()
        return future

    def _start_reader(self) -> None:
        reader = _Reader(self._grid, self._seconds)
        self._all.append(reader)
        thread = threading.Thread(target=self._serve, args=(reader,), name=f"reader-{self.count}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _grow(self) -> None:
        """Start half as many more; where no more processes are allowed, it stays at those there are."""
        for _ in range(min(max(1, self.count // 2), self._most - self.count)):
            try:
                self._start_reader()
            except (OSError, RuntimeError):
                for reader in self._all[len(self._threads) :]:  # its thread could not be started
                    reader.close()
                    reader.end()
                del self._all[len(self._threads) :]
                self._most = self.count
                return

    def _serve(self, reader: _Reader) -> None:
        """Hand one reader scan after scan."""
        free_since: float | None = None
        while (job := self._jobs.get()) is not None:
            source, future = job
            if self._closed:
                future.cancel()
            if not future.set_running_or_notify_cancel():
                continue
            idle_ms = 0.0 if free_since is None else 1e3 * (time.perf_counter() - free_since)
            try:
                result = reader.ask(source)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(replace(result, idle_ms=idle_ms) if isinstance(result, Prepared) else result)
            free_since = time.perf_counter()


def few_processes(error: Exception) -> RunError:
    """What to do where a process or thread can't be started."""
    return RunError(_FEW_PROCESSES.format(getattr(error, "strerror", None) or error))


def _bytes_of(grid: Grid) -> int:
    """Of a volume on its way."""
    slices, rows, cols = grid.shape
    return 2 * slices * rows * cols


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
            f"serve(Grid(**{self._grid.to_dict()!r}))"
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
            raise few_processes(error) from error
        try:
            assert process.stdin is not None and process.stdout is not None
            if not self._ready:
                if receive(process.stdout) != READY:
                    raise EOFError("not a reader")
                self._ready = True
            send(process.stdin, pack_job(source))
            return unpack(receive(process.stdout), receive(process.stdout, _bytes_of(self._grid)), self._grid)
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
                        raise few_processes(failed) from failed
            return self._why(process.returncode, late.is_set())
        finally:
            timer.cancel()

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
