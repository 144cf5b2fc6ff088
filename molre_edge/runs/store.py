"""The folder of a run: answers are stored scan by scan, so that an interrupted run continues where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from molre_edge.errors import RunError
from molre_edge.files import write_json
from molre_edge.runs.answers import Record, read_record, write_record
from molre_edge.runs.folder_lock import LOCK_FILE, FolderLock, holder_of
from molre_edge.runs.scan_table import Entry, path_text, read_entries, write_entries
from molre_edge.runs.slices import add_slices, keep_slices
from molre_edge.scans import FoundScans, GridSlice, ScanSource

__all__ = ["GONE", "RUN_FILE", "SCANS_FILE", "RunStore", "Task", "new_folder", "read_head"]

RUN_FILE = "run.json"
SCANS_FILE = "scans.csv"
GONE = "gone"
"""The code of a scan that an earlier start of the run saw, did not answer, and that is not there any more."""

_FORMAT = "molre-edge-run"
_MAX_HEAD_BYTES = 1 << 20  # a longer one is read in part, which is not valid JSON
_HALF_WRITTEN = ".*.partial*"  # names of molre_edge.files for files that are being written


@dataclass(frozen=True)
class Task:
    """Everything that a run's answers and times depend on; a run can only be resumed with the same.

    Attributes:
        bundle: the bundle's digest.
        engine: the runner's name, ``runtime:precision``.
        reference: ``checkpoint``, ``golden`` or ``none``.
        scans: SHA-256 of the scans' resolved path: paths carry names of people.
        all_series: whether every series of a study is taken.
        threads: CPU threads asked for; None leaves them to the engine.
    """

    bundle: str
    engine: str
    reference: str
    scans: str
    all_series: bool
    threads: int | None = None

    @staticmethod
    def hide(path: Path) -> str:
        """The hash that stands for a path."""
        return hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()


class RunStore:
    """A run's folder.

    Attributes:
        folder: ``edge-runs/<UTC time>`` by default.
        entries: rows of ``scans.csv``, in the order of their ids.
    """

    def __init__(self, folder: Path, task: Task, entries: list[Entry], started: str, lock: FolderLock) -> None:
        """Use :meth:`create` or :meth:`resume`."""
        self.folder = folder
        self._lock = lock
        self._task = task
        self._started = started
        self.entries = entries
        self._base = folder

    @classmethod
    def create(cls, folder: Path, task: Task) -> RunStore:
        """Start a run in a new or empty folder; nothing is written into it before :meth:`begin`.

        The folder is this process's alone until :meth:`close` or :meth:`finish`. Files that an interrupted run left
        half written do not count, so that a run that was interrupted at its very start is simply started again.

        Raises:
            RunError: the folder contains something already, or another process uses it.
        """
        if holder := holder_of(folder):
            raise _in_use(folder, holder)
        _check_free(folder)
        lock = _taken(folder)
        try:
            _check_free(folder)  # again: another process may have run here in between
        except RunError:
            lock.release()
            raise
        return cls(folder, task, [], datetime.now(timezone.utc).isoformat(timespec="seconds"), lock)

    @classmethod
    def resume(cls, folder: Path, task: Task) -> RunStore:
        """Continue a run. The folder is this process's alone until :meth:`close` or :meth:`finish`.

        Raises:
            RunError: no run there, one of another bundle, engine, reference or folder of scans, or one that another
                process works on.
        """
        read_head(folder)  # before a lock is put into a folder that is not a run
        lock = _taken(folder)
        try:
            return cls._resumed(folder, task, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _resumed(cls, folder: Path, task: Task, lock: FolderLock) -> RunStore:
        head = read_head(folder)
        theirs = head.get("task")
        if not isinstance(theirs, dict):
            raise RunError(f"{folder / RUN_FILE}: damaged. Start a new run")
        for name, value in asdict(task).items():
            if theirs.get(name) != value:
                hidden = {"scans": "folder of scans", "bundle": "bundle"}.get(name)
                what = f"another {hidden}" if hidden else f"{name} {theirs.get(name)!r}, not {value!r}"
                raise RunError(f"{folder}: that run had {what}. Start a new run, or resume it with its own options")
        return cls(folder, task, read_entries(folder / SCANS_FILE), str(head.get("started", "")), lock)

    @staticmethod
    def newest_unfinished(root: Path, task: Task) -> Path:
        """The newest interrupted run below `root` that fits the task.

        Raises:
            RunError: there is none.
        """
        for folder in sorted((path.parent for path in root.glob(f"*/{RUN_FILE}")), reverse=True):
            try:
                head = read_head(folder)
            except RunError:
                continue
            if not head.get("finished") and head.get("task") == asdict(task) and holder_of(folder) is None:
                return folder
        raise RunError(
            f"{root}: no interrupted run with this bundle, engine, reference and folder of scans. Name its folder with "
            f"-o, or start a new run without --resume"
        )

    def enter(self, found: FoundScans, root: Path) -> list[tuple[Entry, ScanSource]]:
        """Give every scan its id; scans of an earlier start keep theirs. Nothing is written before :meth:`begin`.

        Returns:
            The scans whose answers are still missing, or are of files that have changed since.
        """
        base = self._base = root if root.is_dir() else root.parent
        known: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in self.entries:
            known[entry.key, entry.path].append(entry)
        number = max((entry.number for entry in self.entries), default=0)
        rows: list[Entry] = []
        todo: list[tuple[Entry, ScanSource]] = []

        def identify(path: str, key: str) -> tuple[str, Entry | None]:
            nonlocal number
            if known[key, path]:
                old = known[key, path].pop(0)
                return old.scan, old
            number += 1
            return f"scan-{number:04d}", None

        for source in found.scans:
            path, key = path_text(source.path, base), path_text(source.files[0], base)
            scan, old = identify(path, key)
            mark = source.fingerprint()
            entry = Entry(scan, path, key, mark, "pending", files=len(source.files))
            if old is not None and old.fingerprint == mark:
                entry = self._as_it_stands(old)
            if entry.status == "pending":
                todo.append((entry, source))
            rows.append(entry)
        for status, group in (("rejected", found.rejected), ("ignored", found.ignored)):
            for item in group:
                path, key = path_text(item.path, base), f"{status}:{item.code}"
                scan, _ = identify(path, key)
                rows.append(Entry(scan, path, key, "", status, item.code, item.reason, files=item.files))
        paths = {entry.path for entry in rows}
        for entry in (entry for left in known.values() for entry in left):
            if entry.fingerprint and entry.path not in paths:
                entry = self._as_it_stands(entry)
                reason = "the scan was there at an earlier start and is not any more"
                gone = replace(entry, status="rejected", code=GONE, reason=reason)
                rows.append(gone if entry.status == "pending" else entry)
        self.entries = sorted(rows, key=lambda entry: entry.number)
        return todo

    def _as_it_stands(self, entry: Entry) -> Entry:
        """An entry of an earlier start, with results that were stored after its last note."""
        if entry.status == "rejected" and entry.code != GONE:
            return entry
        try:
            record = read_record(self._record_path(entry.scan), entry.scan)
        except RunError:  # not answered yet, or damaged: asked again
            return replace(entry, status="pending", code="", reason="", warnings="")
        return _done(entry, record)

    def begin(self) -> None:
        """Write description and table before the first answer; remove what an earlier start left half done."""
        outputs = self.folder / "outputs"
        self._write_head(finished=False)
        outputs.mkdir(exist_ok=True)
        self._write_entries()
        kept = {entry.scan for entry in self.entries if entry.status == "done"}
        for path in outputs.glob("*.npz"):
            if path.stem not in kept:
                path.unlink()
        keep_slices(self.folder, kept)
        for folder in (self.folder, outputs):
            for path in folder.glob(_HALF_WRITTEN):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let other processes have the folder. The folder of a run that did not begin is removed."""
        self._lock.release()
        with contextlib.suppress(OSError):  # it is not empty
            self.folder.rmdir()

    def add(self, entry: Entry, record: Record, slices: Sequence[GridSlice] = ()) -> None:
        """Store a scan's answers and the images of its slices. From then on the scan is done, whatever happens."""
        add_slices(self.folder, entry.scan, slices, self._base)
        write_record(self._record_path(entry.scan), record)
        self._replace(_done(entry, record))

    def reject(self, entry: Entry, code: str, reason: str) -> None:
        """Note why a scan can't be used."""
        self._replace(replace(entry, status="rejected", code=code, reason=reason))
        self._write_entries()

    def records(self) -> list[Record]:
        """All answers, in the order of the ids.

        Raises:
            RunError: one is damaged.
        """
        done = [entry.scan for entry in self.entries if entry.status == "done"]
        return [read_record(self._record_path(scan), scan) for scan in done]

    def count(self, status: str) -> int:
        """How many scans have a status."""
        return sum(entry.status == status for entry in self.entries)

    def finish(self) -> None:
        """Mark the run as finished, and let other processes have the folder."""
        self._write_entries()
        self._write_head(finished=True)
        self._lock.release()

    def _write_head(self, *, finished: bool) -> None:
        head = {"format": _FORMAT, "version": 1, "started": self._started, "finished": finished}
        write_json(self.folder / RUN_FILE, {**head, "task": asdict(self._task)})

    def _write_entries(self) -> None:
        write_entries(self.folder / SCANS_FILE, self.entries)

    def _replace(self, entry: Entry) -> None:
        self.entries = [entry if old.scan == entry.scan else old for old in self.entries]

    def _record_path(self, scan: str) -> Path:
        return self.folder / "outputs" / f"{scan}.npz"


def new_folder(root: Path) -> Path:
    """Make a folder below `root` that is named by the UTC time; two within one second get one each.

    Raises:
        RunError: a hundred folders of this second exist.
    """
    name = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    for folder in (root / f"{name}{suffix}" for suffix in ("", *(f"-{i}" for i in range(2, 100)))):
        with contextlib.suppress(FileExistsError):
            root.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)  # findings of patients
            return folder
    raise RunError(f"{root / name}: exists, as do 98 more of the same second. Name a folder with -o")


def _check_free(folder: Path) -> None:
    if not folder.exists():
        return
    ours = {folder / LOCK_FILE, *folder.glob(_HALF_WRITTEN)}
    if not (folder.is_dir() and set(folder.iterdir()) <= ours):
        raise RunError(
            f"{folder}: exists already. Choose another folder with -o, or continue an interrupted run with --resume"
        )


def _taken(folder: Path) -> FolderLock:
    lock = FolderLock.take(folder)
    if isinstance(lock, str):
        raise _in_use(folder, lock)
    return lock


def _in_use(folder: Path, holder: str) -> RunError:
    return RunError(f"{folder}: {holder} is using this run's folder. Wait until it ends, or choose another with -o")


def _done(entry: Entry, record: Record) -> Entry:
    warnings = "; ".join(code for code, _ in record.warnings)
    return replace(entry, status="done", code="", reason="", warnings=warnings)


def _why_no_run(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder. Name the folder of a run"
    runs = sorted(path.parent.name for path in folder.glob(f"*/{RUN_FILE}"))
    if runs:
        return f"holds {len(runs)} run{'s' if len(runs) > 1 else ''}; name one, such as {folder / runs[-1]}"
    return f"not a run of molre-edge ({RUN_FILE} can't be read)"


def read_head(folder: Path) -> dict[str, Any]:
    """The run's description.

    Raises:
        RunError: no run there.
    """
    try:
        with (folder / RUN_FILE).open("rb") as file:
            head = json.loads(file.read(_MAX_HEAD_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{folder}: {_why_no_run(folder)}") from error
    if not isinstance(head, dict) or head.get("format") != _FORMAT:
        raise RunError(f"{folder}: not a run of molre-edge")
    return head
