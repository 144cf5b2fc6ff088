"""``molre-edge import-peft``: a LoRA of Hugging Face PEFT becomes a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, UsageError, command
from molre_edge.errors import MissingDependencyError

__all__ = ["import_peft"]


@command
def import_peft(
    folder: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, help="Folder with adapter_config.json and adapter_model.safetensors."
        ),
    ],
    base: Annotated[
        Path,
        typer.Option(
            "--base",
            metavar="CKPT",
            exists=True,
            dir_okay=False,
            help="Checkpoint that the LoRA was trained on (K = 0).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write, .pt or .safetensors.")] = Path(
        "ckpt.pt"
    ),
    backbone_weights: Annotated[
        Path | None,
        typer.Option(
            "--backbone-weights",
            exists=True,
            file_okay=False,
            help="Hugging Face folder, if the base lacks the backbone's weights; the result then lacks them too.",
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Largest share of added parameters. Default: the base's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Add a LoRA saved by Hugging Face PEFT to a checkpoint without adapters (K = 0). The result has K = 1.

    Only plain LoRA is supported; DoRA, rsLoRA, trained biases and the like are refused by name. PEFT is not needed.
    """
    speaker = Speaker(as_json, quiet)
    try:
        from molre_edge.model.checkpoint import load_checkpoint, save_checkpoint
        from molre_edge.model.peft import import_peft as put_on
        from molre_edge.model.placement import count_parameters
    except ImportError as error:
        raise MissingDependencyError("Importing a LoRA", str(error.name), "export") from error
    if out.suffix not in {".pt", ".safetensors"} or out.is_dir():
        raise UsageError(f"--out {out}: expected the name of a file that ends in .pt or .safetensors")
    if out.exists() and not force:
        raise UsageError(f"--out {out}: already exists; choose another name, or replace it with --force")
    with speaker.steps() as step:
        step("loading")
        loaded = load_checkpoint(base, backbone_weights=backbone_weights)
        step("the LoRA")
        imported = put_on(folder, loaded, budget=budget)
        save_checkpoint(imported.model, out, with_backbone=backbone_weights is None)
    adapter, count = imported.model.config.adapter, count_parameters(imported.model)
    speaker.say(f"{len(imported.layers)} layers with r = {adapter.rank}, alpha = {adapter.alpha:g}:")
    for theirs, ours in imported.layers.items():
        speaker.say(f"  {theirs} -> {ours}" if theirs != ours else f"  {ours}")
    speaker.say(f"They add {count.added:,} parameters, {count.fraction:.2%} of the rest")
    speaker.say(f"Checkpoint: {out}")
    speaker.warn("the thresholds are those of the base; set them again on a validation set")
    speaker.result(
        {
            "checkpoint": str(out),
            "layers": imported.layers,
            "rank": adapter.rank,
            "alpha": adapter.alpha,
            "added_parameters": count.added,
            "added_fraction": count.fraction,
        }
    )
