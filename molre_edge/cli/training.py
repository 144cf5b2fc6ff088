"""Options that the commands around training read alike."""

from __future__ import annotations

from typing import Annotated

import typer

from molre_edge.errors import UsageError

__all__ = ["DeviceOption", "parse_size", "split_names"]

DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:N. Default: a GPU if there is one.")
]


def split_names(option: str, text: str) -> list[str]:
    """Words between commas.

    Raises:
        UsageError: one of them is empty.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"{option} {text}: expected names separated by commas")
    return names


def parse_size(option: str, text: str) -> tuple[int, int, int]:
    """Slices, rows and cols of a text such as ``32x224x224``.

    Raises:
        UsageError: it is another text.
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise UsageError(f"{option} {text}: expected SLICESxROWSxCOLS, such as 32x224x224")
    return int(parts[0]), int(parts[1]), int(parts[2])
