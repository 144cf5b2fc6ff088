"""``molre-edge import-peft``: a LoRA of Hugging Face PEFT becomes a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import molre_edge
from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, command

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
    with speaker.progress() as progress:
        result = molre_edge.import_peft(
            folder, base, out, backbone_weights=backbone_weights, budget=budget, force=force, progress=progress
        )
    speaker.say(f"{len(result.layers)} layers with r = {result.rank}, alpha = {result.alpha:g}:")
    for theirs, ours in result.layers.items():
        speaker.say(f"  {theirs} -> {ours}" if theirs != ours else f"  {ours}")
    speaker.say(f"They add {result.added_parameters:,} parameters, {result.added_fraction:.2%} of the rest")
    speaker.say(f"Checkpoint: {result.checkpoint}")
    speaker.result(result.to_dict())
