"""The shards of a run become one run, with the files that a single process would have left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from molre_edge.errors import ConfigError, RunError
from molre_edge.parity import Outputs
from molre_edge.progress import SILENT, Progress
from molre_edge.runs.answers import Record, read_record, record_path
from molre_edge.runs.circumstances import Circumstances
from molre_edge.runs.conclude import write_results
from molre_edge.runs.dicom_folder import copy_dicom_files
from molre_edge.runs.finished import finished_head
from molre_edge.runs.infer_result import InferResult
from molre_edge.runs.labels import KNOWN_LABELS, read_labels
from molre_edge.runs.pairs import GOLDEN, GOLDEN_FILE, Labels
from molre_edge.runs.scan_ids import SECRET_FILE, IdSecret, Shard
from molre_edge.runs.scan_table import Entry, read_entries
from molre_edge.runs.slices import arrange_slices
from molre_edge.runs.store import DEFAULT_RUNS, RUN_FILE, SCANS_FILE, RunStore, Task, difference, new_folder

__all__ = ["merge_shards"]

_RESUME = "Run it again with --resume, its --shard and its options, and merge then"


@dataclass(frozen=True)
class _ShardRun:
    """A finished shard, read from its folder.

    Attributes:
        folder: of the run.
        head: its description.
        shard: which one.
        task: of the run.
        found: digest of what it found, other shards' scans included.
        secret: of its ids.
        how: it was made.
        entries: rows of its scans.csv.
    """

    folder: Path
    head: Mapping[str, Any]
    shard: Shard
    task: Task
    found: str
    secret: IdSecret
    how: Circumstances
    entries: list[Entry]


def merge_shards(folders: Iterable[Path], out: Path | None, progress: Progress = SILENT) -> InferResult:
    """Make one run of its shards.

    Args:
        folders: of all shards of a run, finished, in any order.
        out: of the merged run, new or empty. Default: ``edge-runs/<UTC time>``.
        progress: receives events.

    Raises:
        RunError: a folder is not a finished shard; a shard is missing, there twice, of another run or damaged; the
            shards did not find the same scans; or `out` is in use.
    """
    progress.step("looking at the shards")
    shards = sorted(map(_open, folders), key=lambda run: run.shard.index)
    _check_set(shards)
    first = shards[0]
    golden, labels = _golden(shards), _labels(shards)
    place = out or new_folder(DEFAULT_RUNS)
    there = set(place.iterdir()) if place.is_dir() else set()  # the secret that the shards shared may lie there
    store = RunStore.create(place, replace(first.task, shard=None), first.secret)
    try:
        store.adopt((entry for run in shards for entry in run.entries), first.found)
        store.begin()
        progress.step("scans")
        done = [entry.scan for entry in store.entries if entry.status == "done"]
        # before the answers, which say that a scan is done, should this be killed and then resumed
        arrange_slices(store.folder, done, [run.folder for run in shards])
        copy_dicom_files([run.folder for run in shards], store.folder)
        _copy_answers(shards, store.folder, progress)
        _check_unchanged(shards)
        progress.step("results")
        return write_results(store, _together(shards), golden=golden, labels=labels)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what is told
            for path in set(store.folder.iterdir()) - there:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise
    finally:
        store.close()


def _open(folder: Path) -> _ShardRun:
    head = finished_head(folder)
    data: Any = head.get("task")
    if not isinstance(data, dict) or not isinstance(data.get("shard"), str):
        raise RunError(f"{folder}: not a shard, but a run of all its scans. Name runs of infer --shard")
    secret = IdSecret.read(folder / SECRET_FILE)
    try:
        task, shard = Task(**data), Shard.parse(data["shard"])
        how = Circumstances.from_dict(head["conclusion"])
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{folder}: damaged, or made by another version of molre-edge ({error!r}). {_RESUME}") from error
    entries = read_entries(folder / SCANS_FILE)
    if secret.mark != head.get("ids") or not all(shard.holds(entry.scan) for entry in entries):
        raise RunError(f"{folder}: damaged: its ids, its secret and its shard {shard} do not fit together")
    return _ShardRun(folder, head | _written(folder), shard, task, str(head.get("found")), secret, how, entries)


def _written(folder: Path) -> dict[str, int]:
    """When the head was written: a shard that is resumed with the same options ends with the same one."""
    return {"written": (folder / RUN_FILE).stat().st_mtime_ns}


def _check_unchanged(shards: Iterable[_ShardRun]) -> None:
    """Refuse shards that went on while they were read.

    Raises:
        RunError: with the shard.
    """
    for run in shards:
        if finished_head(run.folder) | _written(run.folder) != run.head:
            raise RunError(f"{run.folder}: shard {run.shard} was continued while it was merged. Merge again")


def _check_set(shards: Sequence[_ShardRun]) -> None:
    """Refuse shards that are not all shards of one run.

    Raises:
        RunError: with the shard.
    """
    if not shards:
        raise RunError("no shard is named: name the folders of all shards of a run")
    first = shards[0]
    for run in shards:
        apart = _apart(first, run)
        if apart:
            raise RunError(
                f"{run.folder}: a foreign shard: {apart} (compared with {first.folder}). Name shards of one run"
            )
    for before, run in pairwise(shards):
        if before.shard == run.shard:
            raise RunError(f"shard {run.shard} is there twice: {before.folder} and {run.folder}. Name each shard once")
    have = {run.shard.index for run in shards}
    missing = [f"{i}/{first.shard.count}" for i in range(1, first.shard.count + 1) if i not in have]
    if missing:
        named = ", ".join(missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
        raise RunError(f"missing: shard {named}. Name the folders of all {first.shard.count} shards")
    for run in shards:
        if run.found != first.found:
            raise RunError(
                f"{run.folder}: shard {run.shard} did not find the scans that shard {first.shard} found: the folder "
                f"of scans changed in between. Run all shards again with --resume, which answers only what is new"
            )


def _apart(first: _ShardRun, run: _ShardRun) -> str:
    """In words, what makes a shard one of another run; empty if nothing does."""
    if run.shard.count != first.shard.count:
        return f"it is shard {run.shard}, not one of {first.shard.count}"
    task, other = (asdict(replace(each.task, shard=None)) for each in (first, run))
    if found := difference(other, task):
        return f"it had {found}"
    if run.secret != first.secret:
        return "its ids have another secret"
    for name in ("findings", "thresholds", "reference", "limits", "labels_given", "bundle"):
        if getattr(run.how, name) != getattr(first.how, name):
            return f"its {name.replace('_', ' ')} are others"
    return ""


def _together(shards: Sequence[_ShardRun]) -> Circumstances:
    """How the merged run was made: as its shards, with a note on what differs between them."""
    how = shards[0].how
    command = how.command.replace(f" --shard {shards[0].shard}", "")
    notes = []
    for name, of in (
        ("runtime", lambda each: each.engine.runtime),
        ("device", lambda each: each.engine.device),
        ("threads", lambda each: str(each.engine.threads)),
        ("engine", lambda each: str(dict(each.engine.details))),
        ("versions", lambda each: ", ".join(f"{lib} {version}" for lib, version in each.versions.items())),
    ):
        values: dict[str, list[str]] = {}
        for run in shards:
            values.setdefault(of(run.how), []).append(str(run.shard))
        if len(values) > 1:
            told = "; ".join(f"{value} (shards {', '.join(those)})" for value, those in values.items())
            notes.append(f"the shards differ in {name}: {told}")
    return replace(how, command=command, notes=(*how.notes, *notes))


def _golden(shards: Sequence[_ShardRun]) -> Record | None:
    """The answers for the golden volumes: once if all shards gave the same, else those of each that differ."""
    if shards[0].how.reference != "golden":
        return None
    different: dict[bytes, Record] = {}
    for run in shards:
        record = read_record(run.folder / GOLDEN_FILE, GOLDEN)
        different.setdefault(b"".join(array.tobytes() for array in record.engine.arrays.values()), record)
    records = list(different.values())
    references = [record.reference for record in records if record.reference is not None]
    return Record(
        GOLDEN,
        engine=Outputs.stack([record.engine for record in records]),
        reference=Outputs.stack(references) if references else None,
        engine_ms={},
    )


def _labels(shards: Sequence[_ShardRun]) -> Labels:
    tables = [run.folder / KNOWN_LABELS for run in shards]
    findings = shards[0].how.findings
    return {
        name: values for table in tables if table.is_file() for _, name, values in read_labels(table, findings).rows
    }


def _copy_answers(shards: Sequence[_ShardRun], folder: Path, progress: Progress) -> None:
    """Bring the stored answers of all shards into one folder, each read once, so that damage is told by its shard."""
    done = [(run, entry.scan) for run in shards for entry in run.entries if entry.status == "done"]
    for count, (run, scan) in enumerate(done, start=1):
        source, target = record_path(run.folder, scan), record_path(folder, scan)
        try:
            read_record(source, scan)
        except RunError as error:
            raise RunError(f"shard {run.shard}: {error}") from error
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copyfile(source, target)
        progress.count(count, len(done), "scans")
