"""``molre-edge calibrate``: the int8 graph of a bundle, within the parity budget."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import TaskID
from rich.table import Table

from molre_edge.bundle.bundle import DEFAULT_BUNDLE, Bundle
from molre_edge.calibration.settings import CalibrationSettings, RangeMethod
from molre_edge.cli.shell import (
    BundleOption,
    DigestOption,
    ExitCode,
    JsonOption,
    LabelsOption,
    LimitsOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    command,
    open_bundle,
)
from molre_edge.errors import MissingDependencyError, RunError
from molre_edge.parity import DEFAULT_LIMITS, load_limits
from molre_edge.specs import DISCLAIMER, Precision

if TYPE_CHECKING:
    from molre_edge.calibration.run import CalibrationResult
    from molre_edge.scans import FoundScans, ScanSource

__all__ = ["calibrate", "labels_of", "show_calibration"]


@command
def calibrate(
    scans: Annotated[
        Path, typer.Argument(exists=True, help="A folder of DICOM or NIfTI head CT, at any depth; two scans at least.")
    ],
    bundle: BundleOption = DEFAULT_BUNDLE,
    gates: LimitsOption = None,
    labels: LabelsOption = None,
    ranges: Annotated[
        RangeMethod | None,
        typer.Option("--ranges", help="How ranges follow from what was seen. Default: the one that harms least."),
    ] = None,
    slices: Annotated[int, typer.Option("--slices", min=1, help="See so many slices for the ranges.")] = 500,
    validation_scans: Annotated[
        int | None,
        typer.Option(
            "--validation-scans",
            min=1,
            help="Keep so many scans for judging. Default: 32 slices' worth, or half of the scans with --labels.",
        ),
    ] = None,
    conv3d: Annotated[bool, typer.Option("--conv3d", help="Consider 3D convolutions too.")] = False,
    threads: ThreadsOption = None,
    expect_digest: DigestOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the most INT8 that keeps the parity gate, and put graphs/int8.onnx and a report into the bundle.

    Ranges come from some of the scans. The search judges on others and on the golden volumes; what it found is judged
    on all scans at the end, as 'infer' does. What is already there from the same inputs is kept. Where no layer fits,
    the bundle stays as it is and the exit code is 3.
    """
    speaker = Speaker(as_json, quiet)
    for name in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise MissingDependencyError("Calibration", name, "export")
    from molre_edge.calibration.run import calibrate as calibrate_bundle
    from molre_edge.scans import find_scans

    opened = open_bundle(bundle, expect_digest)
    limits = DEFAULT_LIMITS if gates is None else load_limits(gates)
    found = find_scans(scans)
    with _Bar(speaker) as bar:
        result = calibrate_bundle(
            opened,
            found,
            CalibrationSettings(method=ranges, slices=slices, validation=validation_scans, conv3d=conv3d),
            limits[Precision.INT8],
            bar,
            labels=labels_of(labels, opened, found, scans, speaker.tell),
            threads=threads,
        )
    show_calibration(result, speaker)
    if result.problems or result.unread:
        raise typer.Exit(ExitCode.SCANS_REJECTED)


def labels_of(
    path: Path | None,
    bundle: Bundle,
    found: FoundScans,
    root: Path,
    tell: Callable[[str], None] = lambda text: None,
) -> Callable[[ScanSource], npt.NDArray[np.float64] | None]:
    """Labels by scan, by the rules of ``infer``.

    Args:
        path: of the CSV; None for no labels at all.
        bundle: whose findings they are.
        found: the scans.
        root: where these were found.
        tell: receives one sentence on lines and columns.

    Raises:
        RunError: the file can't be read, or names none of the scans.
    """
    from molre_edge.runs.labels import read_labels
    from molre_edge.runs.scan_table import Entry, path_text

    if path is None:
        return lambda source: None
    base = (root if root.is_dir() else root.parent).resolve()
    entries, ids = [], {}
    for number, source in enumerate(found.scans, start=1):
        name = f"scan-{number:04d}"
        ids[source] = name
        place, key = path_text(source.path.resolve(), base), path_text(source.files[0].resolve(), base)
        entries.append(Entry(name, place, key, fingerprint="known", status="pending"))
    table = read_labels(path, bundle.findings, tell).of(entries, root)
    if not table:
        raise RunError(f"{path}: names none of the scans")
    return lambda source: table.get(ids[source])


class _Bar:
    """A progress bar a step on a terminal, a line a step elsewhere."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._bar = speaker.counter()
        self._task: TaskID | None = None

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, name: str, parts: int | None = None) -> None:
        if not self._speaker.err.is_terminal:
            self._speaker.tell(f"- {name}")
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=parts)

    def part(self, what: str = "") -> None:
        if self._task is not None:
            self._bar.advance(self._task)

    def tell(self, text: str) -> None:
        self._speaker.tell(text)

    def warn(self, text: str) -> None:
        self._speaker.warn(text)


def show_calibration(result: CalibrationResult, speaker: Speaker) -> None:
    """Tell what was made."""
    report = result.report
    table = Table(title="What INT8 harms: share of the gate used, by block", title_justify="left")
    table.add_column("block")
    table.add_column("INT8 layers", justify="right")
    table.add_column("share", justify="right")
    for block, strain in report["blocks"].items():
        members = [layer for layer in report["layers"] if layer["block"] == block and not layer["why_not"]]
        open_ = [layer for layer in report["layers"] if layer["block"] == block and layer["strain"] is not None]
        table.add_row(block, f"{len(members)} of {len(open_)}", "not finite" if strain is None else f"{strain:.2f}")
    speaker.show(table)
    for part in report["judged"]:
        verdict = part["verdict"]
        speaker.say(f"  {'✓' if verdict['passed'] else '✗'} {part['what']}: {verdict['summary']}")
    summary, size = report["summary"], report["bytes"]
    speaker.say(
        f"{summary['layers']} of {summary['candidates']} layers in INT8 ({summary['weights_share']:.0%} of the "
        f"weights), {summary['method']} ranges; {size['int8'] / 1e6:.1f} MB, float16 {size['fp16'] / 1e6:.1f} MB"
    )
    speaker.say(report["recommendation"])
    for note in report["notes"]:
        speaker.say(f"Note: {note}")
    speaker.say(f"Report: {result.folder / 'calibration' / 'report.html'}")
    speaker.say(
        "Unchanged: the bundle had this from the same scans and settings"
        if result.unchanged
        else f"Written: {result.folder / 'graphs' / 'int8.onnx'}"
    )
    speaker.say(f"Digest: {result.digest}")
    speaker.say(DISCLAIMER, style="dim")
    speaker.result(
        {
            "bundle": str(result.folder),
            "digest": result.digest,
            "unchanged": result.unchanged,
            **{name: report[name] for name in ("summary", "data", "recommendation", "speed", "bytes", "notes")},
            "rejected": [{"name": each.path.name, "code": each.code} for each in result.problems],
            "disclaimer": DISCLAIMER,
        }
    )
