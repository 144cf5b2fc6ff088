"""Writes docs/reference/commands.md from the help of the program; a test compares the two.

python .ci/commands_page.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from molre_edge.cli import app
from molre_edge.cli.commands import COMMANDS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "commands.md"
HEAD = """# Commands

Generated from the program's help by `.ci/commands_page.py`: what `molre-edge COMMAND --help` shows. Every command exits
with the codes of [exit codes](exit-codes.md). `molre-edge --install-completion` adds completion to your shell.

| command | what it does |
| --- | --- |
"""


def text(words: str) -> str:
    """Words of the help as Markdown: nothing in them is a tag, emphasis or the end of a cell."""
    return re.sub(r"([<*|])", r"\\\1", " ".join(words.split()))


def row(name: str, words: str) -> str:
    """One row of a table; the name is code, in which only the end of a cell needs care."""
    code = name.replace("|", r"\|")
    return f"| `{code}` | {text(words)} |\n"


def section(name: str, command: Any) -> str:
    """One command: its help, how it is called, its arguments and options, and the examples."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = command.get_usage(context).removeprefix("Usage: ")
    first, *others = (text(part) for part in command.help.split("\n\n"))
    records = [param.get_help_record(context) for param in command.params]
    rows = "".join(row(*record) for record in records if record)
    examples = "\n".join(COMMANDS[name].examples)
    paragraphs = "".join(f"{wrapped(part)}\n\n" for part in (first, *others))
    table = f"| argument or option | what it does |\n| --- | --- |\n{rows}\n"
    return f"\n## {name}\n\n{paragraphs}`molre-edge {usage}`\n\n{table}```sh\n{examples}\n```\n"


def wrapped(words: str, width: int = 120) -> str:
    """Lines of at most so many characters."""
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    program: Any = get_command(app)
    context = typer.Context(program)
    summary = "".join(f"| [`{name}`](#{name}) | {text(entry.summary)} |\n" for name, entry in COMMANDS.items())
    return HEAD + summary + "".join(section(name, program.get_command(context, name)) for name in COMMANDS)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
