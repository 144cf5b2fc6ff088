"""The group of commands: each is imported when it is called, so that asking for help costs next to nothing."""

from __future__ import annotations

import random
import re
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command as command_of

from molre_edge.cli.commands import COMMANDS
from molre_edge.cli.examples import example
from molre_edge.machine import startable_threads, usable_cores

__all__ = ["HELP_NAMES", "Program"]

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
_FORMER = {"--gates": "--limits"}
"""Former name of an option -> its present one. This version still takes the former, with a warning."""
_WAITS = (0.1, 0.2, 0.4, 0.8)
"""Seconds, on the average, between attempts to start threads."""
_NOT_THERE = re.compile(r"'(?P<path>.+)' does not exist")


class Program(TyperGroup):
    """Lists the commands without importing them; if a path does not exist, it names the nearest one that does."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now; in the program's own help a stand-in with its name and summary."""
        if cmd_name not in COMMANDS:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name].summary)
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _imported(cmd_name)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name, command and the rest of the words, options by their present names; the nearest for a wrong name."""
        if args and args[0] not in COMMANDS:
            names: dict[str, Any] = dict.fromkeys(COMMANDS)
            self.commands = names  # the library compares the word with them
        elif args and not set(HELP_NAMES["help_option_names"]) & set(args):
            _check_threads()  # before anything is imported for the command
        name, command, rest = super().resolve_command(ctx, args)
        known = {option for each in command.params for option in each.opts} if command is not None else set()
        return name, command, [_renamed(word, known) for word in rest]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The program's own help."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:  # how the library tells of a path; it names commands and options itself
            wrong = _NOT_THERE.search(error.message)
            if wrong:
                from molre_edge.cli.suggest import did_you_mean, nearest_path

                error.message = f"{error.message.rstrip('.')}.{did_you_mean(nearest_path(Path(wrong['path'])))}"
            raise


def _renamed(word: str, known: set[str]) -> str:
    option, equals, value = word.partition("=")
    present = _FORMER.get(option)
    if present not in known or option in known:
        return word
    typer.echo(f"warning: {option} is now called {present}. The next version will not know {option}", err=True)
    return f"{present}{equals}{value}"


def _check_threads() -> None:
    """End where libraries would fail in the midst of their work, or when they are imported, each in another way."""
    cores = usable_cores()
    needed = 4 * cores + 4  # NumPy's, ONNX Runtime's, PyTorch's and SimpleITK's, one a core, and our own
    there = startable_threads(needed)
    for wait in _WAITS:  # other commands, such as shards that start at once, may just be trying the same
        if there >= needed:
            return
        time.sleep(wait * random.uniform(0.5, 1.5))
        there = startable_threads(needed)
    if there < needed:
        typer.echo(
            f"error: only {there} more processes or threads can be started here, and {needed} may be needed on {cores} "
            f"CPU cores: allow this user, service or container more of them (ulimit -u, TasksMax=, --pids-limit), or "
            f"fewer cores (taskset -c 0)",
            err=True,
        )
        raise typer.Exit(1)


def _imported(name: str) -> Any:
    word = name.replace("-", "_")
    function = getattr(import_module(f"molre_edge.cli.{word}"), word)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    alone.command(name, epilog=example(*COMMANDS[name].examples), context_settings=HELP_NAMES)(function)
    return command_of(alone)
