"""Looks for scans in a process of its own, so that no header of a file from outside is read in the caller's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from molre_edge.errors import RunError, ScanError
from molre_edge.scans.find import find_scans
from molre_edge.scans.scan_records import FoundScans, RejectedScan, ScanSource
from molre_edge.scans.workers.look import load_readers, look_at_all
from molre_edge.scans.workers.prepare import guarded, receive, send
from molre_edge.scans.workers.start import end_worker, how_it_ended, start_worker
from molre_edge.scans.workers.worker import READY, begin_worker

__all__ = ["Finder", "find_apart", "serve"]

_PART_BYTES = 1 << 20
"""Entries are sent together once they have this size."""
_END = b""
_NO_PROCESS = (
    "the process that looks for scans can't be started ({}): allow this user, service or container more processes "
    "(ulimit -u, TasksMax=, --pids-limit) and memory"
)


class Finder:
    """A context manager: a process that looks for scans, started when it is asked first."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Finder:
        """Do nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        if self._process is not None:
            end_worker(self._process)
            self._process = None

    def kill(self) -> None:
        """End the process while another thread asks it: that thread is told that it ended."""
        process = self._process
        if process is not None:
            process.kill()

    def find(self, path: Path, *, all_series: bool = False, settle_seconds: float = 0.0) -> FoundScans:
        """As :func:`molre_edge.scans.find_scans`; a file that crashes its reader is rejected as ``reader_crashed``.

        Raises:
            ScanError: as of ``find_scans``.
            RunError: the process can't be started, or ended.
        """
        folder = None if path.is_absolute() else os.getcwd()  # it may have changed since the process was started
        job = {"folder": folder, "path": str(path), "all_series": all_series, "settle_seconds": settle_seconds}
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        rows: dict[str, list[Any]] = {"scan": [], "rejected": [], "ignored": [], "error": []}
        try:
            send(process.stdin, json.dumps(job).encode())
            while (part := receive(process.stdout)) != _END:
                for kind, data in json.loads(part):
                    rows[kind].append(_unpacked(kind, data))
        except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
            self.__exit__(None, None, None)
            raise RunError(
                f"the process that looks for scans ended ({how_it_ended(process.returncode)}): free some memory, or "
                f"give smaller folders"
            ) from error
        except BaseException:  # Ctrl-C: what still comes would be taken for the next answer
            self.__exit__(None, None, None)
            raise
        if rows["error"]:
            raise rows["error"][0]
        return FoundScans(tuple(rows["scan"]), tuple(rows["rejected"]), tuple(rows["ignored"]))

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        try:
            self._process = start_worker("from molre_edge.scans.workers.finder import serve; serve()")
        except OSError as error:
            raise RunError(_NO_PROCESS.format(error.strerror or error)) from error
        assert self._process.stdout is not None
        with suppress(OSError, EOFError):
            if receive(self._process.stdout) == READY:
                return self._process
        self.__exit__(None, None, None)
        raise RunError(_NO_PROCESS.format("it ends at once"))


def find_apart(path: Path, *, all_series: bool = False, settle_seconds: float = 0.0) -> FoundScans:
    """:meth:`Finder.find`, once."""
    with Finder() as finder:
        return finder.find(path, all_series=all_series, settle_seconds=settle_seconds)


def serve() -> None:
    """Be the process: answer jobs from stdin on stdout until nobody asks any more."""
    jobs, answers = begin_worker()
    with suppress(EOFError, BrokenPipeError):
        send(answers, READY)
        while True:
            job = json.loads(receive(jobs))
            if (folder := job.pop("folder")) is not None:
                os.chdir(folder)
            rows = _packed(guarded(partial(find_scans, Path(job.pop("path")), look=look_at_all, **job)))
            for part in _parts(rows):
                send(answers, part)
            send(answers, _END)
            load_readers()  # while nobody waits


def _parts(rows: Iterator[tuple[str, Any]]) -> Iterator[bytes]:
    """JSON lists of rows."""
    texts, size = list[str](), 0
    for row in rows:
        texts.append(json.dumps(row))
        size += len(texts[-1])
        if size >= _PART_BYTES:
            yield f"[{','.join(texts)}]".encode()
            texts, size = [], 0
    if texts:
        yield f"[{','.join(texts)}]".encode()


def _packed(found: FoundScans | ScanError) -> Iterator[tuple[str, Any]]:
    """Plain data of all entries. Names that are not UTF-8 pass through JSON as they are."""
    if isinstance(found, ScanError):
        yield "error", [found.code, str(found)]
        return
    yield from (("scan", source.to_dict()) for source in found.scans)
    for kind, entries in (("rejected", found.rejected), ("ignored", found.ignored)):
        yield from ((kind, [str(each.path), each.code, each.reason, each.files]) for each in entries)


def _unpacked(kind: str, data: Any) -> ScanSource | RejectedScan | ScanError:
    if kind == "scan":
        return ScanSource.from_dict(data)
    if kind == "error":
        code, reason = data
        return ScanError(str(code), str(reason))
    path, code, reason, files = data
    return RejectedScan(Path(path), str(code), str(reason), int(files))
