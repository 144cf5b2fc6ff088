"""``molre-edge export``: checkpoint to bundle."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli import completion
from molre_edge.cli.shell import JsonOption, LimitsOption, QuietOption, Speaker, WeightsOption, command, key_password
from molre_edge.specs import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from molre_edge.export.exporter import ExportResult

__all__ = ["export", "show_export"]


class GraphChoice(str, Enum):
    """The graphs that an export makes."""

    BOTH = "both"
    FP32 = "fp32"


class AttentionChoice(str, Enum):
    """Whether builders may fuse attention."""

    FUSED = "fused"
    UNFUSED = "unfused"


class AdapterChoice(str, Enum):
    """What the trained tensors of the graphs are."""

    INPUTS = "inputs"
    CONSTANTS = "constants"


@command
def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT",
            exists=True,
            dir_okay=False,
            help="The checkpoint, .pt or .safetensors.",
            autocompletion=completion.checkpoints,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = DEFAULT_BUNDLE,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing bundle, with its engines, adapters and 8-bit graphs.")
    ] = False,
    precision: Annotated[
        GraphChoice, typer.Option("--precision", help="'both' makes float32 and float16 graphs.")
    ] = GraphChoice.BOTH,
    attention: Annotated[
        AttentionChoice,
        typer.Option(
            "--attention",
            help="'unfused' keeps TensorRT from making one kernel of each attention, where its fused kernel answers "
            "wrongly. Same answers, slower.",
        ),
    ] = AttentionChoice.FUSED,
    adapters: Annotated[
        AdapterChoice,
        typer.Option(
            "--adapters",
            help="'inputs' keeps what was trained out of the graphs: an adapter beside them holds it, and one engine "
            "serves every training of one backbone. 'constants' makes it part of the graphs.",
        ),
    ] = AdapterChoice.INPUTS,
    golden: Annotated[
        Path | None,
        typer.Option(
            "--golden",
            metavar="SCANS",
            exists=True,
            help="Use real scans as golden volumes instead of synthetic ones. Their images become part of the bundle.",
        ),
    ] = None,
    golden_volumes: Annotated[
        int | None,
        typer.Option(
            "--golden-volumes",
            min=2,
            help="Number of golden volumes. Default: 8 synthetic ones, or all of --golden or --reference-answers.",
        ),
    ] = None,
    reference_answers: Annotated[
        Path | None,
        typer.Option(
            "--reference-answers",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="The folder of 'molre-edge reference' with the answers of your own model. The checkpoint must answer "
            "as it did; then engines are judged by its answers.",
        ),
    ] = None,
    reference_note: Annotated[
        str | None,
        typer.Option("--reference-note", help="Where those answers come from, in your words; stored in the bundle."),
    ] = None,
    limits: LimitsOption = None,
    backbone_weights: WeightsOption = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign",
            metavar="NAME.key",
            exists=True,
            dir_okay=False,
            help="Sign the bundle's release with this secret key; see 'molre-edge sign'.",
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Turn a checkpoint into a bundle: ONNX graphs, golden answers, and the proof that routing is dynamic.

    Each graph is compared on the golden volumes with PyTorch, or with your own model's answers. If one is outside its
    parity limits, or the checkpoint does not answer as your own model did, no bundle is written and the exit code is 3.
    """
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        result = molre_edge.export_checkpoint(
            checkpoint,
            out,
            force=force,
            precisions=("fp32",) if precision is GraphChoice.FP32 else ("fp32", "fp16"),
            attention=attention.value,
            adapters=adapters.value,
            golden=golden,
            golden_volumes=golden_volumes,
            reference_answers=reference_answers,
            reference_note=reference_note,
            limits=limits,
            backbone_weights=backbone_weights,
            sign=sign,
            key_password=None if sign is None else key_password(sign),
            progress=progress,
        )
    show_export(result, speaker)
    speaker.result(result.to_dict())


_SHOWN = {
    "max_abs_dp": "{:.1e}",
    "flips": "{:.2%}",
    "cosine": "{:.6f}",
    "routing_l1": "{:.1e}",
    "attention_l1": "{:.1e}",
}


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def show_export(result: ExportResult, speaker: Speaker) -> None:
    """Print the result."""
    for parity in list(result.parity.values())[:1]:
        speaker.say(parity.verdict.headline, "green")
    table = Table(title="Parity on the golden volumes", title_justify="left")
    for heading in ("graph", "verdict", "max |Δp|", "flips", "cosine", "gates, L1", "attention, L1"):
        table.add_column(heading, justify="left" if heading in {"graph", "verdict"} else "right")
    for precision, parity in result.parity.items():
        values = {check.name: check.measured for check in parity.verdict.checks}
        verdict = "passed" if parity.verdict.passed else "failed"
        table.add_row(str(precision), verdict, *(_cell(values[name], form) for name, form in _SHOWN.items()))
    speaker.show(table)
    if result.proof is None:
        speaker.say("Routing: the model has none to prove")
    else:
        proof = result.proof
        speaker.say(
            f"Routing is dynamic: {len(proof.routers)} routers reach {proof.adapted_layers} adapted layers in the "
            f"graph. Gates differ by up to {proof.gate_difference:.2g} between golden volumes, and by at most "
            f"{proof.gate_error:.1e} from PyTorch's"
        )
    speaker.say(f"Adapters and routers add {result.added_fraction:.2%} to the model's parameters")
    for note in result.notes:
        speaker.say(f"Note: {note}")
    speaker.say(f"Bundle: {result.folder} ({sum(result.seconds.values()):.0f} s)")
    speaker.say(f"Digest: {result.digest}")
