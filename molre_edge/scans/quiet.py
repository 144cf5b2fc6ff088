"""Keeps the imaging libraries' warnings and log lines off the user's screen: they name tags, values and paths."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

__all__ = ["quietly"]

_LOCK = threading.RLock()  # the warning filters are one per process
_LOGGERS = ("pydicom", "nibabel", "nibabel.global", "pylibjpeg", "openjpeg")


@contextlib.contextmanager
def quietly() -> Iterator[list[warnings.WarningMessage]]:
    """Capture Python warnings, and silence the log of pydicom and nibabel, while the block runs.

    Yields:
        The list that gathers the warnings. Their texts may hold values from the header: never show them.
    """
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loggers = [logging.getLogger(name) for name in _LOGGERS]
        before = [logger.disabled for logger in loggers]
        for logger in loggers:
            logger.disabled = True
        try:
            yield caught
        finally:
            for logger, disabled in zip(loggers, before, strict=True):
                logger.disabled = disabled
