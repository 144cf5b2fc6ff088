"""``slices.csv``: from each slice on the model's grid back to the images that it was made of.

It holds UIDs and paths, so it is kept where ``scans.csv`` is kept and goes nowhere else. The rows of a scan stand
together, and are copied as they are: a run of 100,000 studies has millions of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from molre_edge.files import write_whole
from molre_edge.regular import append_regular, open_regular
from molre_edge.runs.scan_table import csv_line, path_text
from molre_edge.scans import GridSlice

__all__ = ["SLICES_FILE", "add_slices", "arrange_slices"]

SLICES_FILE = "slices.csv"
_MAX_LINE_BYTES = 1 << 20
_COLUMNS = ("scan", "slice", "share", "file", "sop_instance_uid", "frame")


def add_slices(folder: Path, scan: str, slices: Sequence[GridSlice], base: Path) -> None:
    """Append the images of a scan.

    Args:
        folder: of the run.
        scan: its id.
        slices: from :func:`molre_edge.scans.map_slices`; none writes nothing.
        base: files are named relative to it.
    """
    if not slices:
        return
    path = folder / SLICES_FILE
    rows: list[Sequence[object]] = [] if path.exists() else [_COLUMNS]
    for each in slices:
        place = path_text(each.source.path, base)
        rows.append((scan, each.slice, each.share, place, each.source.sop_uid, each.source.frame))
    with append_regular(path) as file:
        file.write("".join(map(csv_line, rows)).encode())
        file.flush()
        os.fsync(file.fileno())  # before the answers, which say that the scan is done


def arrange_slices(folder: Path, scans: Sequence[str], sources: Sequence[Path] = ()) -> None:
    """Put the rows of scans into an order; rows of others, and what a cut run left half written, go. Reads only once.

    Args:
        folder: of the run, whose table is written whole, or left as it is if nothing changes. No table is none
            afterwards.
        scans: ids, in the order wanted.
        sources: folders of other runs whose rows are taken, for a run that has none itself.
    """
    target = folder / SLICES_FILE
    paths = [path / SLICES_FILE for path in sources or [folder] if (path / SLICES_FILE).is_file()]
    blocks: dict[bytes, tuple[int, int, int]] = {}
    for number, path in enumerate(paths):
        blocks.update((scan, (number, *span)) for scan, span in _spans(path).items())
    wanted = [name for name in (scan.encode() for scan in scans) if name in blocks]
    if not paths or (not sources and list(blocks) == wanted and _size(blocks) == target.stat().st_size):
        return
    if not wanted:
        target.unlink(missing_ok=True)
        return
    with ExitStack() as stack:
        files = [stack.enter_context(open_regular(path)) for path in paths]
        out = stack.enter_context(stack.enter_context(write_whole(target)).open("wb"))
        out.write(csv_line(_COLUMNS).encode())
        for name in wanted:
            number, start, length = blocks[name]
            files[number].seek(start)
            out.write(files[number].read(length))


def _spans(path: Path) -> dict[bytes, tuple[int, int]]:
    """Scan -> where its rows begin and how many bytes they are; the last ones where a scan has several places."""
    spans: dict[bytes, tuple[int, int]] = {}
    last, at = b"", 0
    with open_regular(path) as file:
        while line := file.readline(_MAX_LINE_BYTES):
            scan = line.partition(b",")[0]
            if line.endswith(b"\n") and at:
                before = spans.pop(scan, None)
                start, length = before if before is not None and scan == last else (at, 0)
                spans[scan] = start, length + len(line)
                last = scan
            at += len(line)
    return spans


def _size(blocks: dict[bytes, tuple[int, int, int]]) -> int:
    """Of a table with these rows and nothing else."""
    return len(csv_line(_COLUMNS)) + sum(length for _, _, length in blocks.values())
