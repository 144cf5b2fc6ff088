"""Shared by the training commands: progress and common options."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from molre_edge.cli.shell import Speaker, UsageError

__all__ = ["DeviceOption", "TrainBar", "choose_device", "parse_size", "split_names"]

DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:N. Default: a GPU if there is one.")
]


def choose_device(name: str | None) -> str:
    """Return PyTorch's name of the requested device; by default a GPU if there is one."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda"} or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"--device {name}: expected cpu, cuda or cuda:N")
    if kind == "cuda" and not (torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count()):
        raise UsageError(f"--device {name}: PyTorch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return name


def split_names(option: str, text: str) -> list[str]:
    """Words between commas."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"{option} {text}: expected names separated by commas")
    return names


def parse_size(option: str, text: str) -> tuple[int, int, int]:
    """``32x224x224``."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise UsageError(f"{option} {text}: expected SLICESxROWSxCOLS, such as 32x224x224")
    return int(parts[0]), int(parts[1]), int(parts[2])


class TrainBar:
    """Shows a progress bar on a terminal; elsewhere one line per step and epoch."""

    def __init__(self, speaker: Speaker) -> None:
        """Print through `speaker`."""
        self._speaker = speaker
        self._bar = speaker.counter()
        self._task = self._bar.add_task("", total=None, visible=False)

    def __enter__(self) -> TrainBar:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._bar.stop()

    def step(self, name: str, total: int) -> None:
        """A step with `total` parts starts."""
        self._bar.reset(self._task, description=name, total=total, visible=True)
        if not self._speaker.err.is_terminal:
            self._speaker.tell(f"- {name}: {total}")

    def part(self) -> None:
        """One part of the step is done."""
        self._bar.advance(self._task)

    def problem(self, name: str, reason: str) -> None:
        """A scan can't be used."""
        self._speaker.warn(f"{name} can't be used: {reason}")

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done."""
        self._bar.advance(self._task)
        self._speaker.tell(
            f"  epoch {row['epoch']:.0f}: loss {row['train_loss']:.4f}, validation loss {row['val_loss']:.4f}, "
            f"AUC {'–' if math.isnan(row['val_auc']) else format(row['val_auc'], '.3f')} ({row['seconds']:.1f} s)"
        )
