"""The files of a run: one record a scan, written whole, so that a run that was cut goes on where it stopped."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from molre_edge.errors import RunError
from molre_edge.files import write_json, write_whole
from molre_edge.parity import Outputs
from molre_edge.scans import FoundScans, ScanSource

__all__ = ["Entry", "Record", "RunStore", "Task"]

RUN_FILE = "run.json"
_FORMAT = "molre-edge-run"
_ID = re.compile(r"scan-\d{4,}")


@dataclass(frozen=True)
class Task:
    """What defines a run's answers; a run is only resumed with the same.

    Attributes:
        bundle: the bundle's digest.
        engine: the runner's name, ``runtime:precision``.
        reference: ``checkpoint``, ``golden`` or ``none``.
        scans: SHA-256 of the scans' resolved path: paths carry names of people.
        all_series: whether every series of a study is taken.
    """

    bundle: str
    engine: str
    reference: str
    scans: str
    all_series: bool

    @staticmethod
    def hide(path: Path) -> str:
        """The hash that stands for a path."""
        return hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One row of ``scans.csv``: a scan's anonymous id, and what only this file may say about it.

    Attributes:
        scan: ``scan-0001`` and so on.
        path: its folder or file, relative to the scans' root.
        key: its first file, relative to the root; tells series of one folder apart.
        fingerprint: of its files' names, sizes and times.
        status: ``pending``, ``done``, ``rejected`` or ``ignored``.
        code: why it was rejected or ignored, a stable word.
        reason: the same in a sentence.
        files: how many.
        warnings: of a scan that was read.
    """

    scan: str
    path: str
    key: str
    fingerprint: str
    status: str
    code: str = ""
    reason: str = ""
    files: int = 0
    warnings: str = ""


@dataclass(frozen=True, eq=False)
class Record:
    """A scan's answers.

    Attributes:
        scan: its id.
        engine: answers of the engine, n = 1.
        reference: of the reference, where it ran on this scan.
        engine_ms: milliseconds by phase.
        reference_ms: the same for the reference.
        warnings: codes and texts.
        facts: of the scan, without identifiers.
    """

    scan: str
    engine: Outputs
    reference: Outputs | None
    engine_ms: Mapping[str, float]
    reference_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[tuple[str, str], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class RunStore:
    """A run's folder.

    Attributes:
        folder: ``edge-runs/<UTC time>`` by default.
        entries: rows of ``scans.csv``, in the order of their ids.
    """

    def __init__(self, folder: Path, task: Task, entries: list[Entry], started: str) -> None:
        """Use :meth:`create` or :meth:`resume`."""
        self.folder = folder
        self._task = task
        self._started = started
        self.entries = entries

    @classmethod
    def create(cls, folder: Path, task: Task) -> RunStore:
        """Start a run.

        Raises:
            RunError: the folder holds something already.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(
                f"{folder}: is there already; choose another folder with -o, or go on with an interrupted run with "
                f"--resume"
            )
        (folder / "outputs").mkdir(parents=True, exist_ok=True)
        store = cls(folder, task, [], datetime.now(timezone.utc).isoformat(timespec="seconds"))
        store._write_head(finished=False)
        return store

    @classmethod
    def resume(cls, folder: Path, task: Task) -> RunStore:
        """Go on with a run.

        Raises:
            RunError: no run there, or one of another bundle, engine, reference or folder of scans.
        """
        head = read_head(folder)
        theirs = head.get("task")
        if not isinstance(theirs, dict):
            raise RunError(f"{folder / RUN_FILE}: damaged; start a new run")
        for name, value in asdict(task).items():
            if theirs.get(name) != value:
                raise RunError(
                    f"{folder}: that run had another {'folder of scans' if name == 'scans' else name}; start a new "
                    f"one, or resume it with its own options"
                )
        (folder / "outputs").mkdir(exist_ok=True)
        return cls(folder, task, _read_entries(folder / "scans.csv"), str(head.get("started", "")))

    @staticmethod
    def newest_unfinished(root: Path, task: Task) -> Path:
        """The newest run below `root` that was cut and fits the task.

        Raises:
            RunError: there is none.
        """
        for folder in sorted((path.parent for path in root.glob(f"*/{RUN_FILE}")), reverse=True):
            try:
                head = read_head(folder)
            except RunError:
                continue
            if not head.get("finished") and head.get("task") == asdict(task):
                return folder
        raise RunError(
            f"{root}: no interrupted run with this bundle, engine, reference and folder of scans; name its folder with "
            f"-o, or start one without --resume"
        )

    def enter(self, found: FoundScans, root: Path) -> list[tuple[Entry, ScanSource]]:
        """Give every scan its id, keeping those of an earlier start, and write ``scans.csv``.

        Returns:
            The scans whose answers are still missing.
        """
        base = root if root.is_dir() else root.parent
        known = {(entry.key, entry.path): entry for entry in self.entries}
        rows: list[Entry] = []
        todo: list[tuple[Entry, ScanSource]] = []
        number = max((int(entry.scan.split("-")[1]) for entry in self.entries), default=0)

        def identify(key: str, path: str) -> str:
            nonlocal number
            old = known.get((key, path))
            if old is not None:
                return old.scan
            number += 1
            return f"scan-{number:04d}"

        for source in found.scans:
            path, key = _relative(source.path, base), _relative(source.files[0], base)
            scan, mark = identify(key, path), source.fingerprint()
            entry = Entry(scan, path, key, mark, "pending", files=len(source.files))
            old = known.get((key, path))
            if old is not None and old.fingerprint == mark and old.status == "rejected":
                entry = old
            elif old is not None and old.fingerprint == mark and self._record_path(scan).is_file():
                entry = self._done(old, self._read(scan))  # a cut run did not come to note it
            else:
                self._record_path(scan).unlink(missing_ok=True)
                todo.append((entry, source))
            rows.append(entry)
        for status, group in (("rejected", found.rejected), ("ignored", found.ignored)):
            for item in group:
                path = _relative(item.path, base)
                scan = identify(f"{status}:{item.code}", path)
                rows.append(
                    Entry(scan, path, f"{status}:{item.code}", "", status, item.code, item.reason, files=item.files)
                )
        self.entries = sorted(rows, key=lambda entry: (len(entry.scan), entry.scan))
        self._write_entries()
        return todo

    def add(self, entry: Entry, record: Record) -> None:
        """Keep a scan's answers: from here on it is done, whatever happens."""
        arrays: dict[str, Any] = {}
        for who, outputs in (("engine", record.engine), ("reference", record.reference)):
            if outputs is None:
                continue
            arrays[f"{who}_logits"], arrays[f"{who}_embedding"] = outputs.logits, outputs.embedding
            if outputs.gates is not None:
                arrays[f"{who}_gates"] = outputs.gates
        head = {
            "engine_ms": dict(record.engine_ms),
            "reference_ms": dict(record.reference_ms),
            "warnings": record.warnings,
            "facts": dict(record.facts),
        }
        arrays["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
        with write_whole(self._record_path(entry.scan)) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
        self._replace(self._done(entry, record))

    def reject(self, entry: Entry, code: str, reason: str) -> None:
        """Note why a scan can't be used."""
        self._replace(replace(entry, status="rejected", code=code, reason=reason))
        self._write_entries()

    def records(self) -> list[Record]:
        """All answers, in the order of the ids."""
        return [self._read(entry.scan) for entry in self.entries if self._record_path(entry.scan).is_file()]

    def count(self, status: str) -> int:
        """How many scans have a status."""
        return sum(entry.status == status for entry in self.entries)

    def finish(self) -> None:
        """Mark the run as finished."""
        self._write_entries()
        self._write_head(finished=True)

    def _write_head(self, *, finished: bool) -> None:
        head = {"format": _FORMAT, "version": 1, "started": self._started, "finished": finished}
        write_json(self.folder / RUN_FILE, {**head, "task": asdict(self._task)})

    @staticmethod
    def _done(entry: Entry, record: Record) -> Entry:
        return replace(entry, status="done", warnings="; ".join(code for code, _ in record.warnings))

    def _replace(self, entry: Entry) -> None:
        self.entries = [entry if old.scan == entry.scan else old for old in self.entries]

    def _record_path(self, scan: str) -> Path:
        return self.folder / "outputs" / f"{scan}.npz"

    def _write_entries(self) -> None:
        names = list(asdict(Entry("", "", "", "", "")))
        write_csv(self.folder / "scans.csv", names, [list(asdict(entry).values()) for entry in self.entries])

    def _read(self, scan: str) -> Record:
        path = self._record_path(scan)
        try:
            with np.load(path, allow_pickle=False) as data:
                head = json.loads(bytes(data["head"]))
                outputs = {
                    who: Outputs(data[f"{who}_logits"], data[f"{who}_embedding"], data.get(f"{who}_gates", None))
                    for who in ("engine", "reference")
                    if f"{who}_logits" in data
                }
                warnings = tuple((str(code), str(text)) for code, text in head["warnings"])
                return Record(
                    scan=scan,
                    engine=outputs["engine"],
                    reference=outputs.get("reference"),
                    engine_ms=head["engine_ms"],
                    reference_ms=head["reference_ms"],
                    warnings=warnings,
                    facts=head["facts"],
                )
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise RunError(f"{path}: damaged ({error}); remove it and go on with --resume") from error


def read_head(folder: Path) -> dict[str, Any]:
    """The run's description.

    Raises:
        RunError: no run there.
    """
    try:
        head = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}: not a run of molre-edge ({RUN_FILE} can't be read)") from error
    if not isinstance(head, dict) or head.get("format") != _FORMAT:
        raise RunError(f"{folder}: not a run of molre-edge")
    return head


def write_csv(path: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    with write_whole(path) as partial:
        # a file name that is not UTF-8 is kept as an escape
        partial.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace", newline="")


def _read_entries(path: Path) -> list[Entry]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [Entry(**{**row, "files": int(row["files"])}) for row in csv.DictReader(file)]  # type: ignore[arg-type]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: damaged ({error}); start a new run") from error
    if not all(_ID.fullmatch(row.scan) for row in rows):
        raise RunError(f"{path}: damaged (an id that is none); start a new run")
    return rows


def _relative(path: Path, base: Path) -> str:
    try:
        return path.relative_to(base).as_posix() or "."
    except ValueError:
        return path.name
