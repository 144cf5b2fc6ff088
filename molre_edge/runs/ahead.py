"""Studies that are found and read beside the engine: begun by their folder, taken when the engine is free."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from molre_edge.errors import RunError, ScanError
from molre_edge.scans import FoundScans, ScanSource, find_scans
from molre_edge.scans.workers.finder import Finder
from molre_edge.scans.workers.pool import Readers, few_processes
from molre_edge.scans.workers.prepare import Prepared
from molre_edge.specs import Grid

__all__ = ["BegunStudy", "StudyReader"]

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, eq=False)
class ReadStudy:
    """One study: the scan as it was found, and its volume."""

    source: ScanSource
    prepared: Prepared


class BegunStudy:
    """A study whose reading has begun, or waits for the one before it. :class:`StudyReader` makes them.

    Attributes:
        path: the study's folder or file.
    """

    def __init__(self, path: Path, read: Callable[[Path], ReadStudy]) -> None:
        """Read nothing yet."""
        self.path = path
        self._read = read
        self._future: Future[ReadStudy] = Future()

    def drop(self) -> None:
        """Nobody wants it any more: what has not begun never does, and what is being read is not kept."""
        self._future.cancel()

    def run(self) -> None:
        """Find and read it, unless it was dropped."""
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            read = self._read(self.path)
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(read)

    def result(self) -> ReadStudy:
        """The study, once it is read.

        Raises:
            ScanError: it can't be used; its code says why.
            RunError: no scan there, or several studies; or the model was closed meanwhile.
        """
        try:
            return self._future.result()
        except CancelledError as error:
            raise RunError(f"{self.path}: it was dropped before it was read") from error
        except BaseException:
            self.drop()  # Ctrl-C while it waits: a study that has not begun is not read for nobody
            raise


class StudyReader:
    """A context manager: one process that finds, and one that reads, studies in the order in which they are begun.

    What was read waits in memory until it is taken or dropped: one volume of the model's grid for each study begun.
    """

    def __init__(self, grid: Grid, count: int) -> None:
        """Start nothing yet.

        Args:
            grid: of the model.
            count: 1; 0 finds and reads in this process, when a study is taken.
        """
        self._readers, self._finder = Readers(grid, count), Finder()
        self._apart = count > 0
        self._wanted: queue.SimpleQueue[BegunStudy | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="studies", daemon=True)
        self._closed = False

    def __enter__(self) -> StudyReader:
        """Start the process that reads.

        Raises:
            RunError: no more processes or threads are allowed.
        """
        self._readers.__enter__()
        if self._apart:
            try:
                self._thread.start()
            except RuntimeError as error:
                self._readers.__exit__(None, None, None)
                raise few_processes(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both processes at once, whatever they are at."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                if (left := self._wanted.get_nowait()) is not None:
                    left.drop()
        self._readers.__exit__(None, None, None)
        if self._apart:
            self._wanted.put(None)
            while self._thread.is_alive():
                self._finder.kill()
                self._thread.join(_LOOK_SECONDS)
        self._finder.__exit__(None, None, None)

    def begin(self, path: Path) -> BegunStudy:
        """Let a study be found and read, after those that were begun before.

        Args:
            path: absolute.
        """
        study = BegunStudy(path, self._read)
        if self._apart:
            self._wanted.put(study)
            if self._closed:
                study.drop()
        return study

    def take(self, study: BegunStudy) -> ReadStudy:
        """A study that was begun, once it is read.

        Raises:
            ScanError, RunError: as of :meth:`BegunStudy.result`.
        """
        if not self._apart:
            study.run()
        return study.result()

    def _serve(self) -> None:
        while (study := self._wanted.get()) is not None:
            study.run()
            del study  # while it waits for the next one, it keeps no volume

    def _read(self, path: Path) -> ReadStudy:
        source = _only_study(path, self._finder.find if self._apart else find_scans)
        (prepared,) = self._readers.read([source])
        if isinstance(prepared, ScanError):
            raise prepared
        return ReadStudy(source, prepared)


def _only_study(path: Path, find: Callable[[Path], FoundScans]) -> ScanSource:
    """The one study below a path.

    Raises:
        ScanError: no such path, or the only candidate cannot be used.
        RunError: none, or several.
    """
    found = find(path)
    if len(found.scans) == 1:
        return found.scans[0]
    if found.scans:
        raise RunError(
            f"{path}: contains {len(found.scans)} studies, expected one. Name the folder of one study, or use "
            f"infer_scans for all of them"
        )
    if found.rejected:
        first = found.rejected[0]
        raise ScanError(first.code, first.reason)
    raise RunError(f"{path}: contains no head CT in DICOM or NIfTI. Name the folder or file of a study")
