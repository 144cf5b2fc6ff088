"""The program ``molre-edge``."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from molre_edge import __version__
from molre_edge.cli.examples import example
from molre_edge.cli.program import HELP_NAMES, Program
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
    context_settings=HELP_NAMES,
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
