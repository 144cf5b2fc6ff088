"""``molre-edge evaluate``: AUC per finding, calibration, and what the routers do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, UsageError, command
from molre_edge.cli.train import TrainBar
from molre_edge.errors import ConfigError, MissingDependencyError
from molre_edge.parity import DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.training.evaluation import Evaluation

__all__ = ["evaluate", "show_evaluation"]


@command
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", exists=True, dir_okay=False, help="The checkpoint.")],
    data: Annotated[
        Path, typer.Argument(exists=True, help="Folder with manifest.csv (columns scan, split and one a finding).")
    ],
    split: Annotated[str, typer.Option("--split", help="train, val or test.")] = "test",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for evaluation.json, findings.csv and routing.png.")
    ] = None,
    backbone_weights: Annotated[
        Path | None,
        typer.Option(
            "--backbone-weights",
            exists=True,
            file_okay=False,
            help="Hugging Face folder for a checkpoint without the backbone's weights.",
        ),
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder of prepared volumes.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Scans at once.")] = 8,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: a GPU, if any.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a checkpoint on labelled scans that it was not trained on."""
    speaker = Speaker(as_json, quiet)
    try:
        import torch

        from molre_edge.model.checkpoint import load_checkpoint
        from molre_edge.training.evaluation import evaluate_outputs
        from molre_edge.training.manifest import SPLITS, read_manifest
        from molre_edge.training.results import write_evaluation
        from molre_edge.training.samples import VolumeSamples, predict
        from molre_edge.training.volumes import prepare_volumes
    except ImportError as error:
        raise MissingDependencyError("Evaluating", str(error.name), "train") from error
    if split not in SPLITS:
        raise UsageError(f"--split {split}: expected one of {', '.join(SPLITS)}")
    loaded = load_checkpoint(checkpoint, backbone_weights=backbone_weights)
    manifest = read_manifest(data, loaded.config.findings)
    cases = manifest.of(split)
    if not cases:
        raise ConfigError(f"{manifest.path}: has no scans with split '{split}'; choose another with --split")
    cache = cache or Path(checkpoint).with_name(f"{checkpoint.stem}-training") / "cache"
    with TrainBar(speaker) as bar:
        bar.step(f"reading scans ({split})", len(cases))
        volumes = prepare_volumes(cases, loaded.config.grid, cache, bar.part)
    for name, reason in volumes.problems:
        speaker.warn(f"{name} can't be used: {reason}")
    model = loaded.model.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    samples = VolumeSamples(volumes)
    outputs = predict(model, samples, batch)
    result = evaluate_outputs(outputs, samples.labels, loaded.config.findings, loaded.config.thresholds)
    if out is not None:
        write_evaluation(out, result, loaded.sha256, split)
    show_evaluation(result, speaker)
    if out is not None:
        speaker.say(f"Files: {out}")
    speaker.result({"checkpoint_sha256": loaded.sha256, "split": split, **result.to_dict(), "disclaimer": DISCLAIMER})


def show_evaluation(result: Evaluation, speaker: Speaker) -> None:
    """Tell how good it is."""
    table = Table(title=f"{result.scans} scans", title_justify="left")
    for heading in ("finding", "with", "without", "AUC", "95 % interval", "sensitivity", "specificity"):
        table.add_column(heading, justify="left" if heading == "finding" else "right")
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
    speaker.show(table)
    if without:
        speaker.say(f"{without} findings have fewer than two scans with or without them: no AUC")
    if result.macro_auc is not None and result.macro_interval is not None:
        low, high = result.macro_interval
        speaker.say(f"Mean AUC {result.macro_auc:.3f} ({low:.3f} to {high:.3f}), {result.high} findings reach 0.90")
    calibration = result.calibration
    speaker.say(f"Calibration: Brier score {calibration.brier:.3f}, expected error {calibration.expected_error:.3f}")
    if result.routing is not None:
        routing = result.routing
        for i, (entropy, usage) in enumerate(zip(routing.entropy, routing.usage, strict=True)):
            shares = " ".join(f"{share:.2f}" for share in usage)
            speaker.say(f"Router {i + 1}: mean gates {shares}; entropy {entropy:.2f} of an even mixture's")
        speaker.say(f"Gates differ between scans by {routing.spread:.3f} (standard deviation, mean over experts)")
    speaker.say(DISCLAIMER, style="dim")
