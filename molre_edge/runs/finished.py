"""A finished run, read from its folder. Its report is made again from the stored answers, without an engine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from molre_edge.errors import MolreEdgeError, RunError
from molre_edge.files import read_regular
from molre_edge.parity import ParityLimits
from molre_edge.reports.parity_report import (
    BundleFacts,
    EngineFacts,
    FailedScan,
    ReferenceFacts,
    Report,
    TimingRow,
    lasting_notes,
)
from molre_edge.reports.stored import read_report
from molre_edge.runs.answers import Record, read_record, read_records
from molre_edge.runs.folder_lock import holder_of
from molre_edge.runs.labels import KNOWN_LABELS, read_labels
from molre_edge.runs.pairs import GOLDEN, GOLDEN_FILE, Compared, Labels, Pair
from molre_edge.runs.run_report import RunFacts, build_report
from molre_edge.runs.scan_table import Entry, read_entries
from molre_edge.runs.store import SCANS_FILE, check_version, read_head
from molre_edge.specs import Grid, Precision

__all__ = ["StoredRun", "finished_head", "open_run"]

_REPORT = "report.json"
_MAX_REPORT_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class StoredRun:
    """What a finished run's folder holds.

    Attributes:
        folder: the run's.
        data: the content of its report.json, under the names of this version; `limits` are :class:`ParityLimits`.
        entries: rows of scans.csv; none where that file was left out when the run was handed on.
        scans: ids of the answered scans, in the order of the rows.
        golden: the answers for the golden volumes, where they were the reference.
        labels: that the run was given.
        all_series: whether every series of a study was taken.
    """

    folder: Path
    data: Mapping[str, Any]
    entries: tuple[Entry, ...]
    scans: tuple[str, ...]
    golden: Record | None
    labels: Labels
    all_series: bool

    @property
    def precision(self) -> Precision:
        """Of the engine's graph."""
        return Precision(self.data["engine"]["precision"])

    @property
    def findings(self) -> tuple[str, ...]:
        """Names, in the order of the model's outputs."""
        return tuple(str(name) for name in self.data["findings"])

    @property
    def compares_scans(self) -> bool:
        """Whether the reference answered the run's own scans, which alone can have labels."""
        with _sound(self.folder):
            return self.data["reference"]["kind"] in ("pytorch checkpoint", "own model")

    @property
    def grid(self) -> Grid | None:
        """That the model reads; None where the run does not say.

        Raises:
            RunError: no grid.
        """
        with _sound(self.folder):
            return None if self.data["bundle"].get("grid") is None else Grid(**self.data["bundle"]["grid"])

    def records(self) -> Iterator[Record]:
        """The answers, in the order of the rows, read one by one.

        Raises:
            RunError: one is damaged.
        """
        return read_records(self.folder, self.scans)

    def report(
        self,
        *,
        limits: ParityLimits | None = None,
        limits_source: str = "",
        labels: Labels | None = None,
        note: str = "",
    ) -> Report:
        """The report of this run, its numbers computed and judged again.

        Args:
            limits: instead of the run's own.
            limits_source: where they came from.
            labels: instead of those that the run was given.
            note: to add to the report's notes.

        Raises:
            RunError: report.json is damaged, or does not fit the answers.
        """
        self._check_failed()
        pair = self._pair(self.labels if labels is None else labels)
        with _sound(self.folder):
            return self._report(limits, limits_source, pair, note)

    def _report(self, limits: ParityLimits | None, source: str, pair: Pair | None, note: str) -> Report:
        data = self.data
        if limits is None and pair is not None:
            limits, source = data["limits"], str(data["limits_source"])
        notes = lasting_notes(str(each) for each in data["notes"])
        facts = RunFacts(
            title=str(data["title"]),
            created=str(data["created"]),
            engine=EngineFacts(**_known(EngineFacts, data["engine"])),
            reference=ReferenceFacts(**_known(ReferenceFacts, data["reference"])),
            bundle=BundleFacts(**_known(BundleFacts, data["bundle"])),
            findings=self.findings,
            thresholds=tuple(float(value) for value in data["thresholds"]),
            failed=self._failed(),
            warnings=self._warnings(),
            timing=tuple(TimingRow(**_known(TimingRow, row)) for row in data["timing"]),
            command=str(data["command"]),
            versions={str(name): str(version) for name, version in data["versions"].items()},
            notes=notes if not note or note in notes else (*notes, note),
            rows={entry.scan: entry.row for entry in self.entries},
        )
        return build_report(facts, pair, limits, source)

    def _check_failed(self) -> None:
        """Refuse to tell of fewer scans than were not used."""
        with _sound(self.folder):
            listed = len(self.data["failed"])
            count = self.data.get("failed_count", listed)
        if listed != count and not self.entries:
            raise RunError(
                f"{self.folder}: {count} scans were not used, and report.json lists {listed} of them. Put the run's "
                f"{SCANS_FILE} back beside it"
            )

    def _failed(self) -> tuple[FailedScan, ...]:
        """Scans that were not used; report.json lists the first ones."""
        listed = tuple(FailedScan(**_known(FailedScan, each)) for each in self.data["failed"])
        if len(listed) == self.data.get("failed_count", len(listed)):
            return listed
        refused = (entry for entry in self.entries if entry.status == "rejected")
        return tuple(FailedScan(scan=each.scan, code=each.code, reason=each.reason) for each in refused)

    def _warnings(self) -> dict[str, tuple[str, ...]]:
        """Warnings by scan; report.json lists those of the first scans, the answers have all."""
        listed = {str(scan): tuple(map(str, texts)) for scan, texts in self.data["warnings"].items()}
        if len(listed) == self.data.get("warned_count", len(listed)):
            return listed
        told = ((record.scan, tuple(text for _, text in record.warnings)) for record in self.records())
        return {scan: texts for scan, texts in told if texts}

    def _pair(self, labels: Labels) -> Pair | None:
        with _sound(self.folder):
            kind = self.data["reference"]["kind"]
            if kind == "golden answers":
                if self.golden is None or self.golden.reference is None:
                    raise RunError(f"{GOLDEN_FILE} is missing")
                return Pair.of_golden(self.golden.reference, self.golden.engine)
        compared = Compared()
        if kind != "none":
            for record in self.records():
                compared.add(record)
        with _sound(self.folder):
            return compared.pair(labels)


def finished_head(folder: Path, *, held: bool = False) -> dict[str, Any]:
    """The description of a run that is finished.

    Args:
        folder: of the run.
        held: whether this process holds its lock.

    Raises:
        RunError: no run there, one of another version, or one that is running or was interrupted.
    """
    head, holder = read_head(folder), None if held else holder_of(folder)
    check_version(folder, head)
    if holder is not None:
        raise RunError(f"{folder}: this run is unfinished, {holder} is working on it. Wait until it ends")
    if not head.get("finished"):
        raise RunError(
            f"{folder}: this run was interrupted before its end. Continue it first: molre-edge infer SCANS -o {folder} "
            f"--resume, with the scans, engine and options that it was started with"
        )
    return head


def open_run(folder: Path, *, held: bool = False) -> StoredRun:
    """Read a finished run.

    Args:
        folder: of the run.
        held: whether this process holds its lock.

    Raises:
        RunError: no run there, one that is running or was interrupted, or a damaged one.
    """
    head = finished_head(folder, held=held)
    try:
        data = json.loads(read_regular(folder / _REPORT, largest=_MAX_REPORT_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RunError(f"{folder / _REPORT}: can't be read ({why or error})") from error
    with _sound(folder):
        data, notes = read_report(data)
        data["notes"] = [*data["notes"], *notes]
        findings = [str(name) for name in data["findings"]]
        compared = [str(name) for name in data["scans"]]
        all_series = bool(head["task"]["all_series"])
    entries = read_entries(folder / SCANS_FILE)
    names = [entry.scan for entry in entries if entry.status == "done"]
    if not entries:
        stored = {path.stem for path in (folder / "outputs").glob("scan-*.npz")}
        names = [name for name in compared if name in stored]  # in the order of the run's rows
        names += sorted(stored.difference(names))
    golden = folder / GOLDEN_FILE
    labels = folder / KNOWN_LABELS
    return StoredRun(
        folder=folder,
        data=data,
        entries=tuple(entries),
        scans=tuple(names),
        golden=read_record(golden, GOLDEN) if golden.is_file() else None,
        labels={name: values for _, name, values in read_labels(labels, findings).rows} if labels.is_file() else {},
        all_series=all_series,
    )


@contextlib.contextmanager
def _sound(folder: Path) -> Iterator[None]:
    """Turn every problem with the content of a report.json into one error that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, MolreEdgeError) as error:
        raise RunError(f"{folder / _REPORT}: damaged, or does not match the stored answers ({error!r})") from error


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass that are there; a later version may have written more. Texts are made texts."""
    found = {field.name: data[field.name] for field in fields(kind) if field.name in data}
    if "details" in found:
        found["details"] = {str(name): str(value) for name, value in found["details"].items()}
    return found
