"""Describes a scan or a folder of scans: the series, their geometry and warnings, and what ``infer`` would refuse.

Scans are numbered as the rows of ``infer``'s scans.csv, because file names may contain names of people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from molre_edge.errors import MolreEdgeError, ScanError
from molre_edge.inspection.findings import Inspection, Table, plain
from molre_edge.progress import SILENT, Progress
from molre_edge.runs.scan_table import path_text
from molre_edge.scans import ScanSource, read_scan
from molre_edge.scans.workers.finder import find_apart
from molre_edge.scans.workers.prepare import guarded

__all__ = ["inspect_scans"]

_NO_SCAN = "not_a_scan"
_MOST_ROWS = 100  # for people; programs get all


def inspect_scans(path: Path, *, most: int, with_paths: bool, progress: Progress = SILENT) -> Inspection:
    """Find scans as ``infer`` does, and read the first ones.

    Args:
        path: a file or folder.
        most: number of scans to read.
        with_paths: show paths, relative to `path`.
        progress: receives the number of scans.

    Raises:
        MolreEdgeError: nothing there is a scan, or has another known format.
    """
    found = find_apart(path)
    if not found.scans and all(entry.code == _NO_SCAN for entry in (*found.rejected, *found.ignored)):
        what = "no file in it is" if path.is_dir() else "not"
        raise MolreEdgeError(
            f"{path}: {what} DICOM or NIfTI. Expected scans, a checkpoint (.pt, .safetensors), a graph (.onnx), an "
            f"engine (.engine, or its .json), a bundle or a run"
        )
    base = path if path.is_dir() else path.parent
    scans: list[dict[str, Any]] = []
    for number, source in enumerate(found.scans, start=1):
        fact: dict[str, Any] = {"row": number, "kind": source.kind, "files": len(source.files)}
        fact["volumes"] = [asdict(candidate) for candidate in source.candidates]
        if with_paths:
            fact["path"] = path_text(source.path, base)
        if number > most:
            fact["status"] = "not read"
        else:
            read = guarded(partial(_facts_of, source))
            if isinstance(read, ScanError):
                fact |= {"status": "refused", "code": read.code, "reason": str(read)}
            else:
                fact |= {"status": "usable", **read}
        scans.append(fact)
        progress.count(number, len(found.scans), "scans")
    left: list[dict[str, Any]] = []
    for status, group in (("refused", found.rejected), ("ignored", found.ignored)):
        for entry in group:
            number = len(scans) + len(left) + 1
            fact = {"row": number, "status": status, "code": entry.code, "reason": entry.reason}
            fact["files"] = entry.files
            left.append(fact | ({"path": path_text(entry.path, base)} if with_paths else {}))
    facts = {"path": str(path), "scans": scans, "left_out": left}
    usable = sum(fact["status"] == "usable" for fact in scans)
    refused = [fact for fact in (*scans, *left) if fact["status"] == "refused"]
    unread = len(scans) - min(len(scans), most)
    others = sum(fact["status"] == "refused" for fact in left)
    summary = (
        f"{len(scans)} head CT series: {usable} usable, {len(refused) - others} refused"
        + (f", {unread} not read (--most)" if unread else "")
        + (f"; {others} other series or file{'' if others == 1 else 's'} refused" if others else "")
    )
    words = []
    none = sum(fact["files"] for fact in left if fact["status"] == "ignored" and fact["code"] == _NO_SCAN)
    if none:
        words.append(("neither DICOM nor NIfTI", f"{none} file{'' if none == 1 else 's'}"))
    if len(scans) + len(left) > none and not with_paths:
        words.append(("paths", "shown with --paths; they may contain names of people"))
    # In a folder, a scan that is refused is part of the answer; of a file that was named, it is what is wrong.
    problems = tuple(f"{path}: {fact['reason']}" for fact in refused) if path.is_file() else ()
    return Inspection("scans", summary, facts, tuple(words), _tables(scans, left, with_paths), problems)


def _facts_of(source: ScanSource) -> dict[str, Any]:
    volume = read_scan(source)
    warnings = [{"code": warning.code, "text": warning.text} for warning in volume.warnings]
    span = float(volume.positions_mm[-1] - volume.positions_mm[0])
    return {**volume.facts, "span_mm": round(span, 1), "warnings": warnings}


def _first(rows: Sequence[object]) -> str:
    """What a title says of a table that does not hold all rows."""
    return f", the first {_MOST_ROWS} of {len(rows)}" if len(rows) > _MOST_ROWS else ""


def _tables(scans: list[dict[str, Any]], left: list[dict[str, Any]], with_paths: bool) -> tuple[Table, ...]:
    paths = ("path",) if with_paths else ()
    good = [fact for fact in scans if fact["status"] == "usable"]
    bad = [
        fact
        for fact in (*scans, *left)
        if fact["status"] == "refused" or (fact["status"] == "ignored" and fact["code"] != _NO_SCAN)
    ]
    title = f"Left out{_first(bad)}"
    rows = []
    for fact in good:
        low, high = fact["step_mm"]
        step = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        rows.append(
            (
                *(fact[name] for name in ("row", *paths, "kind")),
                f"{fact['slices']} x {fact['rows']} x {fact['cols']}",
                " x ".join(f"{value:.3g}" for value in fact["pixel_mm"]),
                step,
                f"{fact['tilt_degrees']:g}",
                ", ".join(warning["code"] for warning in fact["warnings"]) or "–",
            )
        )
    columns = ("row", *paths, "kind", "slices x rows x cols", "pixel mm", "step mm", "tilt", "warnings")
    notes = {(w["code"], w["text"]) for fact in good for w in fact["warnings"]}
    volumes = [
        (str(fact["row"]), *(str(each[name]) for name in ("name", "slices", "status", "reason")))
        for fact in scans
        if len(fact["volumes"]) > 1
        for each in fact["volumes"]
    ]
    tables = (
        Table("Scans that can be used", columns, tuple(tuple(map(plain, row)) for row in rows)),
        Table(
            f"Volumes of the studies, and why one was chosen{_first(volumes)}",
            ("row", "volume", "slices", "status", "reason"),
            tuple(tuple(map(plain, row)) for row in volumes[:_MOST_ROWS]),
        ),
        Table("Warnings", ("code", "meaning"), tuple(sorted((plain(c), plain(t)) for c, t in notes))),
        Table(
            title,
            ("row", *paths, "status", "code", "reason", "files"),
            tuple(
                tuple(plain(str(fact[name])) for name in ("row", *paths, "status", "code", "reason", "files"))
                for fact in bad[:_MOST_ROWS]
            ),
        ),
    )
    return tuple(table for table in tables if table.rows)
