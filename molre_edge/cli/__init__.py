"""The command line: one file per command. The only place that prints or wires stages together."""

from molre_edge.cli.app import app, main

__all__ = ["app", "main"]
