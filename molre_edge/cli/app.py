"""The program: its commands, in the order in which they are used."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from molre_edge import __version__
from molre_edge.cli.bench import bench
from molre_edge.cli.build import build
from molre_edge.cli.calibrate import calibrate
from molre_edge.cli.demo import demo
from molre_edge.cli.doctor import doctor
from molre_edge.cli.evaluate import evaluate
from molre_edge.cli.export import export
from molre_edge.cli.import_peft import import_peft
from molre_edge.cli.infer import infer
from molre_edge.cli.inspect import inspect
from molre_edge.cli.report import report
from molre_edge.cli.synthesize import synthesize
from molre_edge.cli.train import train
from molre_edge.cli.verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    name="molre-edge",
    help=(
        "Puts a trained Mixture of Low-Rank Experts (MoLRE) head-CT model on an edge device, and proves it unchanged."
        "\n\n"
        "Research and engineering tool, not a cleared medical device; its output is not a diagnosis."
    ),
    no_args_is_help=True,
    add_completion=False,
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


app.command()(demo)
app.command()(synthesize)
app.command()(train)
app.command()(evaluate)
app.command("import-peft")(import_peft)
app.command()(export)
app.command()(calibrate)
app.command()(build)
app.command()(infer)
app.command()(report)
app.command()(verify)
app.command()(bench)
app.command()(inspect)
app.command()(doctor)


def main() -> None:
    """The entry point of ``molre-edge``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or a sign that the terminal can't show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    app()
