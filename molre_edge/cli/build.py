"""``molre-edge build``: a bundle's graph to a TensorRT engine."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli.shell import (
    BundleOption,
    DigestOption,
    JsonOption,
    QuietOption,
    Speaker,
    TrustOption,
    bundle_folder,
    command,
)
from molre_edge.specs import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from molre_edge.engines.build import BuiltEngine

__all__ = ["build"]


class TargetChoice(str, Enum):
    """Machines that an engine can be built for."""

    RTX = "rtx"
    HERE = "here"


class EnginePrecision(str, Enum):
    """Precisions of engines."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    FP8 = "fp8"


@command
def build(
    engine: Annotated[EnginePrecision, typer.Option("--engine", help="The graph to build from.")],
    target: Annotated[
        TargetChoice,
        typer.Option("--target", help="'rtx': portable, built without a GPU. 'here': for this machine's GPU only."),
    ] = TargetChoice.RTX,
    batch: Annotated[
        tuple[int, int, int], typer.Option("--batch", help="Smallest, usual and largest number of volumes per call.")
    ] = (1, 1, 4),
    workspace: Annotated[
        int | None, typer.Option("--workspace", metavar="MIB", help="Largest scratch memory on the GPU.")
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option("--optimization-level", help="0 (quick) to 5 (thorough).")
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            "--compute-capability",
            metavar="SM",
            help="A compute capability, such as sm86; repeat for more. Only with '--target rtx'.",
        ),
    ] = None,
    timing_cache: Annotated[
        bool | None,
        typer.Option(
            "--timing-cache/--no-timing-cache",
            help="Keep the builder's measurements in the bundle. Only with '--target here', where it is the default.",
            show_default=False,
        ),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="Allow newer versions of TensorRT to run it. Only with '--target here'."
        ),
    ] = False,
    bundle: BundleOption = DEFAULT_BUNDLE,
    expect_digest: DigestOption = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Build a TensorRT engine from a bundle's graph, and show the precision of its layers as built.

    The engine is written to the bundle's folder 'engines', where 'molre-edge infer' finds it.
    """
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        built = molre_edge.build_engine(
            bundle_folder(bundle),
            engine.value,
            target=target.value,
            batch=batch,
            workspace_mib=workspace,
            optimization_level=optimization_level,
            compute_capabilities=compute_capability or (),
            timing_cache=timing_cache,
            version_compatible=version_compatible,
            expect_digest=expect_digest,
            trust=trust,
            progress=progress,
        )
    _show(built, speaker)


def _show(built: BuiltEngine, speaker: Speaker) -> None:
    facts, layers = built.facts, built.facts["layers"]
    for warning in built.warnings:
        speaker.warn(warning)
    datatypes = sorted({datatype for counts in layers["by_type"].values() for datatype in counts})
    table = Table(title=f"Layers of the {facts['precision']} engine, as built", title_justify="left")
    table.add_column("type")
    for datatype in datatypes:
        table.add_column(datatype, justify="right")
    for kind, counts in layers["by_type"].items():
        table.add_row(kind, *(str(counts.get(datatype, "–")) for datatype in datatypes))
    speaker.show(table)
    speaker.say(f"Attentions fused into one kernel: {layers['fused_attention']}")
    runtime, size = " ".join(facts["runtime"].values()), facts["bytes"] / 1e6
    speaker.say(f"Engine: {built.path} ({size:.1f} MB, built in {facts['build_seconds']} s by {runtime})")
    speaker.say(f"SHA-256: {built.sha256}")
    speaker.result(built.to_dict())
