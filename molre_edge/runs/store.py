"""The folder of a run: answers are stored scan by scan, so that an interrupted run continues where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from molre_edge.errors import RunError
from molre_edge.files import read_regular, write_json
from molre_edge.runs.answers import Record, read_record, read_records, record_path, write_record
from molre_edge.runs.dicom_folder import keep_dicom_files
from molre_edge.runs.entering import digest_of, enter_all
from molre_edge.runs.folder_lock import LOCK_FILE, FolderLock, holder_of
from molre_edge.runs.scan_ids import SECRET_FILE, IdSecret, Shard
from molre_edge.runs.scan_table import Entry, append_entry, read_entries, table_order, write_entries
from molre_edge.runs.slices import add_slices, arrange_slices
from molre_edge.scans import FoundScans, GridSlice, ScanSource

__all__ = [
    "DEFAULT_RUNS",
    "FORMAT",
    "FORMAT_VERSION",
    "GONE",
    "RUN_FILE",
    "SCANS_FILE",
    "RunStore",
    "Task",
    "check_version",
    "difference",
    "new_folder",
    "read_head",
]

DEFAULT_RUNS = Path("edge-runs")
RUN_FILE = "run.json"
SCANS_FILE = "scans.csv"
GONE = "gone"
"""The code of a scan that an earlier start of the run saw, did not answer, and that is not there any more."""

FORMAT, FORMAT_VERSION = "molre-edge-run", 2
_MAX_HEAD_BYTES = 1 << 20
_HALF_WRITTEN = ".*.partial*"  # names of molre_edge.files for files that are being written


@dataclass(frozen=True)
class Task:
    """Everything that a run's answers and times depend on; a run can only be resumed with the same.

    Attributes:
        bundle: the bundle's digest.
        engine: the runner's name, ``runtime:precision``.
        reference: ``checkpoint``, ``golden``, ``none``, or ``own model`` with what tells its code from others.
        scans: SHA-256 of the scans' resolved path: paths carry names of people.
        all_series: whether every series of a study is taken.
        threads: CPU threads asked for; None leaves them to the engine.
        shard: the part of the scans that is answered, ``I/N``; None answers all.
        dicom: which DICOM results are written; None for none.
    """

    bundle: str
    engine: str
    reference: str
    scans: str
    all_series: bool
    threads: int | None = None
    shard: str | None = None
    dicom: str | None = None

    @staticmethod
    def hide(path: Path) -> str:
        """The hash that stands for a path."""
        return hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()


class RunStore:
    """A run's folder.

    Attributes:
        folder: ``edge-runs/<UTC time>`` by default.
        seen: entries of all scans that the last :meth:`enter` found, those of other shards included.
        compared: how many stored answers of an earlier start hold the reference's too.
    """

    def __init__(
        self, folder: Path, task: Task, secret: IdSecret, entries: list[Entry], started: str, lock: FolderLock
    ) -> None:
        """Use :meth:`create` or :meth:`resume`."""
        self.folder = folder
        self.seen: tuple[Entry, ...] = ()
        self.compared = 0
        self._lock = lock
        self._task = task
        self._secret = secret
        self._started = started
        self._entries = {entry.scan: entry for entry in entries}
        self._counts = Counter(entry.status for entry in entries)
        self._found = ""
        self._base = folder

    @classmethod
    def create(cls, folder: Path, task: Task, secret: IdSecret | None = None) -> RunStore:
        """Start a run in a new or empty folder; nothing is written into it before :meth:`begin`.

        The folder is this process's alone until :meth:`close` or :meth:`finish`. Files that an interrupted run left
        half written do not count, so that a run that was interrupted at its very start is simply started again.

        Args:
            folder: of the run.
            task: of the run.
            secret: of its ids; a new one by default.

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
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(folder, task, secret or IdSecret.new(), [], started, lock)

    @classmethod
    def resume(cls, folder: Path, task: Task, secret: IdSecret | None = None) -> RunStore:
        """Continue a run. The folder is this process's alone until :meth:`close` or :meth:`finish`.

        Raises:
            RunError: no run there, one of another bundle, engine, reference, folder of scans or secret, or one that
                another process works on.
        """
        read_head(folder)  # before a lock is put into a folder that is not a run
        lock = _taken(folder)
        try:
            return cls._resumed(folder, task, secret, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _resumed(cls, folder: Path, task: Task, secret: IdSecret | None, lock: FolderLock) -> RunStore:
        head = read_head(folder)
        theirs = head.get("task")
        if not isinstance(theirs, dict):
            raise RunError(f"{folder / RUN_FILE}: damaged. Start a new run")
        check_version(folder, head)
        if apart := difference(theirs, asdict(task)):
            raise RunError(f"{folder}: that run had {apart}. Start a new run, or resume it with its own options")
        known = IdSecret.read(folder / SECRET_FILE)
        if known.mark != head.get("ids"):
            raise RunError(
                f"{folder / SECRET_FILE}: not the secret that this run was started with, so its ids would be others. "
                f"Put that one back, or start a new run"
            )
        if secret is not None and secret != known:
            raise RunError(f"{folder}: that run had another secret of its ids. Name the file that it was started with")
        entries = read_entries(folder / SCANS_FILE, torn=True)
        return cls(folder, task, known, entries, str(head.get("started", "")), lock)

    @staticmethod
    def newest_unfinished(root: Path, task: Task, secret: IdSecret | None = None) -> Path:
        """The newest interrupted run below `root` that fits the task, and the secret of ids if one is given.

        Raises:
            RunError: there is none.
        """
        for folder in sorted((path.parent for path in root.glob(f"*/{RUN_FILE}")), reverse=True):
            try:
                head = read_head(folder)
            except RunError:
                continue
            theirs = head.get("task")
            fits = (
                isinstance(theirs, dict)
                and not difference(theirs, asdict(task))
                and (secret is None or head.get("ids") == secret.mark)
            )
            if fits and not head.get("finished") and holder_of(folder) is None:
                return folder
        raise RunError(
            f"{root}: no interrupted run with this bundle, engine, reference and folder of scans. Name its folder with "
            f"-o, or start a new run without --resume"
        )

    @property
    def shard(self) -> str | None:
        """Which part of the scans the run answers, ``I/N``; None answers all."""
        return self._task.shard

    @property
    def entries(self) -> list[Entry]:
        """Rows of ``scans.csv``, in their order."""
        return list(self._entries.values())

    def enter(self, found: FoundScans, root: Path) -> list[tuple[Entry, ScanSource]]:
        """Give every scan its id and row. Nothing is written before :meth:`begin`.

        Returns:
            The scans of this shard whose answers are still missing, or are of files that have changed since.
        """
        base = self._base = root if root.is_dir() else root.parent
        everything = enter_all(found, base, self._secret)
        self.seen = tuple(entry for entry, _ in everything)
        self._found = digest_of(entry.scan for entry in self.seen)
        shard = None if self.shard is None else Shard.parse(self.shard)
        rows: list[Entry] = []
        sources: dict[str, ScanSource] = {}
        self.compared = 0
        for entry, source in everything:
            if shard is not None and not shard.holds(entry.scan):
                continue
            old = self._entries.pop(entry.scan, None)
            if source is not None:
                if old is not None and old.fingerprint == entry.fingerprint:
                    entry = self._as_it_stands(old)
                if entry.status == "pending":
                    sources[entry.scan] = source
            rows.append(entry)
        self._take([*rows, *self._vanished({entry.path for entry in self.seen})])
        return [(entry, sources[entry.scan]) for entry in self._entries.values() if entry.scan in sources]

    def adopt(self, entries: Iterable[Entry], found: str) -> None:
        """Take over the entries of other runs, whose answers are put into this folder after :meth:`begin`.

        Args:
            entries: as they stand.
            found: digest of what those runs found.
        """
        self._found = found
        self._take(entries)

    def _take(self, entries: Iterable[Entry]) -> None:
        """Put entries into the order of the table, and number its rows."""
        rows = enumerate(sorted(entries, key=table_order), start=1)
        self._entries = {entry.scan: replace(entry, row=row) for row, entry in rows}
        self._counts = Counter(entry.status for entry in self._entries.values())

    def _vanished(self, paths: set[str]) -> Iterator[Entry]:
        """Scans of an earlier start that are not there any more; answers that they have are kept."""
        for entry in self._entries.values():
            if entry.fingerprint and entry.path not in paths:
                entry = self._as_it_stands(entry)
                reason = "the scan was there at an earlier start and is not any more"
                gone = replace(entry, status="rejected", code=GONE, reason=reason)
                yield gone if entry.status == "pending" else entry

    def _as_it_stands(self, entry: Entry) -> Entry:
        """An entry of an earlier start, with results that were stored after its last note."""
        if entry.status == "rejected" and entry.code != GONE:
            return entry
        try:
            record = read_record(self._record_path(entry.scan), entry.scan)
        except RunError:  # not answered yet, or damaged: asked again
            return replace(entry, status="pending", code="", reason="", warnings="")
        self.compared += record.reference is not None
        return _done(entry, record)

    def begin(self) -> None:
        """Write description and table before the first answer; remove what an earlier start left half done."""
        outputs = self.folder / "outputs"
        self._secret.write(self.folder / SECRET_FILE, replace=True)
        self._write_head(finished=False)
        outputs.mkdir(exist_ok=True)
        write_entries(self.folder / SCANS_FILE, self._entries.values())
        kept = self._with_status("done")
        known = set(kept)
        for path in outputs.glob("*.npz"):
            if path.stem not in known:
                path.unlink()
        arrange_slices(self.folder, kept)
        keep_dicom_files(self.folder, kept)
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
        write_record(self._record_path(entry.scan), record, clear=False)
        self._note(_done(entry, record))

    def reject(self, entry: Entry, code: str, reason: str) -> None:
        """Note why a scan can't be used."""
        self._note(replace(entry, status="rejected", code=code, reason=reason))

    def records(self) -> Iterator[Record]:
        """All answers, in the order of the rows, read one by one.

        Raises:
            RunError: one is damaged.
        """
        return read_records(self.folder, self._with_status("done"))

    def count(self, status: str) -> int:
        """How many scans have a status."""
        return self._counts[status]

    def finish(self, conclusion: Mapping[str, Any] | None = None) -> None:
        """Mark the run as finished, and let other processes have the folder.

        Args:
            conclusion: plain data about the run, kept in its description.
        """
        write_entries(self.folder / SCANS_FILE, self._entries.values())
        arrange_slices(self.folder, self._with_status("done"))
        self._write_head(finished=True, conclusion=conclusion)
        self._lock.release()

    def _write_head(self, *, finished: bool, conclusion: Mapping[str, Any] | None = None) -> None:
        head: dict[str, Any] = {"format": FORMAT, "version": FORMAT_VERSION, "started": self._started}
        head |= {"finished": finished, "ids": self._secret.mark, "found": self._found, "task": asdict(self._task)}
        write_json(self.folder / RUN_FILE, head if conclusion is None else {**head, "conclusion": dict(conclusion)})

    def _with_status(self, status: str) -> list[str]:
        return [entry.scan for entry in self._entries.values() if entry.status == status]

    def _note(self, entry: Entry) -> None:
        """Take over the new state of a scan, and append it to the table."""
        self._counts[self._entries[entry.scan].status] -= 1
        self._counts[entry.status] += 1
        self._entries[entry.scan] = entry
        append_entry(self.folder / SCANS_FILE, entry)

    def _record_path(self, scan: str) -> Path:
        return record_path(self.folder, scan)


def check_version(folder: Path, head: Mapping[str, Any]) -> None:
    """Refuse the folder of a run that another version wrote.

    Raises:
        RunError: with what is left of it.
    """
    if head.get("version") != FORMAT_VERSION:
        raise RunError(
            f"{folder}: that run was made by another version of molre-edge. Its report.html stays as it is; to "
            f"continue, compare or judge it anew, run it again"
        )


def difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """In words, what sets a run's task apart from another one; empty if nothing does."""
    for name, value in ours.items():
        if theirs.get(name) != value:
            hidden = {"scans": "folder of scans", "bundle": "bundle", "dicom": "choice of DICOM results"}.get(name)
            return f"another {hidden}" if hidden else f"{name} {theirs.get(name)!r}, not {value!r}"
    return ""


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
    ours = {folder / LOCK_FILE, folder / SECRET_FILE, *folder.glob(_HALF_WRITTEN)}  # of a start that did not get far
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
        head = json.loads(read_regular(folder / RUN_FILE, largest=_MAX_HEAD_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{folder}: {_why_no_run(folder)}") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise RunError(f"{folder}: not a run of molre-edge")
    return head
