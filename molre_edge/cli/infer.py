"""``molre-edge infer``: scans to findings, times and a parity report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli import completion
from molre_edge.cli.shell import (
    BundleOption,
    DigestOption,
    EngineOption,
    JsonOption,
    LabelsOption,
    LimitsOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    UsageError,
    WeightsOption,
    bundle_folder,
    command,
)
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.runs.infer_result import InferResult

__all__ = ["infer", "show_run"]

_SHOWN = 20
_SHOWN_PHASES = {"read", "compute", "end_to_end", "interval"}


@command
def infer(
    scans: Annotated[
        Path, typer.Argument(exists=True, help="A DICOM or NIfTI file, or a folder with any of them, at any depth.")
    ],
    engine: EngineOption = "fp16",
    bundle: BundleOption = DEFAULT_BUNDLE,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The run's folder. Default: ./edge-runs/<UTC time>.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run: that of --out, else the newest that fits.")
    ] = False,
    reference: Annotated[
        str,
        typer.Option(
            "--reference",
            metavar="auto|golden|none|CKPT|FILE.py:FUNCTION",
            autocompletion=completion.references,
            help="Compare with the PyTorch model of a checkpoint, with your own model (its code is run, in a process "
            "of its own), with the bundle's golden answers, or with nothing. auto: the golden answers if your own "
            "model gave them; else the checkpoint's model, if torch is installed and the checkpoint is beside the "
            "bundle or here; else golden.",
        ),
    ] = "auto",
    reference_scans: Annotated[
        str,
        typer.Option("--reference-scans", metavar="N|all", help="Ask the reference about the first N scans only."),
    ] = "all",
    backbone_weights: WeightsOption = None,
    labels: LabelsOption = None,
    limits: LimitsOption = None,
    all_series: Annotated[
        bool, typer.Option("--all-series", help="Use every usable series of a study, not only the best one.")
    ] = False,
    settle: Annotated[
        float,
        typer.Option(
            "--settle",
            min=0.0,
            metavar="SECONDS",
            help="Refuse studies with a file that changed less than SECONDS ago: they may still be arriving. 0: off.",
        ),
    ] = 0.0,
    expect_digest: DigestOption = None,
    threads: ThreadsOption = None,
    readers: Annotated[
        int | None,
        typer.Option(
            "--readers",
            min=0,
            max=64,
            help="Processes that read scans ahead of the engine; 0 reads between its answers. Default: half the cores, "
            "1 to 4, and more while the engine waits for them.",
        ),
    ] = None,
    images: Annotated[
        bool,
        typer.Option("--images", help="Show a slice of each of the worst scans in the report. PATIENTS' IMAGES."),
    ] = False,
    sr: Annotated[
        str | None,
        typer.Option(
            "--sr",
            metavar="comprehensive3d|comprehensive",
            autocompletion=completion.report_kinds,
            help="Write each answer as a DICOM structured report into the run's folder dicom/; comprehensive is for an "
            "older PACS. Needs the extra 'dicom'. THESE FILES NAME PATIENTS.",
        ),
    ] = None,
    secondary_capture: Annotated[
        bool,
        typer.Option(
            "--secondary-capture",
            help="Write a page with the positive findings as a DICOM image, for viewers that show no structured "
            "reports; as --sr.",
        ),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Answer the I-th of N parts of the scans, such as 1/8; 'report --merge' makes one run of all. Needs "
            "--id-secret.",
        ),
    ] = None,
    id_secret: Annotated[
        Path | None,
        typer.Option(
            "--id-secret",
            dir_okay=False,
            metavar="FILE",
            help="The key of the scans' ids, made if the file does not exist; shards of one run share it. Default: a "
            "new key for each run.",
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the bundle on scans: findings per scan, times by phase, and parity with the reference.

    Exit codes: 0 done; 1 an error that you can fix, or no scan could be used; 2 usage; 3 parity failed; 4 done, but
    some scans could not be used or compared, or have no DICOM result; 130 interrupted (continue with --resume).
    Ctrl-C first finishes the scans that the engine has.
    """
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        result = molre_edge.infer_scans(
            scans,
            engine,
            bundle=bundle_folder(bundle),
            out=out,
            resume=resume,
            reference=reference,
            reference_scans=_count(reference_scans),
            backbone_weights=backbone_weights,
            labels=labels,
            limits=limits,
            all_series=all_series,
            settle=settle,
            expect_digest=expect_digest,
            threads=threads,
            readers=readers,
            images=images,
            sr=sr,
            secondary_capture=secondary_capture,
            shard=shard,
            id_secret=id_secret,
            progress=progress,
        )
    show_run(result, speaker)
    if as_json:  # not built otherwise: it holds the findings of every scan
        speaker.result(result.to_dict())
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--reference-scans {text}: expected a whole number of at least 1, or 'all'")
    return int(text)


def show_run(result: InferResult, speaker: Speaker) -> None:
    """Show what a run found."""
    if result.timing:
        speaker.show(_timing_table(result))
        if result.waiting:
            speaker.say(result.waiting)
    if result.scans:
        speaker.show(_findings_table(result))
        if len(result.scans) > _SHOWN:
            speaker.say(f"... and {len(result.scans) - _SHOWN} scans more, all in findings.csv")
    if result.rejected:
        table = Table(title="Scans that cannot be used", title_justify="left")
        for heading in ("scan", "code", "reason"):
            table.add_column(heading, overflow="fold")
        for each in result.rejected[:_SHOWN]:
            table.add_row(each.scan, each.code, each.reason)
        speaker.show(table)
        if len(result.rejected) > _SHOWN:
            speaker.say(f"... and {len(result.rejected) - _SHOWN} more, all in scans.csv")
    if result.verdict is not None:
        speaker.say(result.verdict.headline, style="bold red" if result.parity_failed else "green")
        for check in result.verdict.checks:
            mark = "✓" if check.passed else "–" if not check.judged else "✗"
            speaker.say(f"  {mark} {check.name}: {check.text}")
        summary = result.verdict.summary
        speaker.say(f"{summary[0].upper()}{summary[1:]}; {result.compared}")
    for note in result.notes:
        speaker.say(f"Note: {note}")
    count = len(result.scans)
    speaker.say(f"{count} scan{'' if count == 1 else 's'} answered, {len(result.rejected)} cannot be used")
    speaker.say(f"Findings: {result.folder / 'findings.csv'}  (ids and paths: {result.folder / 'scans.csv'})")
    if result.dicom is not None:
        speaker.say(f"DICOM results, which name patients: {result.dicom}")
    speaker.say(f"Report: {result.report}")
    speaker.say(DISCLAIMER, style="dim")
    if not result.scans and result.shard is None:
        speaker.complain("no scan could be used; the reasons are in scans.csv")
    if result.verdict is not None and result.parity_failed:
        failed = ", ".join(check.name for check in result.verdict.failed) or "nothing could be judged"
        speaker.complain(f"parity failed: {failed}; see {result.report}")


def _findings_table(result: InferResult) -> Table:
    table = Table(title="Findings that reach their threshold", title_justify="left")
    table.add_column("scan", no_wrap=True)
    table.add_column("findings", overflow="fold")
    for scan in result.scans[:_SHOWN]:
        table.add_row(scan.scan, ", ".join(scan.positive) or "–")
    return table


def _timing_table(result: InferResult) -> Table:
    table = Table(title="Milliseconds per scan, without warm-up (all phases: timing.json)", title_justify="left")
    for heading in ("who", "phase", "median", "p90", "p95", "p99", "scans/s"):
        table.add_column(heading, justify="left" if heading in {"who", "phase"} else "right")
    for row in result.timing:
        if row.phase not in _SHOWN_PHASES:
            continue
        rate = "" if row.scans_per_second is None else f"{row.scans_per_second:.2f}"
        times = (f"{value:.1f}" for value in (row.median_ms, row.p90_ms, row.p95_ms, row.p99_ms))
        table.add_row(row.who, row.phase, *times, rate)
    return table
