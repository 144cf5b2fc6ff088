"""``molre-edge evaluate``: AUC per finding, calibration, and what the routers do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli import completion
from molre_edge.cli.shell import ExitCode, JsonOption, QuietOption, Speaker, WeightsOption, command
from molre_edge.cli.training import DeviceOption
from molre_edge.specs import DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.training.evaluation import Evaluation
    from molre_edge.training.gates import RoutingResult

__all__ = ["evaluate", "show_evaluation"]


@command
def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT",
            exists=True,
            dir_okay=False,
            help="Checkpoint to evaluate.",
            autocompletion=completion.checkpoints,
        ),
    ],
    data: Annotated[
        Path, typer.Argument(exists=True, help="Folder with manifest.csv (columns: scan, split and one per finding).")
    ],
    split: Annotated[str, typer.Option("--split", help="Split to evaluate: train, val or test.")] = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for evaluation.json, findings.csv, and routing.csv and routing.png."),
    ] = None,
    backbone_weights: WeightsOption = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder for prepared volumes.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Scans per batch.")] = 8,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Evaluate a checkpoint on labelled scans that it was not trained on."""
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        result = molre_edge.evaluate_checkpoint(
            checkpoint,
            data,
            split=split,
            out=out,
            backbone_weights=backbone_weights,
            cache=cache,
            batch=batch,
            device=device,
            progress=progress,
        )
    show_evaluation(result.evaluation, speaker)
    if result.folder is not None:
        speaker.say(f"Files: {result.folder}")
    speaker.result(result.to_dict())
    if result.problems:
        raise typer.Exit(ExitCode.SCANS_REJECTED)


def show_evaluation(result: Evaluation, speaker: Speaker) -> None:
    """Print an evaluation."""
    table = Table(title=f"{result.scans} scans", title_justify="left")
    table.add_column("finding", overflow="fold")
    for heading in ("with", "without", "AUC", "95 % interval", "sensitivity", "specificity"):
        table.add_column(heading, justify="right", no_wrap=heading == "95 % interval")
    without = 0
    for row in result.findings:
        if row.auc is None:
            without += 1
            continue
        sensitivity, specificity = (
            "–" if value is None else f"{value:.2f}" for value in (row.sensitivity, row.specificity)
        )
        interval = f"{row.auc.low:.3f} to {row.auc.high:.3f}"
        counts = (str(row.positives), str(row.negatives))
        table.add_row(row.finding, *counts, f"{row.auc.auc:.3f}", interval, sensitivity, specificity)
    if table.rows:
        speaker.show(table)
    if without:
        speaker.say(f"{without} findings have no AUC: it needs two scans with the finding and two without")
    if result.macro_auc is not None and result.macro_interval is not None:
        low, high = result.macro_interval
        speaker.say(f"Mean AUC {result.macro_auc:.3f} ({low:.3f} to {high:.3f}), {result.high} findings reach 0.90")
    calibration = result.calibration
    speaker.say(f"Calibration: Brier score {calibration.brier:.3f}, expected error {calibration.expected_error:.3f}")
    if result.routing is not None:
        _show_routing(result.routing, [row.finding for row in result.findings], speaker)
    speaker.say(DISCLAIMER, style="dim")


def _show_routing(routing: RoutingResult, findings: list[str], speaker: Speaker) -> None:
    """Print how the experts are used, and which finding raises each gate most."""
    table = Table(title="Routing", title_justify="left")
    for heading in ("router", "expert", "mean gate", "leads", "gate raised most by"):
        table.add_column(heading, justify="left" if heading.endswith("by") else "right")
    routers, experts = routing.usage.shape
    for r in range(routers):
        for k in range(experts):
            raised = {
                name: value for name, value in zip(findings, routing.by_finding[:, r, k], strict=True) if value > 0
            }
            most = max(raised, key=raised.__getitem__, default=None)
            told = "–" if most is None else f"{most} (+{raised[most]:.3f})"
            mean, leads = f"{routing.usage[r, k]:.3f}", f"{routing.leading[r, k]:.0%}"
            table.add_row(str(r + 1), str(k + 1), mean, leads, told)
    speaker.show(table)
    entropies = ", ".join(f"{entropy:.2f}" for entropy in routing.entropy)
    speaker.say(f"Entropy of the gates, router by router: {entropies} (1 is an even mixture, 0 a single expert)")
    within = "" if routing.slice_spread is None else f", and between the slices of a scan by {routing.slice_spread:.3f}"
    speaker.say(f"Gates differ between scans by {routing.spread:.3f}{within} (standard deviation, mean over experts)")
    _show_gates_by_finding(routing, findings, speaker)


def _show_gates_by_finding(routing: RoutingResult, findings: list[str], speaker: Speaker) -> None:
    """Print the gate that tells the scans with a finding from those without it best."""
    table = Table(title="The gate that differs most between scans with and without a finding", title_justify="left")
    table.add_column("finding", overflow="fold")
    for heading in ("router", "expert", "with", "without", "difference"):
        table.add_column(heading, justify="right")
    experts = routing.usage.shape[1]
    for i, name in enumerate(findings):
        differences = routing.by_finding[i].flatten()  # [routers * K]
        if math.isnan(differences[0]):  # no scan with it, or none without
            continue
        router, expert = divmod(int(abs(differences).argmax()), experts)
        means = (routing.with_finding, routing.without_finding)
        numbers = (f"{values[i, router, expert]:.3f}" for values in means)
        difference = routing.by_finding[i, router, expert]
        table.add_row(name, str(router + 1), str(expert + 1), *numbers, f"{difference:+.3f}")
    if table.rows:
        speaker.show(table)
