"""The loop of a run: volumes go to the engine as soon as it takes them, and answers to the disk behind it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molre_edge.engines.runner import RunResult, run_stream
from molre_edge.errors import ScanError
from molre_edge.reports.waiting import ENGINE_WAITED, READER_WAITED
from molre_edge.runs.answers import Record
from molre_edge.runs.context import RunContext
from molre_edge.runs.own_reference import ask_reference
from molre_edge.runs.scan_findings import attended_of
from molre_edge.runs.scan_table import Entry
from molre_edge.runs.storing import Storing
from molre_edge.scans import ScanSource
from molre_edge.scans.workers.pool import Readers
from molre_edge.scans.workers.prepare import Prepared

__all__ = ["Todo", "answer_scans"]

Todo = Sequence[tuple[Entry, ScanSource]]


def answer_scans(
    todo: Todo,
    ahead: Readers,
    context: RunContext,
    storing: Storing,
    *,
    compare: int,
    tell: Callable[[], None],
    stop_asked: Callable[[], bool],
) -> None:
    """Answer scans in their order, until all are answered or a stop is asked for.

    The engine gets the next volume before the answers of the last one are stored; a runner that streams gets it before
    the last one is answered. With a stop, volumes that the engine has are answered and stored, and no further one is
    given to it.

    Args:
        todo: entries with the files to read.
        ahead: entered readers.
        context: what the run works with.
        storing: entered; takes answers and reasons.
        compare: so many scans are answered by the reference too, the first usable ones.
        tell: called for each scan that is answered or cannot be used.
        stop_asked: whether an end is wanted.
    """
    under_way = _UnderWay(todo, ahead, context, storing, tell, stop_asked)
    since = time.perf_counter()
    answers = run_stream(context.runner, under_way.volumes())
    try:
        for result in answers:
            scan = under_way.answered(result)
            record = _record(scan, result, context, since, compare=compare > 0)
            since = time.perf_counter()  # the reference is in no interval
            storing.add(scan.entry, record, scan.read.slices, scan.source)
            compare -= record.reference is not None
            tell()
    finally:
        close = getattr(answers, "close", None)
        if close is not None:  # a stream that is left early may have work on the device
            close()


@dataclass
class _Scan:
    """A scan that the engine has.

    Attributes:
        entry, source: of the run.
        read: the volume.
        waited_ms: how long the engine waited for it, and for scans before it that could not be used.
    """

    entry: Entry
    source: ScanSource
    read: Prepared
    waited_ms: float


class _UnderWay:
    """The volumes for a runner, and the scans of those that it has not answered yet."""

    def __init__(
        self,
        todo: Todo,
        ahead: Readers,
        context: RunContext,
        storing: Storing,
        tell: Callable[[], None],
        stop_asked: Callable[[], bool],
    ) -> None:
        self._todo, self._ahead, self._context = todo, ahead, context
        self._storing, self._tell, self._stop_asked = storing, tell, stop_asked
        self._scans: deque[_Scan] = deque()

    def volumes(self) -> Iterator[npt.NDArray[np.float16]]:
        """Each volume as a batch of one; scans that can't be used are noted and passed over."""
        reads = self._ahead.read(source for _, source in self._todo)
        waited = 0.0
        for entry, source in self._todo:
            asked = time.perf_counter()
            read = next(reads)
            waited += time.perf_counter() - asked
            if isinstance(read, ScanError):
                self._storing.reject(entry, read.code, str(read))
                self._context.progress.warn(f"{entry.scan} cannot be used: {read}")
                self._tell()
            elif self._stop_asked():  # while this one was waited for
                return
            else:
                self._scans.append(_Scan(entry, source, read, 1e3 * waited))
                waited = 0.0
                yield read.volume[None]
            if self._stop_asked():
                return

    def answered(self, result: RunResult) -> _Scan:
        """The scan of the next answer."""
        scan = self._scans.popleft()
        if self._scans:  # the runner streams: it computed this volume while it waited for the next
            behind = self._scans[0]
            behind.waited_ms = max(0.0, behind.waited_ms - result.milliseconds.get("compute", 0.0))
        return scan


def _record(scan: _Scan, result: RunResult, context: RunContext, since: float, *, compare: bool) -> Record:
    """The engine's answer with its times, and the reference's where it is wanted.

    Args:
        scan: as it was read.
        result: of the engine.
        context: of the run.
        since: when the answer before was there.
        compare: ask the reference.
    """
    answered = time.perf_counter()
    _ = result.outputs.probabilities
    done = time.perf_counter()
    read = scan.read
    phases = {"read": read.read_ms, "geometry": read.geometry_ms, **result.milliseconds}
    phases["post"] = 1e3 * (done - answered)
    phases["end_to_end"] = sum(phases.values())
    phases["interval"] = 1e3 * (done - since)
    phases |= {ENGINE_WAITED: scan.waited_ms, READER_WAITED: read.idle_ms}
    wanted = (context.reference_runner, context.own_model) if compare else (None, None)
    compared = ask_reference(*wanted, scan.source, read, result.outputs)
    if compared.failure:
        context.progress.warn(f"{scan.entry.scan} is not compared: {compared.failure}")
    return Record(
        scan=scan.entry.scan,
        engine=result.outputs,
        reference=compared.outputs,
        engine_ms=phases,
        reference_ms=compared.milliseconds,
        warnings=tuple((warning.code, warning.text) for warning in (*read.warnings, *compared.warnings)),
        facts=read.facts,
        attended=attended_of(result.outputs, read.slices),
    )
