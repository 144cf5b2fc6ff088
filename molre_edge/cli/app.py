"""The program ``molre-edge``."""

from __future__ import annotations

import io
import os
import signal
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


def _open_closed_streams() -> None:
    """A program that was started with a closed stdout or stderr writes to nowhere.

    Their numbers are taken first: the next file that the program opens would get them, and whatever prints would write
    into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - as long as we run


def _end_as_ctrl_c() -> None:
    """What services and closed terminals send ends a command as Ctrl-C does; what is ignored (nohup) stays so."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def main() -> None:
    """The entry point of ``molre-edge``."""
    _open_closed_streams()
    _end_as_ctrl_c()
    # GNU OpenMP's threads, PyTorch's among them, wait in a loop by default: beside one busy program that took three
    # times as long. It is read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    disable_network()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or a sign that the terminal can't show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    app()
