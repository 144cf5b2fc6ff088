"""A signal in the middle of a scan: the first lets the scan be finished, the second stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["finish_first"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, a service that is stopped, a terminal that is closed. Windows has no SIGHUP."""


@contextlib.contextmanager
def finish_first(told: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Within the block, the first signal only notes that an end is wanted; the second stops at once.

    Only signals that would raise KeyboardInterrupt are caught: Ctrl-C by default, and those that the program lets raise
    it. Outside of the main thread, and for signals that somebody else handles, nothing changes.

    Args:
        told: called at the first signal, in its handler: it must take no lock.

    Yields:
        Whether an end is wanted.
    """
    asked = False
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    caught = [number for number in numbers if signal.getsignal(number) is signal.default_int_handler]

    def first(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        for each in caught:  # whatever comes next stops at once: Ctrl-C by its exception, the others by the system
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
        told()

    for number in caught:
        signal.signal(number, first)
    try:
        yield lambda: asked
    finally:
        for number in caught:
            signal.signal(number, signal.default_int_handler)
