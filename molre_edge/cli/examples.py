"""Examples at the end of each command's help."""

from __future__ import annotations

__all__ = ["HEADING", "example"]

HEADING = "For example:"


def example(*lines: str) -> str:
    """The end of a command's help: ``app.command(epilog=example("molre-edge infer scans"))``.

    Args:
        lines: command lines, each as it is typed; a test parses them.
    """
    return "\n\n".join([HEADING, *(line.replace("[", r"\[") for line in lines)])
