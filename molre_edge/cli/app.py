"""The program: its commands, in the order in which they are used."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from molre_edge import __version__
from molre_edge.cli.bench import bench
from molre_edge.cli.build import build
from molre_edge.cli.calibrate import calibrate
from molre_edge.cli.demo import demo
from molre_edge.cli.doctor import doctor
from molre_edge.cli.evaluate import evaluate
from molre_edge.cli.examples import example
from molre_edge.cli.export import export
from molre_edge.cli.import_peft import import_peft
from molre_edge.cli.infer import infer
from molre_edge.cli.inspect import inspect
from molre_edge.cli.report import report
from molre_edge.cli.suggest import Program
from molre_edge.cli.synthesize import synthesize
from molre_edge.cli.train import train
from molre_edge.cli.verify import verify
from molre_edge.offline import disable_network

__all__ = ["app", "main"]

app = typer.Typer(
    name="molre-edge",
    cls=Program,
    help=(
        "Puts a trained Mixture of Low-Rank Experts (MoLRE) head-CT model on an edge device, and proves it unchanged."
        "\n\n"
        "Research and engineering tool, not a cleared medical device; its output is not a diagnosis."
    ),
    no_args_is_help=True,
    epilog=example("molre-edge demo"),
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"molre-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


_EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    demo: ("molre-edge demo", "molre-edge demo my-demo --force"),
    synthesize: ("molre-edge synthesize my-data --scans 240",),
    train: (
        "molre-edge train my-data --out frozen.pt --backbone dinov3-vitb16 --backbone-weights FOLDER --adapter none",
        "molre-edge train my-data --out molre.pt --init frozen.pt --adapter molre",
    ),
    evaluate: ("molre-edge evaluate molre.pt my-data --out my-evaluation",),
    import_peft: ("molre-edge import-peft LORA_FOLDER --base frozen.pt --out lora.pt",),
    export: ("molre-edge export ckpt.pt", "molre-edge export ckpt.pt --out my-bundle --golden scans"),
    calibrate: ("molre-edge calibrate scans --bundle my-bundle", "molre-edge infer scans --engine int8"),
    build: ("molre-edge build --engine fp16 --target rtx",),
    infer: (
        "molre-edge infer scans --engine fp16",
        "molre-edge infer scans --engine onnxruntime:fp32 --reference golden --out my-run",
        "molre-edge infer scans --resume --out my-run",
    ),
    report: (
        "molre-edge report edge-runs/20261102T101504Z --gates mine.toml --out by-mine",
        "molre-edge report edge-runs/fp32 edge-runs/fp16 --out fp32-or-fp16",
    ),
    verify: ("molre-edge verify --engine fp16", "molre-edge verify --bundle my-bundle --expect-digest SHA256 --json"),
    bench: ("molre-edge bench --batch 1 --batch 4", "molre-edge bench --engine fp16 --plain ckpt.pt --out my-figures"),
    inspect: ("molre-edge inspect edge-bundle", "molre-edge inspect scans --paths"),
    doctor: ("molre-edge doctor --json",),
}
"""The commands in the order in which they are used, each with what its help ends with."""

for _function, _lines in _EXAMPLES.items():
    app.command(_function.__name__.replace("_", "-"), epilog=example(*_lines))(_function)


def main() -> None:
    """The entry point of ``molre-edge``."""
    # GNU OpenMP's threads, PyTorch's among them, wait in a loop by default: beside one busy program that took three
    # times as long. It is read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    disable_network()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or a sign that the terminal can't show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    app()
