"""``molre-edge export``: checkpoint to bundle."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from molre_edge.bundle.bundle import DEFAULT_BUNDLE, check_free
from molre_edge.cli import completion
from molre_edge.cli.shell import JsonOption, LimitsOption, QuietOption, Speaker, WeightsOption, command
from molre_edge.errors import ExportError, MissingDependencyError
from molre_edge.parity import DEFAULT_LIMITS, load_limits
from molre_edge.specs import Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from molre_edge.export.exporter import ExportResult
    from molre_edge.specs import Grid

__all__ = ["export", "export_checkpoint", "show_export"]

DEFAULT_GOLDEN = 8


class GraphChoice(str, Enum):
    """Which graphs an export makes."""

    BOTH = "both"
    FP32 = "fp32"


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
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle's folder.")] = DEFAULT_BUNDLE,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a bundle that is there, its engines and int8 graph included.")
    ] = False,
    precision: Annotated[
        GraphChoice, typer.Option("--precision", help="'both': float32 and float16 graphs.")
    ] = GraphChoice.BOTH,
    golden: Annotated[
        Path | None,
        typer.Option(
            "--golden",
            metavar="SCANS",
            exists=True,
            help="Real scans as golden volumes, instead of synthetic ones. Their images travel with the bundle.",
        ),
    ] = None,
    golden_volumes: Annotated[
        int | None,
        typer.Option(
            "--golden-volumes", min=2, help=f"How many. Default: {DEFAULT_GOLDEN} synthetic ones, or all of --golden."
        ),
    ] = None,
    gates: LimitsOption = None,
    backbone_weights: WeightsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Turn a checkpoint into a bundle: ONNX graphs, golden answers, and the proof that routing is dynamic.

    Each graph is compared with PyTorch on the golden volumes; one outside its parity gate is refused with exit code 3.
    """
    speaker = Speaker(as_json, quiet)
    result = export_checkpoint(
        checkpoint,
        out,
        speaker,
        force=force,
        precisions=(Precision.FP32,) if precision is GraphChoice.FP32 else (Precision.FP32, Precision.FP16),
        golden=golden,
        golden_volumes=golden_volumes,
        gates=gates,
        backbone_weights=backbone_weights,
    )
    show_export(result, speaker)


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    speaker: Speaker,
    *,
    force: bool = False,
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16),
    golden: Path | None = None,
    golden_volumes: int | None = None,
    gates: Path | None = None,
    backbone_weights: Path | None = None,
) -> ExportResult:
    """Load, export and check; see :func:`export` for the arguments."""
    limits = DEFAULT_LIMITS if gates is None else load_limits(gates)
    check_free(out, force=force)  # before minutes of work
    with speaker.steps() as step, _without_noise():
        step("loading")
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
            import onnxsim  # noqa: F401

            from molre_edge.export.exporter import export_bundle
            from molre_edge.model.checkpoint import load_checkpoint
        except ImportError as error:
            raise MissingDependencyError("Exporting a checkpoint", str(error.name), "export") from error
        loaded = load_checkpoint(checkpoint, backbone_weights=backbone_weights)
        step("golden volumes")
        volumes, origin = _golden(loaded.config.grid, golden, golden_volumes, speaker)
        return export_bundle(
            loaded,
            out,
            volumes,
            golden_origin=origin,
            precisions=precisions,
            gates=limits,
            force=force,
            on_step=step,
        )


def _golden(grid: Grid, scans: Path | None, count: int | None, speaker: Speaker) -> tuple[npt.NDArray[np.float16], str]:
    from molre_edge.export.golden import MIN_GOLDEN, scan_volumes, synthetic_volumes

    if scans is None:
        count = count or DEFAULT_GOLDEN
        return synthetic_volumes(grid, count), f"synthetic, {count} volumes, seed 0"
    speaker.warn("the golden volumes are images of patients and travel with the bundle: handle it as you handle scans")
    volumes, problems = scan_volumes(scans, grid, count)
    for problem in problems:
        speaker.warn(f"not a golden volume: {problem}")
    if len(volumes) < MIN_GOLDEN:
        raise ExportError(
            f"--golden {scans}: expected at least {MIN_GOLDEN} scans that can be used, found {len(volumes)}; two are "
            f"needed to show that two scans get two mixtures"
        )
    return volumes, f"{len(volumes)} scans of the user"


_SHOWN = {"max_abs_dp": "{:.1e}", "flips": "{:.2%}", "cosine": "{:.6f}", "routing_l1": "{:.1e}"}


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def show_export(result: ExportResult, speaker: Speaker) -> None:
    """Tell what was made."""
    table = Table(title="Parity with PyTorch on the golden volumes", title_justify="left")
    for heading in ("graph", "verdict", "max |Δp|", "flips", "cosine", "gates, L1"):
        table.add_column(heading, justify="left" if heading in {"graph", "verdict"} else "right")
    for precision, parity in result.parity.items():
        values = {check.name: check.measured for check in parity.verdict.checks}
        verdict = "passed" if parity.verdict.passed else "failed"
        table.add_row(str(precision), verdict, *(_cell(values[name], form) for name, form in _SHOWN.items()))
    speaker.show(table)
    if result.proof is None:
        speaker.say("Routing: none to prove")
    else:
        proof = result.proof
        speaker.say(
            f"Routing is dynamic: {len(proof.routers)} routers reach {proof.adapted_layers} adapted layers in the "
            f"graph; between golden volumes gates differ by up to {proof.gate_difference:.2g}, from PyTorch's by "
            f"{proof.gate_error:.1e} at most"
        )
    speaker.say(f"Adapters and routers add {result.added_fraction:.2%} to the model's parameters")
    for note in result.notes:
        speaker.say(f"Note: {note}")
    speaker.say(f"Bundle: {result.folder} ({sum(result.seconds.values()):.0f} s)")
    speaker.say(f"Digest: {result.digest}")
    speaker.result(
        {
            "bundle": str(result.folder),
            "digest": result.digest,
            "parity": {str(p): parity.verdict.to_dict() for p, parity in result.parity.items()},
            "routing": None if result.proof is None else result.proof.to_dict(),
            "added_fraction": result.added_fraction,
            "seconds": dict(result.seconds),
            "notes": list(result.notes),
        }
    )


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Keep the libraries' warnings about themselves off the screen; what matters is checked and told by export."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
