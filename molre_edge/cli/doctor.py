"""``molre-edge doctor``: what this machine can do, and what to install."""

from __future__ import annotations

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, command

__all__ = ["doctor"]

_MARKS = {"ok": "✓", "missing": "–", "problem": "✗"}


@command
def doctor(as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Show what this machine has, which engines can run on it, and what to install for the others.

    The exit code is 0 unless nothing can run.
    """
    speaker = Speaker(as_json, quiet)
    found = molre_edge.diagnose()
    table = Table(title=f"This machine: {found.machine}", title_justify="left")
    for heading in ("", "what", "found"):
        table.add_column(heading, overflow="fold")
    for part in found.parts:
        table.add_row(_MARKS[part.state], part.name, part.found)
    speaker.show(table)
    lacking = [part for part in found.parts if part.state != "ok"]
    for part in lacking:
        speaker.say(f"{_MARKS[part.state]} {part.name}: {part.found}. Needed for: {part.needed_for or 'nothing else'}")
        if part.install:
            speaker.say(f"    {part.install}")
    for runtime, reason in found.can_run.items():
        told = "can run here" if reason is None else f"can't run here: {reason}"
        speaker.say(f"{_MARKS['ok'] if reason is None else _MARKS['missing']} {runtime} {told}")
    if not found.anything_runs:
        speaker.complain("nothing can run here; install ONNX Runtime: pip install 'onnxruntime>=1.23'")
    speaker.result(found.to_dict())
    if found.exit_code:
        raise typer.Exit(found.exit_code)
