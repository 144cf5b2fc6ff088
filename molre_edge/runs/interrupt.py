"""Ctrl-C in the middle of a scan: the first lets it be finished, the second stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["finish_first"]


@contextlib.contextmanager
def finish_first(told: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Within the block, the first Ctrl-C only notes that an end is wanted; after it, Ctrl-C is what it was before.

    Where Ctrl-C can't be caught (outside of the main thread, or where somebody else handles it), nothing changes.

    Args:
        told: called at the first, in the signal's handler: it must wait for no lock.

    Yields:
        Whether an end is wanted.
    """
    asked = False
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield lambda: False
        return

    def first(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)
        told()

    signal.signal(signal.SIGINT, first)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
