"""``molre-edge node``: a DICOM node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import molre_edge
from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, command
from molre_edge.specs import DISCLAIMER

__all__ = ["node"]


@command
def node(
    config: Annotated[
        Path,
        typer.Option("--config", exists=True, dir_okay=False, help="TOML; docs/reference/node.md explains every key."),
    ],
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only look whether it could start: configuration, bundle, engine, folder, ports, and peers."
        ),
    ] = False,
    orthanc: Annotated[
        str | None,
        typer.Option("--orthanc", metavar="URL", help="Also take new CT images of the Orthanc with this REST API."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a DICOM node: studies arrive, are answered after a quiet time, and their reports are sent.

    It logs one line an event to stderr, without names. The first SIGTERM or Ctrl-C drains: open associations and the
    study in hand are finished. A second one ends at once. Nothing is lost either way. Exit codes: 0 ended as asked, or
    the check passed; 1 it can't start: the message says what to change; 2 wrong usage; 3 the engine does not answer as
    PyTorch did.
    """
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        result = molre_edge.run_node(config, orthanc=orthanc, check=check, progress=progress)
    if result.checked:
        for problem in result.problems:
            speaker.warn(problem)
        speaker.say(f"Ready to start: {result.engine}, bundle {result.bundle[:12]}", "green")
    speaker.say(DISCLAIMER, style="dim")
    speaker.result(result.to_dict())
