"""How a verb reports its progress: one protocol for the command line, a node, a cluster and the tests.

Standard library only. A verb never prints: it calls these methods, and its caller decides what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["SILENT", "Progress", "Silent", "counter"]


class Progress(Protocol):
    """Receives progress events. Any method may be a no-op; none of them may raise."""

    def step(self, name: str) -> None:
        """A step begins, such as ``loading`` or ``golden answers``. It ends when the next one begins."""

    def info(self, text: str) -> None:
        """A fact for people, one sentence: which engine was chosen and why, or how long a step is expected to take."""

    def warn(self, text: str) -> None:
        """Something that must not be missed, one sentence: an unusable scan, an image of a patient in a bundle."""

    def count(self, done: int, total: int | None, unit: str) -> None:
        """`done` of `total` items are finished.

        Args:
            done: items finished so far, those of an earlier start included.
            total: all items; None while it is unknown.
            unit: what is counted, in the plural, such as ``scans`` or ``layers``.
        """

    def stopping(self) -> None:
        """A signal asked to stop after the item in hand. Called in the signal's handler, so it must take no lock."""


class Silent:
    """Ignores every event."""

    def step(self, name: str) -> None:
        """Ignore it."""

    def info(self, text: str) -> None:
        """Ignore it."""

    def warn(self, text: str) -> None:
        """Ignore it."""

    def count(self, done: int, total: int | None, unit: str) -> None:
        """Ignore it."""

    def stopping(self) -> None:
        """Ignore it."""


SILENT: Progress = Silent()
"""The default of every verb."""


def counter(progress: Progress, total: int, unit: str) -> Callable[[], None]:
    """A function to call after each item: it reports how many of `total` items are finished."""
    done = 0

    def one() -> None:
        nonlocal done
        done += 1
        progress.count(done, total, unit)

    return one
