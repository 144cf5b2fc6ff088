"""``molre-edge evaluate``: AUC per finding, calibration, and what the routers do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from molre_edge.cli import completion
from molre_edge.cli.shell import ExitCode, JsonOption, QuietOption, Speaker, UsageError, WeightsOption, command
from molre_edge.cli.training import DeviceOption, TrainBar, choose_device
from molre_edge.errors import ConfigError, MissingDependencyError
from molre_edge.parity import DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.training.evaluation import Evaluation, RoutingResult
    from molre_edge.training.manifest import Manifest

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
    try:
        from molre_edge.model.checkpoint import load_checkpoint
        from molre_edge.training.evaluation import evaluate_outputs
        from molre_edge.training.fit import training_folder
        from molre_edge.training.manifest import SPLITS, read_manifest
        from molre_edge.training.results import write_evaluation
        from molre_edge.training.samples import VolumeSamples, predict
        from molre_edge.training.volumes import prepare_volumes
    except ImportError as error:
        raise MissingDependencyError("Evaluating", str(error.name), "train") from error
    if split not in SPLITS:
        raise UsageError(f"--split {split}: expected one of {', '.join(SPLITS)}")
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; pass a folder")
    place = choose_device(device)
    loaded = load_checkpoint(checkpoint, backbone_weights=backbone_weights)
    manifest = read_manifest(data, loaded.config.findings, partial=True)
    if manifest.unknown or manifest.unused:
        speaker.tell(columns_words(manifest))
    cases = manifest.of(split)
    if not cases:
        raise ConfigError(f"{manifest.path}: has no scans with split '{split}'; choose another with --split")
    cache = cache or training_folder(checkpoint) / "cache"
    with TrainBar(speaker) as bar:
        bar.step(f"reading scans ({split})", len(cases))
        volumes = prepare_volumes(cases, loaded.config.grid, cache, bar.part)
        for name, reason in volumes.problems:
            bar.problem(name, reason)
        samples = VolumeSamples(volumes)
        bar.step("answers", len(volumes))
        outputs = predict(loaded.model.to(place), samples, batch, bar.part)
    result = evaluate_outputs(outputs, samples.labels, loaded.config.findings, loaded.config.thresholds)
    if out is not None:
        write_evaluation(out, result, loaded.sha256, split)
    show_evaluation(result, speaker)
    if out is not None:
        speaker.say(f"Files: {out}")
    speaker.result(
        {
            "checkpoint_sha256": loaded.sha256,
            "split": split,
            "problems": [{"scan": name, "reason": reason} for name, reason in volumes.problems],
            **result.to_dict(),
            "disclaimer": DISCLAIMER,
        }
    )
    if volumes.problems:
        raise typer.Exit(ExitCode.SCANS_REJECTED)


def columns_words(manifest: Manifest) -> str:
    """Which of the model's findings have a column, and which columns are not used."""
    known = len(manifest.findings) - len(manifest.unknown)
    words = f"Labels: {known} of the model's {len(manifest.findings)} findings have a column in {manifest.path.name}"
    if manifest.unused:
        more = ", ..." if len(manifest.unused) > 5 else ""
        words += f"; {len(manifest.unused)} columns are not used ({', '.join(manifest.unused[:5])[:200]}{more})"
    return words


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
    speaker.say(f"Gates differ between scans by {routing.spread:.3f} (standard deviation, mean over experts)")
