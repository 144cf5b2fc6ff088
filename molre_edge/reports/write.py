"""Write reports: JSON for programs, one self-contained HTML page for people, JUnit for CI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from molre_edge.files import write_json, write_whole
from molre_edge.reports.junit import write_junit
from molre_edge.reports.large import VOLUMES_FILE, write_volumes
from molre_edge.reports.parity_page import render
from molre_edge.reports.parity_report import KeySlice, Report
from molre_edge.reports.side_by_side import Comparison
from molre_edge.reports.side_by_side_page import render_comparison

__all__ = ["write_comparison", "write_report"]


def write_report(folder: Path | str, report: Report, slices: Sequence[KeySlice] = ()) -> tuple[Path, Path]:
    """Write ``report.json``, ``report.html`` and ``junit.xml`` into a folder, each completely or not at all.

    Over many volumes, ``volumes.csv`` has what the others leave out.

    Args:
        folder: created if missing; reports in it are replaced.
        report: to write.
        slices: pictures of scans, only for the page.

    Returns:
        The paths of the JSON and of the HTML file.
    """
    # both before either file is written: a report that can't be rendered must not replace an earlier one
    data, page = report.to_dict(), render(report, slices)
    paths = Path(folder) / "report.json", Path(folder) / "report.html"
    write_json(paths[0], data)
    with write_whole(paths[1]) as partial:
        # the command line may contain a name that is not UTF-8; the page shows an escape, as the JSON does
        partial.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")
    write_junit(Path(folder), [(report.engine.name, report)])
    write_volumes(Path(folder), report)
    return paths


def write_comparison(folder: Path, comparison: Comparison) -> tuple[Path, Path]:
    """Write ``report.json``, ``report.html`` and ``junit.xml`` of several runs, each completely or not at all.

    Returns:
        The paths of the JSON and of the HTML file.
    """
    page = render_comparison(comparison)
    paths = folder / "report.json", folder / "report.html"
    write_json(paths[0], comparison.to_dict())
    with write_whole(paths[1]) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")
    write_junit(folder, [(side.name, side.report) for side in comparison.sides])
    (folder / VOLUMES_FILE).unlink(missing_ok=True)  # of another report, written here before
    return paths
