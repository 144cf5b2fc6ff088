"""``molre-edge build``: a bundle's graph to a TensorRT engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from molre_edge.bundle.bundle import DEFAULT_BUNDLE
from molre_edge.cli.shell import BundleOption, DigestOption, JsonOption, QuietOption, Speaker, command, open_bundle
from molre_edge.engines.tensorrt.api import BuildOptions, Target
from molre_edge.engines.tensorrt.build import build_engine
from molre_edge.specs import Precision

if TYPE_CHECKING:
    from molre_edge.bundle.engine_files import EngineFile
    from molre_edge.engines.tensorrt.progress import Progress as OnProgress

__all__ = ["build"]


class EnginePrecision(str, Enum):
    """Precisions of engines."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@command
def build(
    engine: Annotated[EnginePrecision, typer.Option("--engine", help="The graph to build from.")],
    target: Annotated[
        Target,
        typer.Option("--target", help="'rtx': portable, built without a GPU. 'here': for this machine's GPU."),
    ] = Target.RTX,
    batch: Annotated[
        tuple[int, int, int], typer.Option("--batch", help="Smallest, usual and largest number of volumes.")
    ] = (1, 1, 4),
    workspace: Annotated[
        int | None, typer.Option("--workspace", metavar="MIB", help="Most scratch memory on the GPU.")
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option("--optimization-level", help="0 (quick) to 5 (thorough).")
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            "--compute-capability", metavar="SM", help="Such as sm86, again for more; with '--target rtx' only."
        ),
    ] = None,
    timing_cache: Annotated[
        bool | None,
        typer.Option(
            "--timing-cache/--no-timing-cache",
            help="Keep the builder's measurements in the bundle; with '--target here', where it is the default.",
            show_default=False,
        ),
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Newer TensorRT may run it; with '--target here' only.")
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Its weights can be replaced later; with '--target here' only.")
    ] = False,
    bundle: BundleOption = DEFAULT_BUNDLE,
    expect_digest: DigestOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Build a TensorRT engine from a bundle's graph, and tell in which precision its layers really are.

    The engine goes into the bundle's folder 'engines', where 'molre-edge infer' finds it.
    """
    speaker = Speaker(as_json, quiet)
    options = BuildOptions(
        target=target,
        batch=batch,
        workspace_mib=workspace,
        optimization_level=optimization_level,
        compute_capabilities=tuple(compute_capability or ()),
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        refit=refit,
    )
    opened = open_bundle(bundle, expect_digest)
    with _bar(speaker) as on_progress:
        built = build_engine(opened, Precision(engine.value), options, on_progress=on_progress)
    _show(built, speaker)


@contextlib.contextmanager
def _bar(speaker: Speaker) -> Iterator[OnProgress]:
    """A progress bar on a terminal; elsewhere one line."""
    if speaker.quiet or not speaker.err.is_terminal:
        speaker.tell("- building")
        yield lambda phase, part: None
        return
    percent, phase = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.description}")
    with Progress(BarColumn(), percent, TimeElapsedColumn(), phase, console=speaker.err, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda phase, part: progress.update(task, completed=part, description=phase)


def _show(built: EngineFile, speaker: Speaker) -> None:
    facts, layers = built.facts, built.facts["layers"]
    for warning in facts["warnings"]:
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
    speaker.result({"engine": str(built.path), **facts})
