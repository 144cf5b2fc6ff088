"""Answers go to the disk on a thread of their own, in their order, so that the engine does not wait for the disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType

from molre_edge.runs.answers import Record
from molre_edge.runs.dicom_files import DicomFiles
from molre_edge.runs.scan_table import Entry
from molre_edge.runs.store import RunStore
from molre_edge.scans import GridSlice, ScanSource

__all__ = ["WAITING", "Storing"]

WAITING = 16
"""Answers that may wait for the disk: a process that is killed loses no more, and memory holds no more."""


class Storing:
    """A context manager that stores what it is given; on leaving, all of it is on disk.

    Where no further thread may be started, it stores at once.
    """

    def __init__(self, store: RunStore, dicom: DicomFiles | None = None) -> None:
        """Take a store that has begun; nobody else writes into it within the block.

        Args:
            store: of the run.
            dicom: writes the DICOM results of each scan, if the run has any.
        """
        self._store, self._dicom = store, dicom
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Storing:
        """Start the thread."""
        thread = threading.Thread(target=self._work, name="storing", daemon=True)  # a stuck disk must not hold an exit
        try:
            thread.start()
        except RuntimeError:  # "can't start new thread"
            return self
        self._thread = thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store what waits, also if the block failed.

        Raises:
            OSError: the disk is full, say, and the block did not fail for another reason.
        """
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._check()

    def add(
        self, entry: Entry, record: Record, slices: Sequence[GridSlice] = (), source: ScanSource | None = None
    ) -> None:
        """Store a scan's answers, as :meth:`RunStore.add`; waits where :data:`WAITING` others wait.

        Args:
            entry: of the scan.
            record: its answers.
            slices: the images that were used.
            source: the scan as it was found, for its DICOM results.

        Raises:
            OSError: of an earlier one. Nothing is stored after it.
        """
        self._put(partial(self._add, entry, record, slices, source))

    def reject(self, entry: Entry, code: str, reason: str) -> None:
        """Note why a scan can't be used; as :meth:`add`."""
        self._put(partial(self._store.reject, entry, code, reason))

    def _add(self, entry: Entry, record: Record, slices: Sequence[GridSlice], source: ScanSource | None) -> None:
        """The DICOM results come first: the answer, which says that the scan is done, says too where there are none."""
        if self._dicom is not None and source is not None:
            record = self._dicom.write(record, source, slices)
        self._store.add(entry, record, slices)

    def _put(self, write: Callable[[], None]) -> None:
        if self._thread is None:
            write()
            return
        self._check()
        self._queue.put(write)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (write := self._queue.get()) is not None:
            if self._error is not None:  # whoever puts more must not wait for ever
                continue
            try:
                write()
            except BaseException as error:
                self._error = error
