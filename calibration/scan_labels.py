"""Labels of the scans of a calibration, matched by the rules of ``infer``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.samples import LabelsOf
from molre_edge.errors import RunError
from molre_edge.runs.labels import read_labels
from molre_edge.runs.scan_table import Entry, path_text
from molre_edge.scans import FoundScans

__all__ = ["labels_of"]


def labels_of(
    path: Path | None, bundle: Bundle, scans: FoundScans, root: Path, tell: Callable[[str], None]
) -> LabelsOf:
    """A function that gives the labels of a scan.

    Args:
        path: of the CSV; None for no labels at all.
        bundle: names the findings.
        scans: the scans to match.
        root: the folder or file in which they were found.
        tell: receives one sentence on the lines and columns that matched.

    Raises:
        RunError: the file can't be read, or names none of the scans.
    """
    if path is None:
        return lambda source: None
    base = (root if root.is_dir() else root.parent).resolve()
    entries, ids = [], {}
    for number, source in enumerate(scans.scans, start=1):
        name = f"scan-{number:04d}"
        ids[source] = name
        place, key = path_text(source.path.resolve(), base), path_text(source.files[0].resolve(), base)
        entries.append(Entry(name, place, key, fingerprint="known", status="pending"))
    table = read_labels(path, bundle.findings, tell).of(entries, root)
    if not table:
        raise RunError(
            f"{path}: names none of the scans in {root.name}; expected a path relative to the CSV or to that folder in "
            f"the column 'scan'. Correct the column"
        )
    return lambda source: table.get(ids[source])
