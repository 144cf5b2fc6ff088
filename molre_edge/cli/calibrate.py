"""``molre-edge calibrate``: the int8 or fp8 graph of a bundle, within the parity limits."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli.shell import (
    AdapterOption,
    BundleOption,
    DigestOption,
    ExitCode,
    JsonOption,
    LabelsOption,
    LimitsOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    TrustOption,
    bundle_folder,
    command,
)
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER, RangeMethod

if TYPE_CHECKING:
    from molre_edge.calibration.run import CalibrationResult

__all__ = ["calibrate", "show_calibration"]


class EightBits(str, Enum):
    """Formats that layers can be given."""

    INT8 = "int8"
    FP8 = "fp8"


@command
def calibrate(
    scans: Annotated[
        Path, typer.Argument(exists=True, help="A folder of DICOM or NIfTI head CT, at any depth; at least two scans.")
    ],
    bundle: BundleOption = DEFAULT_BUNDLE,
    precision: Annotated[
        EightBits,
        typer.Option("--precision", help="Format of the layers; fp8 (E4M3) is for Ada, Hopper, Blackwell and newer."),
    ] = EightBits.INT8,
    adapter: AdapterOption = None,
    limits: LimitsOption = None,
    labels: LabelsOption = None,
    ranges: Annotated[
        RangeMethod | None,
        typer.Option(
            "--ranges", help="Method that derives ranges from activations. Default: try all, take the least harmful."
        ),
    ] = None,
    slices: Annotated[int, typer.Option("--slices", min=1, help="Slices used to collect activation ranges.")] = 500,
    validation_scans: Annotated[
        int | None,
        typer.Option(
            "--validation-scans",
            min=1,
            help="Scans kept for judging. Default: 32 slices' worth, or half of the scans with --labels.",
        ),
    ] = None,
    conv3d: Annotated[bool, typer.Option("--conv3d", help="Quantise 3D convolutions too.")] = False,
    threads: ThreadsOption = None,
    expect_digest: DigestOption = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the largest set of 8-bit layers within the parity limits; write their graph and a report to the bundle.

    Activation ranges come from some of the scans. The search judges on other scans and on the golden volumes; its
    result is judged on all scans at the end, as 'infer' does. A result from the same inputs is kept as it is. If no
    layer fits, the bundle does not change and the exit code is 3.
    """
    speaker = Speaker(as_json, quiet)
    folder = bundle_folder(bundle)
    with speaker.progress() as progress:
        result = molre_edge.calibrate_bundle(
            scans,
            folder,
            precision=precision.value,
            adapter=adapter,
            labels=labels,
            limits=limits,
            ranges=ranges,
            slices=slices,
            validation_scans=validation_scans,
            conv3d=conv3d,
            threads=threads,
            expect_digest=expect_digest,
            trust=trust,
            progress=progress,
        )
    show_calibration(result, speaker)
    if not result.complete:
        raise typer.Exit(ExitCode.SCANS_REJECTED)


def show_calibration(result: CalibrationResult, speaker: Speaker) -> None:
    """Show the result of a calibration."""
    report = result.report
    speaker.show(_block_table(report))
    for each in report["comparisons"]:
        verdict = each["verdict"]
        speaker.say(f"  {'✓' if verdict['passed'] else '–'} {each['what']}: {verdict['summary']}")
    summary, size = report["summary"], report["bytes"]
    speaker.say(
        f"{summary['coverage']}; {summary['method']} ranges; {size[report['precision']] / 1e6:.1f} MB, "
        f"float16 {size['fp16'] / 1e6:.1f} MB"
    )
    speaker.say(report["recommendation"])
    for note in report["notes"]:
        speaker.say(f"Note: {note}")
    speaker.say(f"Report: {result.page}")
    speaker.say(
        "Unchanged: the bundle has this result from the same scans and settings"
        if result.unchanged
        else f"Written: {result.graph}"
    )
    speaker.say(f"Digest: {result.digest}")
    speaker.say(DISCLAIMER, style="dim")
    speaker.result(result.to_dict())


def _block_table(report: Any) -> Table:
    """The blocks in the model's order; their layers add up to those of the summary."""
    word = report["precision"].upper()
    table = Table(title=f"Sensitivity to {word}: share of a parity limit used by each block", title_justify="left")
    table.add_column("block")
    table.add_column(f"{word} layers", justify="right")
    table.add_column("share", justify="right")
    for block in dict.fromkeys(layer["block"] for layer in report["layers"]):
        members = [layer for layer in report["layers"] if layer["block"] == block]
        share = f"never {word}"
        if block in report["blocks"]:
            sensitivity = report["blocks"][block]
            share = "not finite" if sensitivity is None else f"{sensitivity:.2f}"
        table.add_row(block, f"{sum(layer['quantised'] for layer in members)} of {len(members)}", share)
    return table
