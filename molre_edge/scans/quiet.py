"""Keeps the imaging libraries' warnings and log lines off the user's screen: they name tags, values and paths."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator

__all__ = ["quietly", "stderr_of_libraries"]

_LOCK = threading.RLock()  # the warning filters are one per process
_LOGGERS = tuple(map(logging.getLogger, ("pydicom", "nibabel", "nibabel.global", "pylibjpeg", "openjpeg")))


@contextlib.contextmanager
def quietly() -> Iterator[list[warnings.WarningMessage]]:
    """Capture Python warnings, and silence the log of pydicom and nibabel, while the block runs.

    Yields:
        The list that gathers the warnings. Their texts may hold values from the header: never show them.
    """
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = [logger.disabled for logger in _LOGGERS]
        for logger in _LOGGERS:
            logger.disabled = True
        try:
            yield caught
        finally:
            for logger, disabled in zip(_LOGGERS, before, strict=True):
                logger.disabled = disabled


@contextlib.contextmanager
def stderr_of_libraries() -> Iterator[list[str]]:
    """Capture what C code writes to the process's stderr while the block runs.

    GDCM's JPEG decoder tells of damaged data only there, and goes on with made-up pixels.

    Yields:
        A list that holds the text once the block has ended; empty when nothing was written.
    """
    said: list[str] = []
    with _LOCK, contextlib.ExitStack() as stack:
        try:
            real = os.dup(2)
        except OSError:  # no stderr at all
            yield said
            return
        stack.callback(os.close, real)
        file = stack.enter_context(tempfile.TemporaryFile())
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(real, 2)
            file.seek(0)
            if text := file.read().decode(errors="replace"):
                said.append(text)
